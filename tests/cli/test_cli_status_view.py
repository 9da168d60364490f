"""The status table, at both widths, and the explanation of one sandbox."""

from __future__ import annotations

import json
import re

import pytest
from cli_models import change
from msgspec.structs import replace

from reconciler.cli.views.explanation import explanation_dict, explanation_text
from reconciler.cli.views.status import status_dict, status_text
from reconciler.cli.views.style import PLAIN, Style, cells
from reconciler.engine.explain import Explanation, Section
from reconciler.engine.inspect import StatusRow
from reconciler.model.desired import Address
from reconciler.model.observed import Phase


def row(address: str, phase: Phase | None = Phase.READY, **more) -> StatusRow:
    live = (
        {"ready": True, "url": "http://127.0.0.1:49152", "age": 7500.0}
        if phase
        else {"ready": None, "url": "", "age": None}
    )
    values = {"backend": "local", "drift": (), "detail": "", "sandbox_id": "research-a", **live, **more}
    return StatusRow(address=Address(address), phase=phase, **values)


def rows() -> list[StatusRow]:
    memory = change("resources.memory", 536870912, 1073741824, outside=True)
    token = change("secrets.KEY", "digest-one", "digest-two", outside=True, sensitive=True)
    return [
        row("researcher[10]"),
        row("researcher[2]", drift=(memory, token)),
        row("db", Phase.UNREADY, ready=False, age=12.0, detail="connection refused"),
        row('region["eu"]', Phase.FAILED, ready=None, backend="cluster", detail="exit code 137 \x1b[2J"),
        row("gone", None, detail="declared, not there yet"),
    ]


def measured() -> list[StatusRow]:
    """The same fleet on a backend that tells what each takes, except where nothing runs or nobody knows."""
    taken = {
        "researcher[10]": (0.0, 31 * 2**20),
        "researcher[2]": (1.9, int(1.26 * 2**30)),
        "db": (None, 2000),
    }
    made = []
    for one in rows():
        cpu, memory = taken.get(one.address, (None, None))
        made.append(replace(one, cpu=cpu, memory=memory))
    return made


@pytest.mark.parametrize("width", [140, 80, 60])
def test_the_table_reads_as_the_golden_file(width, golden):
    shown = status_text(measured(), width=width, style=PLAIN)
    golden(f"status-{width}.txt", shown)
    assert max(map(cells, shown.splitlines())) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 140])
def test_a_column_goes_only_after_all_that_matter_less(width):
    head, *rest = status_text(measured(), width=width, style=PLAIN).splitlines()
    order = ("ADDRESS", "PHASE", "READY", "URL", "DRIFT", "AGE", "CPU", "MEM", "BACKEND", "DETAIL")
    there = [title in head.split() for title in order]
    assert there == sorted(there, reverse=True)
    assert there[0]
    assert "connection refused" in " ".join(rest)


def test_nobody_who_cannot_measure_sees_columns_for_it():
    head = status_text(rows(), width=140, style=PLAIN).splitlines()[0]
    assert not {"CPU", "MEM"} & set(head.split())


def test_colour_changes_no_column():
    for width in (60, 80, 140):
        painted = status_text(measured(), width=width, style=Style(colour=True))
        assert re.sub(r"\x1b\[[0-9;]*m", "", painted) == status_text(measured(), width=width, style=PLAIN)
        assert "\x1b[" in painted


def test_details_of_a_big_broken_fleet_do_not_push_the_table_away():
    many = [row(f"r[{n}]", Phase.FAILED, ready=None, detail=f"exit code {n}") for n in range(50)]
    shown = status_text(many, width=60, style=PLAIN)
    assert "… and 38 more" in shown
    assert len(shown.splitlines()) < 70


def test_sandboxes_are_sorted_by_name_then_number():
    shown = status_text(rows(), width=140, style=PLAIN)
    assert shown.index("researcher[2]") < shown.index("researcher[10]")


def test_an_empty_fleet_is_a_sentence():
    assert status_text([], width=60, style=PLAIN) == "No sandboxes: none is declared, and none is live.\n"


def test_the_object_for_programs_has_everything_and_no_secret():
    data = status_dict("research", rows())
    assert data["sandboxes"][0]["address"] == "db"
    assert [one["phase"] for one in data["sandboxes"]].count("absent") == 1
    (drifted,) = [one for one in data["sandboxes"] if one["drift"]]
    assert [(c["path"], c["before"]) for c in drifted["drift"]] == [
        ("resources.memory", 536870912),
        ("secrets.KEY", None),
    ]
    assert "digest" not in json.dumps(data)
    assert {(one["cpu_cores"], one["memory_bytes"]) for one in data["sandboxes"]} == {(None, None)}


def test_the_object_for_programs_has_cores_and_bytes():
    (one,) = [one for one in status_dict("research", measured())["sandboxes"] if one["cpu_cores"]]
    assert (one["address"], one["cpu_cores"], one["memory_bytes"]) == (
        "researcher[2]",
        1.9,
        int(1.26 * 2**30),
    )


def explanation() -> Explanation:
    return Explanation(
        address=Address("a"),
        action="update",
        reason="config_changed",
        sections=(
            Section(title="declared", lines=("sandboxes.yaml:4 as 'a'", "image = " + "x" * 60 + "\x1b[2J")),
            Section(title="next apply", lines=("~ update: the configuration changed", "  cost: none")),
        ),
    )


def test_an_explanation_is_one_block_per_section_and_fits():
    shown = explanation_text(explanation(), width=50, style=PLAIN)
    assert shown.splitlines()[:4] == ["a", "", "declared", "  sandboxes.yaml:4 as 'a'"]
    assert shown.splitlines()[-2:] == ["  ~ update: the configuration changed", "    cost: none"]
    assert max(map(cells, shown.splitlines())) <= 50
    assert "\x1b" not in shown


def test_an_explanation_for_programs_has_null_where_nothing_is_to_do():
    calm = Explanation(address=Address("a"), action="", reason="", sections=())
    assert explanation_dict(calm) == {
        "type": "why",
        "address": "a",
        "action": None,
        "reason": None,
        "sections": [],
    }
    assert explanation_dict(explanation())["action"] == "update"


def test_what_expires_is_told_where_nothing_else_is() -> None:
    shown = status_text(
        [row("a", expires=840.0), row("b", expires=9.0, detail="odd")], width=140, style=PLAIN
    )
    assert "expires in 14m" in shown
    assert "expires in 9s" not in shown
    [first, second] = status_dict("s", [row("a", expires=840.0), row("b")])["sandboxes"]
    assert (first["expires_in"], second["expires_in"]) == (840.0, None)
