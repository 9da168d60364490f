"""What a watch tells, as plain lines that begin with the time, for terminals and journals. One line is one event, and what is
to be done about it stands below, where the text of the event does. On a terminal lines are broken to its width.

A look that shows what the last one showed is not told again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import assert_never

from reconciler.cli.views.plain import DONE
from reconciler.cli.views.style import GREEN, RED, YELLOW, Style, harmless, wrapped
from reconciler.cli.views.values import counted, duration, span
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

_MARGIN = " " * len("2026-11-26T08:00:00Z  ")
_BELOW = _MARGIN + " " * len("! ")
_WHAT = {
    IncidentKind.CONFIGURATION: "the configuration",
    IncidentKind.STORE: "the state's store",
    IncidentKind.FLEET: "the fleet",
    IncidentKind.REFUSED: "what was refused",
    IncidentKind.BACKEND: "backend",
}


class WatchLines:
    """Writes through `write`. `width` in columns, None where nobody looks: logs are searched, not read in a window. `all_looks`
    tells every look; `quiet` only what is wrong and what is over."""

    def __init__(
        self,
        write: Callable[[str], None],
        style: Style,
        *,
        width: int | None = None,
        all_looks: bool = False,
        quiet: bool = False,
    ) -> None:
        self._write = write
        self._style = style
        self._width = width
        self._all = all_looks
        self._quiet = quiet
        self._last: tuple[object, ...] = ()
        self._refused = False  # whether the configuration could not be used when it was last read

    def __call__(self, event: WatchEvent) -> None:
        if self._quiet and isinstance(event, WatchStarted | WatchStopped | Looked | LeadershipChanged):
            return
        for line in self._lines(event):
            self._write(line)

    def _lines(self, event: WatchEvent) -> list[str]:
        match event:
            case WatchStarted():
                return self._said(event.at, _started(event))
            case Looked():
                return self._looked(event)
            case Corrected():
                return self._said(event.at, self._corrected(event))
            case IncidentOpened(incident=incident):
                head = f"{self._style.paint('!', RED)} {harmless(incident.summary)}"
                return self._said(incident.at, head, *([incident.fix] if incident.fix else []))
            case IncidentClosed(incident=incident):
                how = f": {harmless(event.how)}" if event.how else ""
                over = f"{_about(incident)} is well again after {duration(event.seconds)}{how}"
                return self._said(event.at, f"{self._style.paint('✓', GREEN)} {over}")
            case Reloaded():
                return self._reloaded(event)
            case LeadershipChanged():
                self._last = ()
                return self._said(event.at, _led(event))
            case WatchStopped():
                return self._said(event.at, "stopped" + (f": {harmless(event.why)}" if event.why else ""))
            case _:
                assert_never(event)

    def _said(self, at: float, text: str, *below: str) -> list[str]:
        """The event, and what stands below it."""
        first, *rest = [text] if self._width is None else wrapped(text, self._width - len(_BELOW))
        lines = [f"{self._style.dim(clock(at))}  {first}", *(_BELOW + line for line in rest)]
        for more in map(harmless, below):
            lines += [_BELOW + more] if self._width is None else wrapped(more, self._width, indent=_BELOW)
        return lines

    def _looked(self, event: Looked) -> list[str]:
        shown = (
            event.desired, event.observed, event.ready, event.drifted, event.waiting, event.pending,
            tuple(sorted(event.failures)),
        )  # fmt: skip
        if shown == self._last and not self._all:
            return []
        self._last = shown
        parts = [f"{event.ready} of {event.desired} ready"]
        parts += [self._style.paint(f"{event.drifted} drifted", YELLOW)] if event.drifted else []
        parts += [f"{event.waiting} waiting"] if event.waiting else []
        parts += [f"{counted(event.pending, 'change')} pending an apply"] if event.pending else []
        parts += [self._style.paint(f"{harmless(name)} not seen", RED) for name in sorted(event.failures)]
        took = f" ({event.trigger}, {duration(event.seconds)})" if self._all else ""
        return self._said(event.at, ", ".join(parts) + took)

    def _corrected(self, event: Corrected) -> str:
        name, style = harmless(event.address), self._style
        if event.ok:
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return f"{name}: {style.paint(DONE[event.action], GREEN)} after {duration(event.seconds)}{again}"
        then = "left alone from now on" if event.retry_in is None else f"again in {span(event.retry_in)}"
        return f"{name}: {style.paint(f'{event.action} failed', RED)}: {harmless(event.error)}; {then}"

    def _reloaded(self, event: Reloaded) -> list[str]:
        """That it cannot be used is an incident, and told as that; that it still cannot is not."""
        still, self._refused = self._refused and not event.ok, not event.ok
        if event.ok:
            said = f"the configuration was read again: {harmless(event.summary)}"
            return [] if self._quiet else self._said(event.at, said)
        if not still:
            return []
        head = f"{self._style.paint('!', RED)} the configuration was read again, and still cannot be used"
        return self._said(event.at, head, *(problem.in_short for problem in event.problems[:3]))


def _started(event: WatchStarted) -> str:
    if not event.interval:
        return f"one look at stack {harmless(event.stack)}"
    told = [harmless(name) for name, tells in sorted(event.backends.items()) if tells]
    events = (
        f", and at once when {', '.join(told)} {'tells' if len(told) == 1 else 'tell'} of something"
        if told
        else ""
    )
    return f"watching stack {harmless(event.stack)}: a look every {span(event.interval)}{events}"


def _led(event: LeadershipChanged) -> str:
    if event.leads:
        return "leads: it looks and acts from now on"
    leader = f"{harmless(event.leader)} leads" if event.leader else "nobody is known to lead"
    why = f": {harmless(event.why)}" if event.why else ""
    return f"stands by, {leader}{why}"


def _about(incident: Incident) -> str:
    return " ".join(filter(None, (_WHAT.get(incident.kind, ""), harmless(incident.subject))))


def clock(at: float) -> str:
    """UTC to the second, as it sorts."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
