"""Virtual time for a loop that waits, and for others who act meanwhile: one of them moves at a time, so the same hour
always passes the same.

The watch runs on the thread of the test; a person's run has a thread of its own, which goes on only while the watch waits.
Nothing here ever sleeps.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from reconciler.core.calls import Call, Limits
from reconciler.engine.execute import Crew
from reconciler.engine.stop import StopRequest
from reconciler.engine.wishes import Wishes
from reconciler.engine.workers import Workers

TICK = 0.1  # seconds that go by whenever the coordinator of a run asks for the time
WATCH = "watch"
_MOST_WAITS = 100  # without time going by


class Stop(StopRequest):
    """Wakes whoever listens to it, without a wish to stop: then a run never sleeps."""

    def wake(self) -> None:
        if self._wake is not None:
            self._wake()


class Timeline:
    """The clock of everybody in the simulation. `actor` is who moves now. The steady clock is `time`, the one on the wall may
    `jump`."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.actor = WATCH
        self._skew = 1_800_000_000.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._runs: dict[str, Stop] = {}
        self._others: dict[str, Somebody] = {}

    def now(self) -> float:
        return self.time + self._skew

    def steady(self) -> float:
        return self.time

    def monotonic(self) -> float:
        """Moves on while the one who asks carries out a plan: its coordinator asks in every round."""
        stop = self._runs.get(self.actor)
        if stop is not None:
            self.sleep(TICK)
            stop.wake()
        return self.time

    def jump(self, seconds: float) -> None:
        """Of the clock on the wall."""
        self._skew += seconds

    def at(self, when: float, effect: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (max(when, self.time), next(self._serial), effect))

    def sleep(self, seconds: float) -> None:
        """For the one who moves; everybody else may move meanwhile."""
        if self.actor == WATCH:
            self.pass_until(self.time + seconds)
        else:
            self._others[self.actor].sleep(seconds)

    def pass_until(self, until: float, enough: Callable[[], bool] = lambda: False) -> None:
        while self._agenda and self._agenda[0][0] <= until and not enough():
            when, _, effect = heapq.heappop(self._agenda)
            self.time = max(self.time, when)
            effect()
        if not enough():
            self.time = max(self.time, until)

    @property
    def is_running(self) -> bool:
        """Whether the one who moves is carrying out a plan."""
        return self.actor in self._runs

    def begin(self, name: str, job: Callable[[], None]) -> None:
        """`job` begins now, as somebody of that name."""
        somebody = self._others[name] = Somebody(name, self, job)
        somebody.move()


class Somebody:
    """Another actor. Its thread moves only while the watch waits for it."""

    def __init__(self, name: str, timeline: Timeline, job: Callable[[], None]) -> None:
        self._name = name
        self._timeline = timeline
        self._job = job
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        self._go.acquire()
        try:
            self._job()
        finally:
            self._back.release()

    def move(self) -> None:
        before, self._timeline.actor = self._timeline.actor, self._name
        self._go.release()
        self._back.acquire()
        self._timeline.actor = before

    def sleep(self, seconds: float) -> None:
        self._timeline.at(self._timeline.time + seconds, self.move)
        self._back.release()
        self._go.acquire()


class Hands(Crew):
    """Makes each call at once, on the thread of whoever carries out the plan, which is `stop`ped by this."""

    def __init__(self, limits: Limits, timeline: Timeline, stop: Stop) -> None:
        super().__init__(limits)
        self._at_once = _AtOnce()
        self._timeline = timeline
        self._actor = timeline.actor
        timeline._runs[self._actor] = stop

    def of(self, call: Call) -> Workers:
        return self._at_once

    def close(self) -> None:
        self._timeline._runs.pop(self._actor, None)


class _AtOnce(Workers):
    def __init__(self) -> None:
        super().__init__("hands", 0)

    def put(self, job: Callable[[], None]) -> None:
        job()


class Nudges(Wishes):
    """The watch waits here, and everything else happens meanwhile. `look_in` is called before."""

    def __init__(self, timeline: Timeline, look_in: Callable[[], None]) -> None:
        super().__init__()
        self._timeline = timeline
        self._look_in = look_in
        self._wishes: set[str] = set()
        self._waits: tuple[float, int] = (0.0, 0)

    def put(self, wish: str) -> None:
        self._wishes.add(wish)

    def wait(self, seconds: float) -> set[str]:
        time = self._timeline.time
        self._waits = (time, self._waits[1] + 1 if self._waits[0] == time else 1)
        assert self._waits[1] < _MOST_WAITS, "it goes round and round without a pause"
        self._look_in()
        self._timeline.pass_until(time + seconds, lambda: bool(self._wishes))
        found, self._wishes = self._wishes, set()
        return found
