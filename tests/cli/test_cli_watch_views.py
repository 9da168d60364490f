"""What `drift` and `watch` print: lines for people, JSON that the schema knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from msgspec.structs import replace

from reconciler.cli.views.drift import drift_text
from reconciler.cli.views.drift_json import drift_dicts, listening_dict, watch_dict
from reconciler.cli.views.drift_markdown import drift_markdown
from reconciler.cli.views.style import PLAIN
from reconciler.cli.views.watching import WatchLines
from reconciler.core.applied import NOT_APPLIED
from reconciler.core.succession import RECORDED_ONLY
from reconciler.model.desired import Address
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.drift import Cause, Drift
from reconciler.model.lifecycle import DriftPolicy
from reconciler.model.plan import Action, FieldChange, Reason
from reconciler.model.position import Position
from reconciler.model.watching import (
    Corrected,
    Incident,
    IncidentClosed,
    IncidentKind,
    IncidentOpened,
    LeadershipChanged,
    Looked,
    Reloaded,
    WatchEvent,
    WatchStarted,
    WatchStopped,
)

SCHEMA = Path(__file__).parents[2] / "schemas" / "event.v1.schema.json"
NOW = 1_795_680_000.0
HERE = Position("sandboxes.yaml", 12, 3)


def drift(address: str, **fields: Any) -> Drift:
    given: dict[str, Any] = {
        "backend": "local", "sandbox_id": f"{address}-id", "reason": Reason.DEAD, "cause": Cause.KILLED,
        "policy": DriftPolicy.CORRECT, "action": Action.REPAIR, "detail": "exit code 137 (SIGKILL)", "at": NOW - 125,
        "cost": "restart ~2s", "position": HERE, **fields,
    }  # fmt: skip
    return Drift(address=Address(address), **given)


EDITED = drift(
    "db", reason=Reason.DRIFTED, cause=Cause.EDITED, action=Action.UPDATE, detail="", at=None, cost="",
    changes=(FieldChange(path="resources.memory", before=2**30, after=2**29, outside=True),),
    policy=DriftPolicy.REPORT,
)  # fmt: skip
SECRET = drift(
    "key", reason=Reason.DRIFTED, cause=Cause.EDITED, action=None, why_not="it is protected, and would have to be replaced",
    changes=(FieldChange(path="secrets.TOKEN", before="hmac:aaaa", after="hmac:bbbb", outside=True, sensitive=True),),
)  # fmt: skip
FOUND = (drift("web[0]"), drift("web[1]"), EDITED, SECRET)
INCIDENT = Incident(
    kind=IncidentKind.DRIFT,
    subject="web[0]",
    summary="web[0]: it was killed",
    at=NOW,
    cause=Cause.KILLED,
    fix="look",
)
PROBLEM = Diagnostic(severity=Severity.ERROR, code="x", summary="it is wrong", position=HERE)
EVENTS: tuple[WatchEvent, ...] = (
    WatchStarted(at=NOW, stack="research", interval=30.0, backends={"local": True, "far": False}),
    Looked(at=NOW, seconds=0.1, desired=4, observed=4, ready=3, drifted=1, failures={"far": "no answer"}),
    IncidentOpened(incident=INCIDENT),
    Corrected(
        at=NOW, address=Address("web[0]"), backend="local", sandbox_id="web-0", action=Action.REPAIR, reason="dead",
        cause=Cause.KILLED, seconds=1.25, took=1.0, error="it ended again", attempt=2, retry_in=4.0,
    ),
    Corrected(
        at=NOW, address=Address("web[0]"), backend="local", sandbox_id="web-0", action=Action.REPAIR, reason="dead",
        cause=Cause.KILLED, seconds=6.25, took=1.0, attempt=3,
    ),
    IncidentClosed(incident=INCIDENT, at=NOW + 6, how="put back"),
    Reloaded(at=NOW, problems=(PROBLEM,)),
    Reloaded(at=NOW, summary="4 sandboxes are declared"),
    LeadershipChanged(at=NOW, leads=False, leader="ann@there (pid 7, watch)"),
    LeadershipChanged(at=NOW, leads=True, leader="ann@here (pid 8, watch)"),
    LeadershipChanged(at=NOW, leads=False, why="not renewed\x1b"),
    WatchStopped(at=NOW, why="asked to stop"),
)  # fmt: skip


def text(found: tuple[Drift, ...], *, width: int = 100, **fields: Any) -> str:
    given = {"stack": "research", "fleet": 6, "pending": {}, "failures": {}, "now": NOW, **fields}
    return drift_text(found, width=width, style=PLAIN, **given)


class TestReport:
    def test_what_drifted_alike_is_told_together_with_cause_fields_and_what_is_done(self) -> None:
        assert text(FOUND, width=110).splitlines() == [
            "Stack research: 4 of 6 sandboxes drifted",
            "",
            "~ db  local",
            "      somebody changed it",
            "      resources.memory  512Mi → 1Gi",
            "      reported only (`drift: report`); an apply would have it changed back in place  sandboxes.yaml:12",
            "",
            "? key  local",
            "      somebody changed it: exit code 137 (SIGKILL), 2m05s ago",
            "      secrets.TOKEN  ••• → •••",
            "      it is protected, and would have to be replaced  sandboxes.yaml:12",
            "",
            "! web[0..1] (2×)  local",
            "      it was killed: exit code 137 (SIGKILL), 2m05s ago",
            "      to be repaired, restart ~2s  sandboxes.yaml:12",
        ]

    @pytest.mark.parametrize("width", [40, 60, 80, 200])
    def test_it_fits(self, width: int) -> None:
        told = text(FOUND, width=width, pending={Address(f"web[{n}]"): "image changed" for n in range(9)})
        assert max(map(len, told.splitlines())) <= width

    def test_what_waits_for_another_says_for_which_and_promises_nothing(self) -> None:
        told = text((drift("near", waits_for=Address("db")), drift("web")))
        assert "to be repaired; it waits for db, which it needs and which is not put back" in told
        assert "to be repaired, restart ~2s" in told

    @pytest.mark.parametrize(
        ("cost", "then"),
        [
            pytest.param("in place, no restart", "to be changed back in place, no restart", id="in place is said once"),
            pytest.param(RECORDED_ONLY, f"to be {RECORDED_ONLY}", id="what is only recorded is not changed back"),
        ],
    )  # fmt: skip
    def test_what_is_done_and_what_it_costs_make_one_sentence(self, cost: str, then: str) -> None:
        changed = drift("db", reason=Reason.DRIFTED, action=Action.UPDATE, cost=cost)
        assert f"      {then}  sandboxes.yaml:12" in text((changed,), width=200).splitlines()

    def test_nothing_drifted(self) -> None:
        assert text(()) == "Stack research. No drift: all 6 are as last applied.\n"
        assert "Nothing was applied yet" in text((), fleet=0)
        assert "Nothing was applied yet" in text((), fleet=0, pending={Address("a"): NOT_APPLIED})

    def test_what_is_recorded_under_another_name_is_not_called_never_applied(self) -> None:
        pending = {Address("new"): NOT_APPLIED, Address("old"): "no longer declared, and not destroyed yet"}
        told = text((), fleet=0, pending=pending)
        assert "Nothing is declared as it was applied, so nothing drifted." in told

    def test_what_could_not_be_seen_is_told_and_not_called_well(self) -> None:
        told = text((), failures={"far": "connection refused"})
        assert "as last applied that can be seen" in told
        assert "backend far cannot be looked at" in told

    def test_escapes_of_others_do_not_reach_the_terminal(self) -> None:
        assert "\x1b" not in text((drift("web", detail="\x1b[31mred"),), failures={"far": "\x1b[2J"})

    def test_markdown_holds_the_same(self) -> None:
        told = drift_markdown(FOUND, stack="research", fleet=6, pending={}, failures={}, now=NOW)
        assert told.startswith("<!-- reconciler drift research -->\n")
        assert "- `web[0..1] (2×)`: `it was killed: exit code 137 (SIGKILL), 2m05s ago`" in told
        assert "hmac" not in told

    def test_markdown_of_a_whole_fleet_stays_under_the_limit(self) -> None:
        many = tuple(drift(f"web-{n}", detail=f"exit code {n}") for n in range(3000))
        told = drift_markdown(many, stack="research", fleet=3000, pending={}, failures={}, now=NOW)
        assert len(told) < 60_000
        assert "more groups of drifted sandboxes" in told


class TestJson:
    def test_every_line_is_valid_by_the_schema(self) -> None:
        validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text(encoding="utf-8")))
        told = [
            *drift_dicts(
                FOUND, stack="research", fleet=6, pending={Address("a"): "new"}, failures={"far": "x"}
            ),
            listening_dict("127.0.0.1:9464", NOW),
            *map(watch_dict, EVENTS),
        ]
        for line in told:
            validator.validate(line)
        assert {line["type"] for line in told} == {
            "drift", "drift_summary", "watch_listening", "watch_started", "look", "correction", "incident_opened", "incident_closed",
            "reloaded", "leadership", "watch_stopped",
        }  # fmt: skip

    def test_every_cause_is_known_to_the_schema(self) -> None:
        assert set(json.loads(SCHEMA.read_text())["$defs"]["cause"]["enum"]) == set(Cause)


class TestLines:
    def told(self, *events: WatchEvent, **how: Any) -> list[str]:
        lines: list[str] = []
        view = WatchLines(lines.append, PLAIN, **how)
        for event in events:
            view(event)
        return lines

    def test_an_event_is_a_line_that_begins_with_the_time(self) -> None:
        assert self.told(*EVENTS) == [
            "2026-11-26T08:00:00Z  watching stack research: a look every 30s, and at once when local tells of something",
            "2026-11-26T08:00:00Z  3 of 4 ready, 1 drifted, far not seen",
            "2026-11-26T08:00:00Z  ! web[0]: it was killed",
            "                        look",
            "2026-11-26T08:00:00Z  web[0]: repair failed: it ended again; again in 4s",
            "2026-11-26T08:00:00Z  web[0]: repaired after 6.2s, attempt 3",
            "2026-11-26T08:00:06Z  ✓ web[0] is well again after 6.0s: put back",
            "2026-11-26T08:00:00Z  the configuration was read again: 4 sandboxes are declared",
            "2026-11-26T08:00:00Z  stands by, ann@there (pid 7, watch) leads",
            "2026-11-26T08:00:00Z  leads: it looks and acts from now on",
            "2026-11-26T08:00:00Z  stands by, nobody is known to lead: not renewed\\x1b",
            "2026-11-26T08:00:00Z  stopped: asked to stop",
        ]

    def test_on_a_terminal_it_is_broken_to_its_width_below_where_it_began(self) -> None:
        why = "web[0]: it was killed (exit code 137 (SIGKILL); when memory ran out the kernel does so too)"
        wide = IncidentOpened(
            incident=replace(INCIDENT, summary=why, fix="look at `reconciler logs web[0]`, and mend it")
        )
        assert self.told(wide, width=80) == [
            "2026-11-26T08:00:00Z  ! web[0]: it was killed (exit code 137 (SIGKILL); when",
            "                        memory ran out the kernel does so too)",
            "                        look at `reconciler logs web[0]`, and mend it",
        ]
        assert max(len(line) for line in self.told(*EVENTS, width=60)) <= 60
        assert len(self.told(wide)) == 2, "elsewhere an event is a line"

    @pytest.mark.parametrize(
        ("kind", "subject", "about"),
        [
            (IncidentKind.DRIFT, "web[0]", "web[0]"),
            (IncidentKind.BACKEND, "local", "backend local"),
            (IncidentKind.CONFIGURATION, "", "the configuration"),
            (IncidentKind.STORE, "", "the state's store"),
            (IncidentKind.FLEET, "", "the fleet"),
        ],
    )
    def test_what_is_well_again_is_named(self, kind: IncidentKind, subject: str, about: str) -> None:
        over = IncidentClosed(incident=replace(INCIDENT, kind=kind, subject=subject), at=NOW + 6)
        assert self.told(over) == [f"2026-11-26T08:00:06Z  ✓ {about} is well again after 6.0s"]

    def test_one_look_promises_no_other(self) -> None:
        once = WatchStarted(at=NOW, stack="research", interval=0.0, backends={"local": False})
        assert self.told(once) == ["2026-11-26T08:00:00Z  one look at stack research"]

    def test_a_look_that_shows_nothing_new_is_not_told_again_unless_asked(self) -> None:
        assert len(self.told(EVENTS[1], EVENTS[1])) == 1
        assert len(self.told(EVENTS[1], EVENTS[1], all_looks=True)) == 2

    def test_a_configuration_that_still_cannot_be_used_is_told_to_who_asks_again(self) -> None:
        refused = Reloaded(at=NOW, problems=(PROBLEM,))
        again = [
            "2026-11-26T08:00:00Z  ! the configuration was read again, and still cannot be used",
            "                        sandboxes.yaml:12: it is wrong",
        ]
        assert self.told(refused) == [], "it is an incident, which is told"
        assert self.told(refused, refused) == self.told(refused, refused, quiet=True) == again
        assert len(self.told(refused, Reloaded(at=NOW, summary="x"), refused)) == 1

    def test_quiet_tells_only_what_is_wrong_and_over(self) -> None:
        assert [line[22:23] for line in self.told(*EVENTS, quiet=True) if line[0] != " "] == [
            "!",
            "w",
            "w",
            "✓",
        ]
