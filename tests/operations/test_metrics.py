"""Metrics by the library's own parser, by the rules of its linter, and by promtool where that is installed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from itertools import product

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reconciler.model.desired import Address
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.drift import Cause
from reconciler.model.plan import Action
from reconciler.model.watching import (
    Corrected,
    Incident,
    IncidentClosed,
    IncidentKind,
    IncidentOpened,
    LeadershipChanged,
    Looked,
    Reloaded,
    Trigger,
    WatchEvent,
    WatchStarted,
)
from reconciler.operations.audit import Entry
from reconciler.operations.metrics import Metrics
from reconciler.operations.notify import Outcome
from tests.support.required import required

INCIDENT = Incident(kind=IncidentKind.DRIFT, subject="web", summary="x", at=1000.0, cause=Cause.KILLED)
SEEN = ("desired", "observed", "ready", "drifted", "waiting", "pending", "last_look_timestamp_seconds")
NEVER_CORRECTED = {Action.DESTROY, Action.FORGET, Cause.STRAY}  # only an apply does that


def looked(**fields: object) -> Looked:
    given: dict[str, object] = {
        "at": 1000.0,
        "seconds": 0.2,
        "desired": 5,
        "observed": 4,
        "ready": 3,
        "drifted": 2,
    }
    return Looked(**{**given, **fields})  # type: ignore[arg-type]


def corrected(error: str = "", seconds: float = 1.5) -> Corrected:
    return Corrected(
        at=1001.0, address=Address("web"), backend="local", sandbox_id="w", action=Action.REPAIR, reason="dead",
        cause=Cause.KILLED, seconds=seconds, took=1.0, error=error,
    )  # fmt: skip


def after(*events: WatchEvent) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    metrics = Metrics(stack="research", version="9.9")
    for event in events:
        metrics(event)
    text = metrics.render()[0].decode()
    return {
        (sample.name, frozenset((k, v) for k, v in sample.labels.items() if k != "stack")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("stack") == "research"
    }


def value(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return found[f"reconciler_{name}", frozenset(labels.items())]


def test_a_look_shows_the_fleet() -> None:
    found = after(looked(waiting=1, pending=7))
    names = ("desired", "observed", "ready", "drifted", "waiting", "pending")
    assert [value(found, name) for name in names] == [5, 4, 3, 2, 1, 7]
    assert value(found, "last_look_timestamp_seconds") == 1000.0
    assert value(found, "looks_total", trigger="interval", complete="true") == 1
    assert value(found, "look_duration_seconds_sum") == pytest.approx(0.2)


def test_a_backend_that_cannot_be_seen_is_down_and_up_again_after() -> None:
    begun = WatchStarted(at=1.0, stack="research", interval=30.0, backends={"far": False, "near": True})
    found = after(begun, looked(failures={"far": "no answer"}))
    assert (value(found, "backend_up", backend="far"), value(found, "backend_up", backend="near")) == (0, 1)
    assert value(found, "looks_total", trigger="interval", complete="false") == 1
    assert value(after(begun, looked(failures={"far": "x"}), looked()), "backend_up", backend="far") == 1


def test_one_that_a_reload_removed_is_neither_up_nor_down() -> None:
    begun = WatchStarted(at=1.0, stack="research", interval=30.0, backends={"far": False, "near": True})
    refused = Reloaded(at=2.0, problems=(Diagnostic(severity=Severity.ERROR, code="x", summary="wrong"),))
    reloaded = Reloaded(at=3.0, backends=("near", "new"))
    found = after(begun, looked(failures={"far": "no answer"}), refused, looked())
    assert value(found, "backend_up", backend="far") == 1
    found = after(begun, looked(failures={"far": "no answer"}), reloaded, looked())
    assert {dict(labels)["backend"] for name, labels in found if name == "reconciler_backend_up"} == {
        "near",
        "new",
    }


def test_corrections_count_by_what_came_of_them_and_only_what_worked_takes_time() -> None:
    found = after(corrected(), corrected(), corrected(error="it ended again"))
    assert value(found, "corrections_total", action="repair", outcome="done", cause="killed") == 2
    assert value(found, "corrections_total", action="repair", outcome="failed", cause="killed") == 1
    assert value(found, "time_to_correct_seconds_count") == 2
    assert value(found, "time_to_correct_seconds_sum") == pytest.approx(3.0)


def test_incidents_are_open_until_they_are_over() -> None:
    found = after(IncidentOpened(incident=INCIDENT))
    assert value(found, "incidents_open", kind="drift") == 1
    found = after(IncidentOpened(incident=INCIDENT), IncidentClosed(incident=INCIDENT, at=1.0))
    assert (value(found, "incidents_open", kind="drift"), value(found, "incidents_total", kind="drift")) == (
        0,
        1,
    )


def test_who_stands_by_says_nothing_of_the_fleet_and_of_incidents() -> None:
    leads, lost = LeadershipChanged(at=1.0, leads=True), LeadershipChanged(at=2.0, leads=False)
    begun = WatchStarted(at=1.0, stack="research", interval=30.0, backends={"far": False})
    led = (leads, begun, looked(failures={"far": "x"}), IncidentOpened(incident=INCIDENT))
    assert value(after(*led), "leader") == 1
    found = after(*led, lost)
    assert value(found, "leader") == 0
    assert value(found, "incidents_open", kind="drift") == 0
    assert value(found, "incidents_total", kind="drift") == 1
    there = {name for name, _ in found}
    assert there.isdisjoint(
        f"reconciler_{name}"
        for name in ("desired", "ready", "drifted", "backend_up", "last_look_timestamp_seconds")
    )
    again = after(*led, lost, leads, looked())
    assert (value(again, "leader"), value(again, "desired")) == (1, 5)
    assert "reconciler_leader" not in {name for name, _ in after(looked())}, "nobody asked for an election"


def test_reloads_notifications_and_lines_of_the_audit_log_count_by_outcome() -> None:
    metrics = Metrics(stack="research", version="9.9")
    metrics(Reloaded(at=1.0))
    metrics.notified("delivered")
    metrics.audited(Entry.LOST, 3)
    text = metrics.render()[0].decode()
    assert 'reconciler_reloads_total{outcome="done",stack="research"} 1.0' in text
    assert 'reconciler_notifications_total{outcome="delivered",stack="research"} 1.0' in text
    assert 'reconciler_audit_entries_total{outcome="lost",stack="research"} 3.0' in text


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("looks_total", {"trigger": Trigger, "complete": ("true", "false")}),
        (
            "corrections_total",
            {"action": tuple(Action), "outcome": ("done", "failed"), "cause": tuple(Cause)},
        ),
        ("incidents_open", {"kind": IncidentKind}),
        ("incidents_total", {"kind": IncidentKind}),
        ("reloads_total", {"outcome": ("done", "refused")}),
        ("notifications_total", {"outcome": Outcome}),
        ("audit_entries_total", {"outcome": Entry}),
    ],
)
def test_what_never_happened_is_zero_and_not_absent(name: str, labels: dict[str, Iterable[str]]) -> None:
    """Each combination that can come, and no other."""
    combined = {frozenset(zip(labels, values, strict=True)) for values in product(*labels.values())}
    if name == "corrections_total":
        combined = {one for one in combined if not NEVER_CORRECTED & {value for _, value in one}}
    found = {
        with_labels: count for (each, with_labels), count in after().items() if each == f"reconciler_{name}"
    }
    assert found == dict.fromkeys(combined, 0)


def test_every_counter_and_histogram_is_there_before_anything_happens() -> None:
    families = list(
        text_string_to_metric_families(Metrics(stack="research", version="1").render()[0].decode())
    )
    counting = [family for family in families if family.type in ("counter", "histogram")]
    assert len(counting) == 8
    for family in counting:
        assert family.samples, family.name
        assert {sample.value for sample in family.samples} == {0}, family.name


def test_what_nobody_has_looked_at_yet_is_absent_and_not_zero() -> None:
    found = {name for name, _ in after()}
    assert found.isdisjoint({f"reconciler_{name}" for name in SEEN})
    assert {f"reconciler_{name}" for name in SEEN} <= {name for name, _ in after(looked())}


def test_the_version_is_told() -> None:
    assert value(after(), "build_info", version="9.9") == 1


def test_names_are_as_a_linter_wants_them() -> None:
    metrics = Metrics(stack="research", version="1")
    metrics(looked())
    metrics(corrected())
    families = list(text_string_to_metric_families(metrics.render()[0].decode()))
    assert len(families) > 12
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert family.name.startswith("reconciler_")
        assert not family.name.endswith(("_total", "_count", "_sum", "_bucket")) or family.type == "counter"
        if "second" in family.name:
            assert family.name.endswith("_seconds")


@required("promtool")
def test_promtool_has_nothing_to_say() -> None:
    metrics = Metrics(stack="research", version="1")
    metrics(looked())
    metrics(corrected())
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics.render()[0], capture_output=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
