"""A plan as people read it."""

from __future__ import annotations

import re

import pytest
from cli_models import change, create, declared, mixed_plan, plan, seen, step

from reconciler.cli.views.grouping import blocks, together
from reconciler.cli.views.human import plan_text
from reconciler.cli.views.style import PLAIN, Style, cells
from reconciler.cli.views.summary import summary
from reconciler.model.desired import Address
from reconciler.model.plan import Action, Plan, Reason


def text(made: Plan, width: int = 100) -> str:
    return plan_text(made, width=width, style=PLAIN)


@pytest.mark.parametrize("width", [140, 60])
def test_one_of_everything_reads_as_the_golden_file(width, golden):
    golden(f"plan-{width}.txt", text(mixed_plan(), width))


@pytest.mark.parametrize("width", [40, 41, 60, 79, 80, 100, 140, 200])
def test_no_line_is_wider_than_the_terminal(width):
    long = change("environment.A_NAME_THAT_DOES_NOT_END", "x" * 300, "宽" * 300, forces_replacement=True)
    made = plan(
        *mixed_plan().steps,
        step(
            "y" * 90, Action.UPDATE, Reason.CONFIG_CHANGED, changes=(long,), detail="z" * 200, cost="c " * 99
        ),
    )
    assert max(cells(line) for line in text(made, width).splitlines()) <= width


@pytest.mark.parametrize("made", [mixed_plan()], ids=["one of everything"])
def test_colour_changes_nothing_but_the_colour(made):
    coloured = plan_text(made, width=100, style=Style(colour=True))
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == text(made)


def test_destroys_come_before_everything_else():
    shown = text(mixed_plan())
    assert shown.index("-   legacy") < shown.index("+   scout")


def test_only_the_symbols_in_use_are_explained():
    legend = text(plan(create("a", {})), 140).splitlines()[0]
    assert legend == "  + create"


@pytest.mark.parametrize(
    ("create_first", "legend"),
    [
        pytest.param((True,), "  +/- replace: create, then destroy", id="the new one first"),
        pytest.param((False,), "  -/+ replace: destroy, then create", id="the old one first"),
        pytest.param(
            (True, False),
            "  -/+ replace: destroy, then create  +/- replace: create, then destroy",
            id="one of each",
        ),
    ],
)
def test_both_orders_of_a_replacement_have_a_symbol_and_count_as_replacements(create_first, legend):
    steps = [
        step(f"r[{n}]", Action.REPLACE, Reason.CONFIG_CHANGED, create_first=first)
        for n, first in enumerate(create_first)
    ]
    shown = text(plan(*steps), 140).splitlines()
    assert shown[0] == legend
    assert {line[:3] for line in shown if "r[" in line} == {
        "+/-" if first else "-/+" for first in create_first
    }
    assert shown[-1] == f"Plan: 0 to create, 0 to change, {len(steps)} to replace, 0 to destroy."


def test_replicas_that_change_alike_are_one_block_with_a_count():
    level = change("environment.LEVEL", "info", "debug")
    steps = [step(f"r[{n}]", Action.UPDATE, Reason.CONFIG_CHANGED, changes=(level,)) for n in range(3)]
    assert [block.title for block in blocks(steps)] == ["r[0..2] (3×)"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"changes": (change("image", "a", "b"),)}, {"changes": (change("image", "z", "b"),)}),
        ({"changes": (change("pids", 1, 2),)}, {"changes": (change("pids", True, 2),)}),
        ({"detail": "exit code 1"}, {"detail": "exit code 2"}),
        ({"backend": "one"}, {"backend": "two"}),
        ({"needs": (Address("a"),)}, {}),
        ({"cost": "~1s"}, {"cost": "~2s"}),
    ],
    ids=["the value before", "a value's type", "the detail", "the backend", "what they wait for", "the cost"],
)
def test_replicas_that_differ_in_something_stay_apart(first, second):
    pair = [step(f"r[{n}]", Action.UPDATE, Reason.DEAD, **more) for n, more in enumerate((first, second))]
    assert len(blocks(pair)) == 2


def test_sandboxes_of_different_groups_are_never_one_block():
    assert len(blocks([create("a[0]", {"image": "x"}), create("b[0]", {"image": "x"})])) == 2


def test_new_replicas_are_one_block_though_a_value_counts_them():
    shown = text(plan(*(create(f"r[{n}]", {"environment.INDEX": str(n)}) for n in range(2))))
    assert "r[0..1] (2×)" in shown
    assert '"0" | "1"' in shown


