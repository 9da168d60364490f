"""Progress of an apply as plain lines: one for each change of state, for pipes, logs and CI.

The same events give the same lines; no cursor is moved and nothing is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from reconciler.cli.views.style import GREEN, RED, YELLOW, Style, harmless
from reconciler.cli.views.values import duration
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
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Action

DOING = {
    Action.CREATE: "creating",
    Action.UPDATE: "changing",
    Action.REPLACE: "replacing",
    Action.REPAIR: "repairing",
    Action.ADOPT: "adopting",
    Action.DESTROY: "destroying",
    Action.FORGET: "forgetting",
}

DONE = {
    Action.CREATE: "created",
    Action.UPDATE: "changed",
    Action.REPLACE: "replaced",
    Action.REPAIR: "repaired",
    Action.ADOPT: "adopted",
    Action.DESTROY: "destroyed",
    Action.FORGET: "forgotten",
}


_SOONEST, _LATEST = (
    2.0,
    30.0,
)  # seconds between two lines that differ in numbers alone: the longer it takes, the more
_SHARE = 0.25
_SHORT = 1.0  # seconds
_NUMBERS = re.compile(r"[\d.,]+")


class _Said(Struct, frozen=True):
    """The last line of a step: what it was doing, its note, and when, in seconds since the step began."""

    activity: Activity
    note: str
    elapsed: float


class PlainProgress:
    """Writes a line through `write` whenever a step changes its state, and now and then while its numbers move. Not
    for more than one thread."""

    def __init__(self, write: Callable[[str], None], style: Style) -> None:
        self._write = write
        self._style = style
        self._last: dict[str, _Said] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._write(f"{harmless(event.address)}: {DOING[event.action]}")
            case StepProgress():
                self._progress(event)
            case StepEnded():
                for line in result_lines(event.result, self._style):
                    self._write(line)
            case Planned() | Remark() | ApplyEnded():
                pass  # the plan, remarks and the end have views of their own

    def _progress(self, event: StepProgress) -> None:
        now = _Said(event.activity, event.note, event.elapsed)
        last = self._last.get(event.key)
        if event.activity is Activity.CHECKING and not event.note and event.elapsed < _SHORT:
            return  # of no interest unless it takes its time
        if last is None and not event.note and str(event.activity) == DOING[event.action]:
            self._last[event.key] = now  # "creating" has just been said by the start
            return
        if last is not None and not _is_news(last, now):
            return
        self._last[event.key] = now
        note = f": {harmless(event.note)}" if event.note else ""
        self._write(f"{harmless(event.address)}: {event.activity}{note} ({duration(event.elapsed)})")


def _is_news(last: _Said, now: _Said) -> bool:
    """Whether a reader of the log should hear of it: numbers that only move are news after a while."""
    if last.activity is not now.activity:
        return True
    if last.note == now.note or not now.note:
        return False
    if now.activity is Activity.RETRYING or _NUMBERS.sub("", last.note) != _NUMBERS.sub("", now.note):
        return True
    return now.elapsed - last.elapsed >= min(_LATEST, max(_SOONEST, now.elapsed * _SHARE))


def result_lines(result: StepResult, style: Style) -> list[str]:
    """How a step ended, in one line; a failure with its error, what to do and the last lines of its log."""
    name, took = harmless(result.address), duration(result.seconds)
    match result.status:
        case StepStatus.DONE:
            done = style.paint(DONE[Action(result.action)], GREEN)
            ready = f" at {harmless(result.info.sandbox_url)}" if _answers(result) and result.info else ""
            return [f"{name}: {done} after {took}{ready}"]
        case StepStatus.FAILED:
            tries = f", {result.attempts} attempts" if result.attempts > 1 else ""
            head = f"{name}: {style.paint(f'{result.action} failed', RED)} after {took}{tries}"
            return [f"{head}: {harmless(result.error)}", *details(result)]
        case StepStatus.INTERRUPTED:
            head = f"{name}: {style.paint(f'{result.action} interrupted', YELLOW)} after {took}"
        case StepStatus.STALE:
            head = f"{name}: {style.paint('moved since the plan, left alone', YELLOW)}"
        case StepStatus.SKIPPED:
            head = f"{name}: {style.paint('skipped', YELLOW)}"
        case StepStatus.NOT_STARTED:
            head = f"{name}: {style.paint('not started', YELLOW)}"
    return [head + (f": {harmless(result.error)}" if result.error else "")]


def details(result: StepResult) -> list[str]:
    """The next step and the log's last lines, indented."""
    lines = [f"    {harmless(result.hint)}"] if result.hint else []
    if result.log_tail:
        lines += ["    last lines of its log:", *(f"    | {harmless(line)}" for line in result.log_tail)]
    return lines


def _answers(result: StepResult) -> bool:
    return Action(result.action) not in (Action.DESTROY, Action.FORGET) and result.info is not None
