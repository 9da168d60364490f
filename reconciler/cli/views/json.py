"""Events as one JSON object a line, after `schemas/event.v1.schema.json`. Never shows a sensitive value.

Everything a program may want is in the objects; nothing in them depends on the terminal, the locale or the colour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, assert_never

from reconciler.cli.views.jsonline import line
from reconciler.cli.views.planned import diagnostic_dict, plan_dicts, summary_dict
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.event import ApplyEnded, Event, Planned, Remark, StepEnded, StepProgress, StepStarted
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Action, Plan

FORMAT = "1.0"


class JsonLines:
    """Writes events, the version line before the first of them. `operation` is the run they belong to."""

    def __init__(self, write: Callable[[str], None], *, operation: str) -> None:
        self._write = write
        self._operation = operation
        self._begun = False
        self._plan: Plan | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Planned):
            self._plan = event.plan
        for data in event_dicts(event, operation=self._operation, plan=self._plan):
            self.emit(data)

    def diagnostic(self, diagnostic: Diagnostic) -> None:
        self.emit(diagnostic_dict(diagnostic))

    def begin(self) -> None:
        """Say the version now, for a stream that may stay without events."""
        if not self._begun:
            self._begun = True
            self._write(line({"type": "version", "format": FORMAT}))

    def emit(self, data: Mapping[str, Any]) -> None:
        self.begin()
        self._write(line(data))


def event_dicts(event: Event, *, operation: str, plan: Plan | None = None) -> Iterator[dict[str, Any]]:
    """The objects of one event. `plan` is what the run was planned on, for the counts at the end of it."""
    match event:
        case Planned():
            yield from plan_dicts(event.plan, operation=operation)
        case StepStarted():
            yield {"type": "apply_start", **_step_key(event), "elapsed": 0}
        case StepProgress():
            yield {
                "type": "apply_progress",
                **_step_key(event),
                "activity": str(event.activity),
                "elapsed": _seconds(event.elapsed),
                "note": event.note,
            }
        case StepEnded():
            yield _ended(event)
        case Remark():
            yield diagnostic_dict(event.diagnostic)
        case ApplyEnded():
            if plan is not None:
                yield _final(event, plan, operation)
            yield {"type": "outputs", "outputs": dict(sorted(event.outputs))}
        case _:
            assert_never(event)


def _final(event: ApplyEnded, plan: Plan, operation: str) -> dict[str, Any]:
    counts = Counter(result.status for result in event.results)
    return {
        **summary_dict(plan, operation),
        "results": {str(status).replace(" ", "_"): counts[status] for status in StepStatus},
        "elapsed": _seconds(event.seconds),
        "interrupted": event.interrupted,
    }


def _ended(event: StepEnded) -> dict[str, Any]:
    result = event.result
    head = {"key": event.key, "address": result.address, "action": result.action}
    tail = {
        "elapsed": _seconds(result.seconds),
        "attempts": result.attempts,
        "tried": list(result.tried),
    }
    if result.status is StepStatus.DONE:
        return {"type": "apply_complete", **head, **_live(result), **tail}
    return {
        "type": "apply_errored",
        **head,
        "status": str(result.status),
        "error": result.error,
        "hint": result.hint,
        **tail,
        "log_tail": list(result.log_tail),
    }


def _live(result: StepResult) -> dict[str, Any]:
    gone = result.info is None or result.action in (Action.DESTROY, Action.FORGET)
    return {
        "sandbox_id": None if gone or result.info is None else result.info.sandbox_id,
        "sandbox_url": None if gone or result.info is None else result.info.sandbox_url,
    }


def _step_key(event: StepStarted | StepProgress) -> dict[str, Any]:
    return {"key": event.key, "address": event.address, "action": str(event.action)}


def _seconds(value: float) -> float:
    return round(max(0.0, value), 3)
