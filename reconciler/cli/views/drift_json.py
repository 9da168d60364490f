"""Drift and the events of a watch as JSON objects, after `schemas/event.v1.schema.json`. Never shows a sensitive value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, assert_never

from reconciler.cli.views.planned import change_dicts, diagnostic_dict, position_dict
from reconciler.model.desired import Address
from reconciler.model.drift import Drift
from reconciler.model.watching import (
    Corrected,
    Incident,
    IncidentClosed,
    IncidentOpened,
    LeadershipChanged,
    Looked,
    Reloaded,
    WatchEvent,
    WatchStarted,
    WatchStopped,
)


def drift_dicts(
    found: Sequence[Drift],
    *,
    stack: str,
    fleet: int,
    pending: Mapping[Address, str],
    failures: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """`drift` per sandbox that is not as it was last applied, then `drift_summary`."""
    yield from (_drift(drift) for drift in found)
    yield {
        "type": "drift_summary",
        "stack": stack,
        "sandboxes": fleet,
        "drifted": len(found),
        "causes": dict(sorted(Counter(str(drift.cause) for drift in found).items())),
        "policies": dict(sorted(Counter(str(drift.policy) for drift in found).items())),
        "pending": {str(address): what for address, what in sorted(pending.items())},
        "failures": dict(sorted(failures.items())),
    }


def _drift(drift: Drift) -> dict[str, Any]:
    return {
        "type": "drift",
        "address": drift.address,
        "backend": drift.backend,
        "sandbox_id": drift.sandbox_id,
        "reason": str(drift.reason),
        "detail": drift.detail,
        "changes": change_dicts(drift.changes),
        "position": position_dict(drift.position),
        "cause": str(drift.cause),
        "at": drift.at,
        "policy": str(drift.policy),
        "correction": None if drift.action is None else str(drift.action),
        "why_not": drift.why_not,
    }


def watch_dict(event: WatchEvent) -> dict[str, Any]:
    """One event of a watch."""
    match event:
        case WatchStarted():
            return {
                "type": "watch_started",
                "at": event.at,
                "stack": event.stack,
                "interval": event.interval,
                "backends": dict(sorted(event.backends.items())),
            }
        case Looked():
            return _looked(event)
        case Corrected():
            return _corrected(event)
        case IncidentOpened(incident=incident):
            return {"type": "incident_opened", **_incident(incident)}
        case IncidentClosed(incident=incident):
            return {
                "type": "incident_closed",
                **_incident(incident),
                "closed_at": event.at,
                "seconds": _seconds(event.seconds),
                "how": event.how,
            }
        case Reloaded():
            return {
                "type": "reloaded",
                "at": event.at,
                "ok": event.ok,
                "summary": event.summary,
                "problems": [diagnostic_dict(problem) for problem in event.problems],
            }
        case LeadershipChanged():
            return {
                "type": "leadership",
                "at": event.at,
                "leads": event.leads,
                "leader": event.leader,
                "why": event.why,
            }
        case WatchStopped():
            return {"type": "watch_stopped", "at": event.at, "why": event.why}
        case _:
            assert_never(event)


def _looked(event: Looked) -> dict[str, Any]:
    counts = ("desired", "observed", "ready", "drifted", "waiting", "pending")
    return {
        "type": "look",
        "at": event.at,
        "seconds": _seconds(event.seconds),
        "trigger": event.trigger,
        **{name: getattr(event, name) for name in counts},
        "failures": dict(sorted(event.failures.items())),
    }


def _corrected(event: Corrected) -> dict[str, Any]:
    return {
        "type": "correction",
        "at": event.at,
        "address": event.address,
        "backend": event.backend,
        "sandbox_id": event.sandbox_id,
        "action": str(event.action),
        "reason": event.reason,
        "cause": str(event.cause),
        "ok": event.ok,
        "error": event.error,
        "attempt": event.attempt,
        "seconds": _seconds(event.seconds),
        "took": _seconds(event.took),
        "retry_in": None if event.retry_in is None else _seconds(event.retry_in),
    }


def _incident(incident: Incident) -> dict[str, Any]:
    return {
        "key": incident.key,
        "kind": str(incident.kind),
        "subject": incident.subject,
        "summary": incident.summary,
        "fix": incident.fix,
        "cause": None if incident.cause is None else str(incident.cause),
        "at": incident.at,
    }


def _seconds(value: float) -> float:
    return round(max(0.0, value), 3)