def test_a_leftover_of_a_replacement_is_not_mixed_with_the_live_object():
    live = step("r[0]", Action.DESTROY, Reason.DESTROY_ALL)
    left = step("r[0]", Action.DESTROY, Reason.SUPERSEDED, sandbox_id="research-r0-g1")
    assert len(blocks([left, live])) == 2


@pytest.mark.parametrize(
    ("addresses", "shown"),
    [
        (["a"], "a"),
        (["a[3]"], "a[3]"),
        (["a[0]", "a[1]", "a[2]"], "a[0..2] (3×)"),
        (["a[10]", "a[2]", "a[0]", "a[1]"], "a[0..2,10] (4×)"),
        (['a["us"]', 'a["eu"]'], 'a["eu","us"] (2×)'),
    ],
    ids=["one", "one instance", "a run", "a gap", "keys"],
)
def test_addresses_of_a_group_are_written_together(addresses, shown):
    assert together(addresses) == shown


def test_what_changed_outside_stands_apart_and_before_what_is_to_do():
    drift = change("resources.memory", 536870912, 1073741824, outside=True)
    config = change("image", "a", "b")
    shown = text(plan(step("w", Action.UPDATE, Reason.CONFIG_CHANGED, changes=(config, drift))))
    outside, to_do = shown.split("To do:")
    assert "512Mi live, declared 1Gi" in outside
    assert "image" not in outside
    assert '"a" → "b"' in to_do
    assert "resources.memory" not in to_do
    assert "puts back 1 field changed outside" in to_do


@pytest.mark.parametrize("reason", [Reason.MISSING, Reason.DEAD, Reason.PAUSED])
def test_an_object_that_something_happened_to_is_listed_as_changed_outside(reason):
    shown = text(plan(step("w", Action.REPAIR, reason, desired=declared("w"))))
    assert reason.text in shown.split("To do:")[0]


def test_every_changed_field_names_its_place_and_what_forces_a_replacement():
    shown = text(mixed_plan(), 140)
    (line,) = [line for line in shown.splitlines() if '"aio:1" → "aio:2"' in line]
    assert line.split("  ")[-2:] == ["# forces replacement", "sandboxes.yaml:9"]


def test_a_secret_is_shown_masked_and_its_digest_never():
    shown = text(mixed_plan(), 140)
    assert "••• → •••" in shown
    assert "digest" not in shown


def test_terminal_escapes_in_values_are_written_out():
    evil = "\x1b[2J\x9b31m\u202etxt\x07\r\n"
    made = plan(
        step("w", Action.UPDATE, Reason.DEAD, changes=(change("image", evil, None),), detail=evil, cost=evil),
        step(f"x{evil}", Action.DESTROY, Reason.REMOVED, backend=evil),
    )
    shown = text(made, 140)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)


def test_a_removed_field_says_that_it_is_not_set_any_more():
    made = plan(step("w", Action.UPDATE, Reason.CONFIG_CHANGED, changes=(change("labels.team", "x", None),)))
    assert '"x" → (not set)' in text(made)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (
            plan(create("a", {}), create("b", {})),
            "Plan: 2 to create, 0 to change, 0 to replace, 0 to destroy.",
        ),
        (
            plan(step("a", Action.ADOPT, Reason.FOUND, current=seen("a"))),
            "Plan: 0 to create, 0 to change, 0 to replace, 0 to destroy, 1 to adopt.",
        ),
        (plan(unchanged=(Address("a"),)), "No changes. The sandbox of stack research is as declared."),
        (
            plan(unchanged=(Address("a"), Address("b"))),
            "No changes. All 2 sandboxes of stack research are as declared.",
        ),
        (plan(), "No changes. Stack research declares no sandboxes, and has none."),
        (plan(destroy=True), "Nothing to destroy. Stack research has no sandboxes."),
    ],
    ids=["creates", "adopts", "one as declared", "two as declared", "nothing declared", "nothing to destroy"],
)
def test_the_last_line_sums_up(made, line):
    assert summary(made) == line
    assert text(made).splitlines()[-1] == line


def test_a_thousand_replicas_take_no_more_room_than_two():
    many, few = (
        text(plan(*(create(f"r[{n}]", {"image": "x"}) for n in range(count)))) for count in (1000, 2)
    )
    assert len(many.splitlines()) == len(few.splitlines())


def test_two_long_values_are_shown_where_they_differ():
    same = "x" * 200
    made = plan(
        step("w", Action.UPDATE, Reason.CONFIG_CHANGED, changes=(change("image", same + "1", same + "2"),))
    )
    shown = text(made, 80)
    assert '…xxxxxxxx1"' in shown
    assert '→ …xxxxxxxx2"' in shown
