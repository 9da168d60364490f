"""Whether the loop lives and whether its last look can be relied on, kept from events; never decides what follows from it.

Written by the loop's thread and read by others: every field is replaced as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from reconciler.model.harmless import harmless
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


class Health:
    """The loop lives when it moved within `intervals` of its intervals; `least` seconds it always has, because one correction
    may take that long. `tick` is called whenever the loop moves."""

    def __init__(
        self,
        *,
        intervals: float = 3.0,
        least: float = 300.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intervals = intervals
        self._least = least
        self._monotonic = monotonic
        self._patience = least
        self._moved = monotonic()
        self._stopped = False
        self._invalid = False
        self._look: Looked | None = None
        self._led: LeadershipChanged | None = None

    def __call__(self, event: WatchEvent) -> None:
        self.tick()
        match event:
            case WatchStarted():
                self._patience = max(self._least, self._intervals * event.interval)
                self._stopped = self._invalid = False
                self._look = None
            case Looked():
                self._look = event
            case Reloaded():
                self._invalid = not event.ok
            case LeadershipChanged():
                self._led = event
                self._stopped = self._invalid = False
                self._look = None
            case WatchStopped():
                self._stopped = True
            case Corrected() | IncidentOpened() | IncidentClosed():
                pass

    def tick(self) -> None:
        self._moved = self._monotonic()

    def dead(self) -> str:
        """Why the loop counts as dead, "" when it lives."""
        if self._stopped:
            return "the watch has stopped"
        still = self._monotonic() - self._moved
        if still > self._patience:
            return f"the loop has not moved for {still:.0f} s, and {self._patience:.0f} s are allowed"
        return ""

    def role(self) -> str:
        """What this one of several is doing, "" where there is one only."""
        led = self._led
        if led is None:
            return ""
        if led.leads:
            return "leads"
        return (
            f"stands by; {harmless(led.leader)} leads" if led.leader else "stands by; nobody is known to lead"
        )

    def unready(self) -> str:
        """Why what the watch says cannot be relied on, "" when it can. Names backends, and not what they answered."""
        look = self._look
        if told := self.dead():
            return told
        if self._led is not None and not self._led.leads:
            return ""  # another is to be asked; this one is ready to take its place
        if look is None:
            return "no look at the fleet has ended yet"
        if self._invalid:
            return "the configuration is not valid; the one before is kept"
        if look.failures:
            names = ", ".join(sorted(map(harmless, look.failures)))
            return f"the last look was not complete: {names} could not be seen"
        return ""
