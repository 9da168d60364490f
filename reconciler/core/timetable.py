"""When something is due: runs to be looked at again, and calls to be given up on. Pure bookkeeping of the Scheduler."""

from __future__ import annotations

import heapq

from msgspec import Struct, field

from reconciler.core.calls import Run


class Timetable(Struct):
    """Times in seconds on the driver's monotonic clock."""

    _runs: list[tuple[float, int, Run]] = field(default_factory=list)
    _limits: list[tuple[float, int]] = field(default_factory=list)
    _serial: int = 0

    @property
    def waiting(self) -> bool:
        """Whether any run is due at some time."""
        return bool(self._runs)

    def at(self, when: float, run: Run) -> None:
        """The run is due then; of several at the same time, the one that was put first."""
        self._serial += 1
        heapq.heappush(self._runs, (when, self._serial, run))

    def due(self, now: float) -> Run | None:
        """The run that is due first, if it is by now. It stays until it is taken."""
        return self._runs[0][2] if self._runs and self._runs[0][0] <= now else None

    def take(self) -> None:
        heapq.heappop(self._runs)

    def limit(self, when: float, call_id: int) -> None:
        """The call is given up on then, unless it was answered, or heard of, before."""
        heapq.heappush(self._limits, (when, call_id))

    def lift_limits(self) -> None:
        """Nothing is in flight."""
        self._limits.clear()

    def expired(self, now: float) -> int | None:
        """Takes the next call whose time is over, if there is one."""
        return heapq.heappop(self._limits)[1] if self._limits and self._limits[0][0] <= now else None

    def next(self, *, after: float | None = None) -> float | None:
        """The next time that anything is due; None when nothing is. Runs that are due by `after` already wait for something
        else than the time."""
        times = [self._limits[0][0]] if self._limits else []
        if self._runs and (after is None or self._runs[0][0] > after):
            times.append(self._runs[0][0])
        return min(times) if times else None
