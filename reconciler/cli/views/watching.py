"""What a watch tells, as plain lines that begin with the time, for terminals and journals. One line is one event.

A look that shows what the last one showed is not told again.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import assert_never

from reconciler.cli.views.plain import DONE
from reconciler.cli.views.style import GREEN, RED, YELLOW, Style, harmless
from reconciler.cli.views.values import counted, duration, span
from reconciler.model.watching import (
    Corrected,
    IncidentClosed,
    IncidentOpened,
    LeadershipChanged,
    Looked,
    Reloaded,
    WatchEvent,
    WatchStarted,
    WatchStopped,
)


class WatchLines:
    """Writes through `write`. `all_looks` tells every look; `quiet` only what is wrong and what is over."""

    def __init__(
        self, write: Callable[[str], None], style: Style, *, all_looks: bool = False, quiet: bool = False
    ) -> None:
        self._write = write
        self._style = style
        self._all = all_looks
        self._quiet = quiet
        self._last: tuple[object, ...] = ()

    def __call__(self, event: WatchEvent) -> None:
        if self._quiet and isinstance(event, WatchStarted | WatchStopped | Looked | LeadershipChanged):
            return
        for line in self._lines(event):
            self._write(line)

    def _lines(self, event: WatchEvent) -> list[str]:
        match event:
            case WatchStarted():
                return [self._said(event.at, _started(event))]
            case Looked():
                return self._looked(event)
            case Corrected():
                return [self._said(event.at, self._corrected(event))]
            case IncidentOpened(incident=incident):
                head = self._said(incident.at, f"{self._style.paint('!', RED)} {harmless(incident.summary)}")
                return [head, *([f"    {harmless(incident.fix)}"] if incident.fix else [])]
            case IncidentClosed(incident=incident):
                about = harmless(incident.subject or str(incident.kind).replace("_", " "))
                how = f": {harmless(event.how)}" if event.how else ""
                over = f"{self._style.paint('✓', GREEN)} {about} is well again after {duration(event.seconds)}{how}"
                return [self._said(event.at, over)]
            case Reloaded():
                return self._reloaded(event)
            case LeadershipChanged():
                self._last = ()
                return [self._said(event.at, _led(event))]
            case WatchStopped():
                return [self._said(event.at, "stopped" + (f": {harmless(event.why)}" if event.why else ""))]
            case _:
                assert_never(event)

    def _said(self, at: float, text: str) -> str:
        return f"{self._style.dim(clock(at))}  {text}"

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
        return [self._said(event.at, ", ".join(parts) + took)]

    def _corrected(self, event: Corrected) -> str:
        name, style = harmless(event.address), self._style
        if event.ok:
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return f"{name}: {style.paint(DONE[event.action], GREEN)} after {duration(event.seconds)}{again}"
        then = "left alone from now on" if event.retry_in is None else f"again in {span(event.retry_in)}"
        return f"{name}: {style.paint(f'{event.action} failed', RED)}: {harmless(event.error)}; {then}"

    def _reloaded(self, event: Reloaded) -> list[str]:
        """What is wrong with it is an incident, and told as that."""
        if event.ok and not self._quiet:
            return [self._said(event.at, f"the configuration was read again: {harmless(event.summary)}")]
        return []


def _started(event: WatchStarted) -> str:
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


def clock(at: float) -> str:
    """UTC to the second, as it sorts."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
