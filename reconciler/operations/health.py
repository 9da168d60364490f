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

    def unready(self) -> str:
        """Why what the watch says cannot be relied on, "" when it can. Names backends, and not what they answered."""
        look = self._look
        if told := self.dead():
            return told
        if look is None:
            return "no look at the fleet has ended yet"
        if self._invalid:
            return "the configuration is not valid; the one before is kept"
        if look.failures:
            names = ", ".join(sorted(map(harmless, look.failures)))
            return f"the last look was not complete: {names} could not be seen"
        return ""
