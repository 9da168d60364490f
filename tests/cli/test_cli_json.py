"""What `--json` prints, held against the schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema_rs
import pytest
from cli_models import (
    at,
    broken,
    change,
    info,
    mixed_plan,
    plan,
    refused_plan,
    result,
    rollout_plan,
    step,
)

from reconciler import __version__
from reconciler.cli.views.json import JsonLines, event_dicts
from reconciler.cli.views.planned import plan_dicts
from reconciler.model.desired import Address
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.event import (
    Activity,
    ApplyEnded,
    Event,
    Planned,
    Remark,
    StepEnded,
    StepProgress,
    StepStarted,
)
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Action, Reason

SCHEMA = Path(__file__).parents[2] / "schemas" / "event.v1.schema.json"


@pytest.fixture(scope="module")
def valid():
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text(encoding="utf-8")))

    def check(data: dict) -> None:
        validator.validate(data)

    return check


def remark() -> Diagnostic:
    return Diagnostic(
        severity=Severity.WARNING,
        code="lock-wait",
        summary="waiting for the lock",
        position=at(3),
        snippet="  x: y",
        related=(("first declared here", at(1)),),
    )


def stream() -> list[Event]:
    address = Address("db")
    failed = result("db", StepStatus.FAILED, action="replace", error="no answer", log_tail=("a", "\x1b[2J"))
    outcomes = (failed, result("scout[0]", StepStatus.NOT_STARTED), result("old", action="destroy"))
    return [
        Remark(diagnostic=remark()),
        Planned(plan=mixed_plan()),
        StepStarted(address=address, action=Action.REPLACE, key="db"),
        StepProgress(
            address=address,
            action=Action.REPLACE,
            key="db",
            activity=Activity.WAITING,
            elapsed=0.25,
            note="x",
        ),
        *(StepEnded(result=outcome, key=outcome.address) for outcome in outcomes),
        ApplyEnded(
            results=outcomes, outputs=(("url", "http://x"), ("key", "•••")), seconds=61.25, interrupted=True
        ),
    ]


def written(events: list[Event]) -> list[dict]:
    lines: list[str] = []
    view = JsonLines(lines.append, operation="apply")
    for event in events:
        view(event)
    return [json.loads(line) for line in lines]


def test_every_line_of_a_run_is_valid_by_the_schema(valid):
    for data in written(stream()):
        valid(data)


def test_the_stream_reads_as_the_golden_file(golden):
    lines: list[str] = []
    view = JsonLines(lines.append, operation="apply")
    for event in stream():
        view(event)
    golden("events.ndjson", "\n".join(lines).replace(__version__, "VERSION") + "\n")


def test_the_version_comes_first_and_once():
    types = [data["type"] for data in written(stream())]
    assert types[0] == "version"
    assert types.count("version") == 1


def test_a_stream_without_events_still_says_its_version():
    lines: list[str] = []
    view = JsonLines(lines.append, operation="validate")
    view.begin()
    view.begin()
    assert [json.loads(line)["format"] for line in lines] == ["1.0"]


def test_a_plan_is_its_changes_then_drift_then_the_summary():
    types = [data["type"] for data in plan_dicts(mixed_plan(), operation="plan")]
    assert types == ["planned_change"] * 15 + ["drift"] * 2 + ["change_summary"]


def test_the_same_plan_gives_the_same_lines():
    assert list(plan_dicts(mixed_plan(), operation="plan")) == list(
        plan_dicts(mixed_plan(), operation="plan")
    )


def test_a_sensitive_change_has_no_values():
    text = json.dumps(list(plan_dicts(mixed_plan(), operation="plan")))
    assert "digest-one" not in text
    assert '"sensitive": true' in text


def test_field_changes_carry_values_and_yaml_positions():
    made = plan(
        step("db", Action.REPLACE, Reason.CONFIG_CHANGED, changes=(change("pids", 1, 2.5, position=at(9)),))
    )
    (found,) = next(plan_dicts(made, operation="plan"))["changes"]
    assert (found["before"], found["after"]) == (1, 2.5)
    assert found["position"] == {"file": "sandboxes.yaml", "line": 9, "column": 5}


def test_the_summary_after_an_apply_counts_results_and_says_it_was_interrupted():
    last = [data for data in written(stream()) if data["type"] == "change_summary"][-1]
    assert last["results"] == {
        "done": 1,
        "failed": 1,
        "skipped": 0,
        "stale": 0,
        "interrupted": 0,
        "not_started": 1,
    }
    assert last["interrupted"] is True
    assert last["elapsed"] == 61.25


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (result("a", info=info("a", 7)), ("research-a", "http://127.0.0.1:7")),
        (result("a", action="destroy"), (None, None)),
    ],
    ids=["live afterwards", "gone afterwards"],
)
def test_a_finished_step_says_what_is_there_now(outcome, expected):
    (data,) = event_dicts(StepEnded(result=outcome, key="a"), operation="apply")
    assert (data["sandbox_id"], data["sandbox_url"]) == expected


def test_lines_are_ascii_whatever_the_values_hold():
    lines: list[str] = []
    JsonLines(lines.append, operation="plan")(
        Planned(plan=plan(step("a", Action.DESTROY, Reason.REMOVED, detail="\x1b[2J\u202e宽\n")))
    )
    assert all(line.isascii() and line.isprintable() for line in lines)


@pytest.mark.parametrize("made", [rollout_plan(), refused_plan()], ids=["rollout", "refused"])
def test_every_line_about_what_a_plan_holds_beside_its_steps_is_valid_by_the_schema(made, valid):
    for data in written([Planned(plan=made)]):
        valid(data)


def test_moves_rollouts_expiries_and_refusals_are_events_of_their_own_before_the_summary():
    types = [data["type"] for data in plan_dicts(rollout_plan(), operation="plan")]
    assert types == [
        *["planned_change"] * 15,
        *["drift"] * 2,
        *["moved"] * 4,
        "rollout",
        *["expiring"] * 9,
        "change_summary",
    ]
    assert [data["type"] for data in plan_dicts(refused_plan(), operation="plan")][-3:] == [
        "refusal",
        "refusal",
        "change_summary",
    ]


def of_type(made, kind: str) -> list[dict]:
    return [data for data in plan_dicts(made, operation="plan") if data["type"] == kind]


def test_a_step_says_its_wave_and_who_needs_it_and_null_where_there_is_none():
    db, first, *_ = of_type(rollout_plan(), "planned_change")
    assert (db["wave"], db["needed_by"]) == (None, "researcher[0]")
    assert (first["wave"], first["needed_by"]) == (1, None)


def test_a_repair_says_what_it_tries_and_what_it_passed_over():
    made = plan(broken("a", passed_over=("not restarted: it is paused",)), broken("b", protected=True))
    one, other = of_type(made, "planned_change")
    assert (one["rungs"], one["passed_over"]) == (["probe", "restart"], ["not restarted: it is paused"])
    assert (one["protected"], other["protected"]) == (False, True)


def test_a_rollout_holds_the_keys_of_its_steps_wave_by_wave():
    (data,) = of_type(rollout_plan(), "rollout")
    assert data["waves"][:2] == [["researcher[0]"], ["researcher[1]", "researcher[2]"]]
    assert (data["size"], data["at_once"], data["min_healthy"]) == (10, 2, 10.0)
    assert (data["canary"], data["auto_revert"]) == (True, True)


def test_a_move_says_from_where_to_where_and_by_which_line():
    first = of_type(rollout_plan(), "moved")[0]
    position = {"file": "sandboxes.yaml", "line": 12, "column": 5}
    assert first == {"type": "moved", "from": "search", "to": "finder", "position": position}


def test_what_expires_comes_soonest_first():
    seconds = [data["seconds"] for data in of_type(rollout_plan(), "expiring")]
    assert seconds == sorted(seconds)
    assert seconds[0] == 850.0


def test_the_summary_says_what_was_asked_for_and_whether_it_may_be_done():
    (data,) = of_type(rollout_plan(), "change_summary")
    assert (data["moved"], data["refused"]) == (4, False)
    assert data["left_out"] == ["proxy", "scouts[0]", "scouts[1]"]
    assert data["selection"]["targets"] == ["researcher", "worker*"]
    (refused,) = of_type(refused_plan(), "change_summary")
    assert refused["refused"] is True


def test_a_refusal_names_what_tripped_and_the_place():
    first = of_type(refused_plan(), "refusal")[0]
    assert (first["code"], first["position"]["line"]) == ("max-destroy", 31)


@pytest.mark.parametrize("status", [StepStatus.DONE, StepStatus.FAILED])
def test_the_end_of_a_repair_says_what_was_tried_before(status, valid):
    tried = ("waited again: not ready after 5s", "restarted: it answers")
    ended = StepEnded(result=result("a", status, action="repair", tried=tried), key="a")
    (data,) = event_dicts(ended, operation="apply")
    valid(data)
    assert data["tried"] == list(tried)
