"""The schemas of state, plan file and event stream: they compile, and they name what the model names."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from reconciler.core.plan_file import encode
from reconciler.core.planner import make_plan
from reconciler.model.diagnostic import Severity
from reconciler.model.drift import Cause
from reconciler.model.event import Activity
from reconciler.model.observed import Observed, Phase
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Action, Reason
from reconciler.model.saved import Inputs, SavedPlan
from reconciler.model.state import Status
from reconciler.model.watching import IncidentKind
from tests.support.build import desired, options, record, seen, state, wanted

FOLDER = Path(__file__).parents[2] / "schemas"
NAMES = ("state", "plan", "event", "audit", "notification")
EVENTS = [
    "version",
    "planned_change",
    "drift",
    "moved",
    "rollout",
    "expiring",
    "refusal",
    "change_summary",
    "apply_start",
    "apply_progress",
    "apply_complete",
    "apply_errored",
    "diagnostic",
    "outputs",
    "drift_summary",
    *(
        WATCH := [
            "watch_started",
            "look",
            "correction",
            "incident_opened",
            "incident_closed",
            "reloaded",
            "leadership",
            "watch_stopped",
        ]
    ),
]


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.v1.schema.json").read_text())
    return found


def every(part: Any) -> list[dict[str, Any]]:
    """Every object within a schema, itself included."""
    if isinstance(part, list):
        return [found for item in part for found in every(item)]
    if not isinstance(part, dict):
        return []
    return [part, *(found for item in part.values() for found in every(item))]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_schema(name: str) -> None:
    jsonschema_rs.meta.validate(schema(name))
    jsonschema_rs.validator_for(schema(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_property_is_described(name: str) -> None:
    """Reference pages are made of the descriptions."""
    found = schema(name)
    for part in every(found):
        properties = part.get("properties")
        if part.get("type") == "object" and isinstance(properties, dict):
            for key, value in properties.items():
                target = found["$defs"].get(value.get("$ref", "").rpartition("/")[2], value)
                known = (
                    "description" in value or "description" in target or "enum" in target or "anyOf" in target
                )
                assert known, key


ENUMS: list[tuple[str, tuple[str, ...], type[StrEnum]]] = [
    ("state", ("$defs", "record", "properties", "status"), Status),
    ("plan", ("$defs", "action"), Action),
    ("plan", ("$defs", "reason"), Reason),
    ("plan", ("$defs", "observed", "properties", "phase"), Phase),
    ("plan", ("$defs", "diagnostic", "properties", "severity"), Severity),
    ("event", ("$defs", "action"), Action),
    ("event", ("$defs", "reason"), Reason),
    ("event", ("$defs", "diagnostic", "properties", "severity"), Severity),
    ("event", ("$defs", "apply_progress", "properties", "activity"), Activity),
    ("audit", ("$defs", "action"), Action),
    ("audit", ("$defs", "cause"), Cause),
    ("audit", ("$defs", "incident", "properties", "kind"), IncidentKind),
    ("notification", ("$defs", "cause"), Cause),
    ("notification", ("$defs", "incident", "properties", "kind"), IncidentKind),
]


@pytest.mark.parametrize(("name", "path", "enum"), ENUMS, ids=[f"{row[0]} {row[1][-1]}" for row in ENUMS])
def test_it_names_what_the_model_names(name: str, path: tuple[str, ...], enum: type[StrEnum]) -> None:
    part = schema(name)
    for key in path:
        part = part[key]
    assert part["enum"] == [str(member) for member in enum]


def test_every_end_of_a_step_but_done_is_an_error_event() -> None:
    statuses = schema("event")["$defs"]["apply_errored"]["properties"]["status"]["enum"]
    assert sorted([*statuses, "done"]) == sorted(StepStatus)


def test_every_kind_of_event_is_there_under_its_own_name() -> None:
    found = schema("event")
    assert [part["$ref"].rpartition("/")[2] for part in found["oneOf"]] == EVENTS
    for name in EVENTS:
        assert found["$defs"][name]["properties"]["type"]["const"] == name


def test_only_what_happens_has_a_time() -> None:
    """The same plan must give the same lines; what a watch tells has happened. The `at` of a drift is none of a plan's."""
    found = schema("event")["$defs"]
    assert [name for name in EVENTS if "elapsed" in found[name]["required"]] == [
        name for name in EVENTS if name.startswith("apply_")
    ]
    timed = {"time", "at", "timestamp"}
    assert not any(
        timed & set(part.get("required", ()))
        for name in found
        if name not in WATCH
        for part in every(found[name])
    )


