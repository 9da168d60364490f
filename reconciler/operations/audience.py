"""Everybody who hears what a watch tells. What one of them does wrong never reaches the loop, nor the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

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

Listener = Callable[[WatchEvent], None]
Scrub = Callable[[str], str]


class Audience:
    """Tells each of `listeners` in turn, with `scrub` (secrets out) over every text. A listener that raises is told of by
    `told`, once per listener and kind of failure."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        *,
        told: Callable[[str], None],
        scrub: Scrub = lambda text: text,
    ) -> None:
        self._listeners = tuple(listeners)
        self._told = told
        self._scrub = scrub
        self._known: set[str] = set()

    def __call__(self, event: WatchEvent) -> None:
        try:
            event = scrubbed(event, self._scrub)
        except Exception as error:  # noqa: BLE001 - what cannot be scrubbed is told to nobody
            self._tell(self, error)
            return
        for listener in self._listeners:
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 - a broken listener must not end the loop that keeps sandboxes up
                self._tell(listener, error)

    def _tell(self, listener: Listener, error: Exception) -> None:
        """By the failure's kind and place: its text may hold what must not be told."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}" if trace is not None else "?"
        said = f"{type(listener).__name__} failed: {type(error).__name__} in {place}; this is a bug"
        if said not in self._known and len(self._known) < 100:
            self._known.add(said)
            self._told(said)


def scrubbed(event: WatchEvent, scrub: Scrub) -> WatchEvent:
    """The event with every text that others may have written gone through `scrub`."""
    match event:
        case Corrected():
            return replace(event, reason=scrub(event.reason), error=scrub(event.error))
        case IncidentOpened():
            return replace(event, incident=_scrubbed(event.incident, scrub))
        case IncidentClosed():
            return replace(event, incident=_scrubbed(event.incident, scrub), how=scrub(event.how))
        case Looked():
            return replace(event, failures={name: scrub(why) for name, why in event.failures.items()})
        case Reloaded():
            problems = tuple(
                replace(each, summary=scrub(each.summary), fix=scrub(each.fix), snippet=scrub(each.snippet))
                for each in event.problems
            )
            return replace(event, problems=problems, summary=scrub(event.summary))
        case LeadershipChanged():
            return replace(event, leader=scrub(event.leader), why=scrub(event.why))
        case WatchStarted() | WatchStopped():
            return event


def _scrubbed(incident: Incident, scrub: Scrub) -> Incident:
    return replace(incident, summary=scrub(incident.summary), fix=scrub(incident.fix))
