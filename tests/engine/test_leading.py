"""Which of several watches looks: one that leads, until it is asked to stop or loses the leadership."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from reconciler.engine.context import BackendPool, Context
from reconciler.engine.leading import Leading
from reconciler.engine.stop import StopRequest
from reconciler.engine.watch import Watch, WatchOptions
from reconciler.errors import ConfigError, LeaseLost, StoreError
from reconciler.model.desired import Desired
from reconciler.model.watching import LeadershipChanged, Looked, WatchEvent, WatchStopped
from reconciler.stores.base import Candidate, Lease, LockInfo
from reconciler.stores.memory import MemoryStore

THEM = LockInfo(id="1", who="ann@there", host="there", pid=7, operation="watch", since=0, expires=0, fence=1)


class Led(Lease):
    """Held until it is said to be lost."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self.info = THEM
        self.released = 0
        self._on_lost = on_lost

    def lose(self) -> None:
        self.lost = LeaseLost("the lease could not be renewed for 10 s")
        self._on_lost()

    def check(self) -> None:
        if self.lost is not None:
            raise self.lost

    def release(self) -> None:
        self.released += 1


class Scripted(Candidate):
    """Each attempt comes to what the script says: True for the leadership, None for nothing, or what it raises."""

    poll = 0.001

    def __init__(self, script: Sequence[object], on_lost: Callable[[], None]) -> None:
        self.terms: list[Led] = []
        self.closed = False
        self._script = list(script)
        self._on_lost = on_lost

    def attempt(self) -> Lease | None:
        now = self._script.pop(0) if self._script else None
        if isinstance(now, Exception):
            raise now
        self.leader = None if now == "nobody" else THEM
        if now is not True:
            return None
        self.terms.append(Led(self._on_lost))
        return self.terms[-1]

    def close(self) -> None:
        self.closed = True


class ElectingStore(MemoryStore):
    def __init__(self, script: Sequence[object]) -> None:
        super().__init__("research")
        self._script = script
        self.made: Scripted | None = None

    def candidate(self, *, on_lost: Callable[[], None]) -> Candidate | None:
        self.made = Scripted(self._script, on_lost)
        return self.made


class Bench:
    """A watch of nothing on a store with that script. `heard` may answer to what is told, on the thread of the watch."""

    def __init__(self, script: Sequence[object], heard: Callable[[Bench, WatchEvent], None]) -> None:
        self.store = ElectingStore(script)
        self.told: list[WatchEvent] = []
        self.stop = StopRequest()
        self.opened = 0
        self._heard = heard
        self.leading = Leading(self, self._make, tell=self.tell, stop=self.stop)

    def _make(self, stop: StopRequest) -> Watch:
        return Watch(self, WatchOptions(interval=0.01), tell=self.tell, stop=stop)

    @contextmanager
    def open(self) -> Iterator[Context]:
        self.opened += 1
        desired = Desired(stack="research", sandboxes={}, backends={})
        yield Context(desired=desired, store=self.store, backends=BackendPool({}, lambda _: None))  # type: ignore[arg-type, return-value]

    def changed(self) -> bool:
        return False

    def tell(self, event: WatchEvent) -> None:
        self.told.append(event)
        self._heard(self, event)

    @property
    def terms(self) -> list[Led]:
        assert self.store.made is not None
        return self.store.made.terms

    def leadership(self) -> list[tuple[bool, str, str]]:
        return [(e.leads, e.leader, e.why) for e in self.told if isinstance(e, LeadershipChanged)]


def looks(told: Sequence[WatchEvent]) -> int:
    return sum(isinstance(event, Looked) for event in told)


def test_who_stands_by_looks_at_nothing_and_says_so_once() -> None:
    def heard(bench: Bench, event: WatchEvent) -> None:
        if isinstance(event, LeadershipChanged):
            threading.Timer(0.05, bench.stop.request).start()

    bench = Bench([None] * 5, heard)
    bench.leading.run()
    assert bench.leadership() == [(False, THEM.holder, "")]
    assert looks(bench.told) == 0
    assert bench.store.made is not None
    assert bench.store.made.closed


def test_who_leads_looks_and_gives_the_leadership_back_at_the_end() -> None:
    bench = Bench(
        [None, True], lambda bench, event: bench.stop.request() if isinstance(event, Looked) else None
    )
    bench.leading.run()
    assert bench.leadership() == [(False, THEM.holder, ""), (True, THEM.holder, "")]
    assert looks(bench.told) == 1
    [term] = bench.terms
    assert term.released == 1
    assert isinstance(bench.told[-1], WatchStopped)


def test_who_loses_the_leadership_stops_at_once_and_may_lead_again_with_a_configuration_read_anew() -> None:
    def heard(bench: Bench, event: WatchEvent) -> None:
        if isinstance(event, Looked):
            if len(bench.terms) == 1:
                bench.terms[0].lose()
            else:
                bench.stop.request()

    bench = Bench([True, None, True], heard)
    bench.leading.run()
    lost = "the lease could not be renewed for 10 s"
    assert bench.leadership() == [
        (True, THEM.holder, ""),
        (False, "", lost),
        (False, THEM.holder, ""),
        (True, THEM.holder, ""),
    ]
    assert looks(bench.told) == 2
    assert bench.opened == 3  # to stand by, and for each term


def test_a_leadership_that_is_lost_before_the_watch_begins_is_none() -> None:
    def heard(bench: Bench, event: WatchEvent) -> None:
        match bench.leadership():
            case [*_, (True, _, _)] if len(bench.terms) == 1:
                bench.terms[0].lose()
            case [*_, (False, "", _)]:
                bench.stop.request()

    bench = Bench([True], heard)
    bench.leading.run()
    assert looks(bench.told) == 0


def test_a_server_that_cannot_be_asked_is_told_once_and_asked_again() -> None:
    away = StoreError("the API server refuses connections")
    bench = Bench(
        [away, away, away, "nobody", True],
        lambda bench, event: bench.stop.request() if isinstance(event, Looked) else None,
    )
    bench.leading.run()
    assert bench.leadership() == [(False, "", away.message), (False, "", ""), (True, THEM.holder, "")]


def test_what_keeps_the_watch_from_beginning_gives_the_leadership_back() -> None:
    bench = Bench([True], lambda *_: None)
    opened = bench.open

    @contextmanager
    def once() -> Iterator[Context]:
        if bench.opened:
            raise ConfigError("broken meanwhile")
        with opened() as context:
            yield context

    bench.open = once  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="broken meanwhile"):
        bench.leading.run()
    assert bench.terms[0].released == 1


def test_a_store_without_leadership_is_refused() -> None:
    bench = Bench([], lambda *_: None)
    bench.store = MemoryStore("research")  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="keeps no leadership") as refused:
        bench.leading.run()
    assert "state: {store: kubernetes}" in refused.value.hint