CHANGE = {
    "path": "environment.LOG_LEVEL",
    "before": "info",
    "after": None,
    "forces_replacement": False,
    "outside": True,
    "sensitive": False,
    "position": {"file": "sandboxes.yaml", "line": 3, "column": 5},
}
STEP = {
    "key": "a",
    "address": "a",
    "action": "update",
    "create_first": False,
    "reason": "drifted",
    "detail": "",
    "backend": "main",
    "sandbox_id": "a-1",
    "generation": 1,
    "changes": [CHANGE],
    "unchanged": 3,
    "cost": "",
    "needs": ["db"],
}
TOLD = {"key": "a", "address": "a", "action": "create", "elapsed": 1.5}
COUNTS = {str(action): 0 for action in Action}
DIAGNOSTIC = {
    "severity": "error",
    "code": "unknown-key",
    "summary": "there is no key 'imge'",
    "fix": "did you mean 'image'?",
    "position": CHANGE["position"],
    "snippet": "  imge: x",
    "width": 4,
    "related": [{"summary": "first declared here", "position": CHANGE["position"]}],
}
SUMMARY = {"operation": "apply", "planned": COUNTS, "total": 0, "unchanged": 2, "drifted": 0}
LINES: list[dict[str, Any]] = [
    {"type": "version", "format": "1.0"},
    {"type": "planned_change", **STEP, "reason_text": "changed outside", "position": None},
    {
        "type": "drift",
        **{key: STEP[key] for key in ("address", "backend", "sandbox_id", "reason", "detail", "changes")},
        "position": CHANGE["position"],
    },
    {"type": "change_summary", **SUMMARY},
    {
        "type": "change_summary",
        **SUMMARY,
        "results": dict.fromkeys(("done", "failed", "skipped", "stale", "interrupted", "not_started"), 0),
        "elapsed": 2.0,
        "interrupted": False,
    },
    {"type": "apply_start", **TOLD},
    {"type": "apply_progress", **TOLD, "activity": "waiting for readiness", "note": ""},
    {"type": "apply_complete", **TOLD, "attempts": 1, "sandbox_id": "a-1", "sandbox_url": None},
    {
        "type": "apply_errored",
        **TOLD,
        "status": "not started",
        "error": "x",
        "hint": "",
        "attempts": 0,
        "log_tail": ["one"],
    },
    {"type": "diagnostic", **DIAGNOSTIC},
    {"type": "outputs", "outputs": {"url": "http://127.0.0.1:1"}},
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line["type"])
def test_an_event_is_taken_whole_and_refused_in_part_or_with_more(line: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for(schema("event"))
    validator.validate(line)
    assert not validator.is_valid({**line, "surprise": 1})
    optional = {"results", "elapsed", "interrupted"} if line["type"] == "change_summary" else set()
    for key in set(line) - optional:
        assert not validator.is_valid({k: v for k, v in line.items() if k != key}), key


def test_a_plan_file_is_taken_whole_and_refused_in_part_or_with_more() -> None:
    """A whole document, as it is written: a step of it was planned on something."""
    old, new = wanted("a", image="one"), wanted("a", image="two")
    made = make_plan(desired(new), state(record(old)), Observed(sandboxes=(seen(old),)), options())
    saved = SavedPlan(plan=made, inputs=Inputs(), made_at=1.0, tool="1.0")
    whole = json.loads(encode(saved, key=None))
    validator = jsonschema_rs.validator_for(schema("plan"))
    validator.validate(whole)
    assert not validator.is_valid({**whole, "surprise": 1})
    for key in whole:
        assert not validator.is_valid({k: v for k, v in whole.items() if k != key}), key
    (step,) = whole["steps"]
    for key in step:
        part = {k: v for k, v in step.items() if k != key}
        assert not validator.is_valid({**whole, "steps": [part]}), key
