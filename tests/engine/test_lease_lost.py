"""The lock is taken from a run in the middle: nothing new is begun, what is under way ends, nothing is written over whoever
holds it now, and the message says how far it came."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from reconciler.engine.workflow import ApplyReport
from reconciler.errors import LeaseLost, StoreError
from reconciler.model.event import StepEnded
from reconciler.model.outcome import Entry, Outcome, StepStatus
from reconciler.model.state import State
from reconciler.stores.base import Lease
from tests.support.build import desired, wanted
from tests.support.running import WRITES, Stack, WatchedStore


class Taken(WatchedStore):
    """Its lock is taken, by force, right before the `nth` append."""

    nth = 0
    appends = 0
    thief: Lease | None = None

    def take(self) -> None:
        held = self.lock_info()
        assert held is not None
        self.force_unlock(held.id)
        self.thief = self.lock("destroy")
        self._log.append("taken")

    def append(self, lease: Lease, entries: Sequence[Entry]) -> None:
        self.appends += 1
        if self.appends == self.nth:
            self.take()
        super().append(lease, entries)


def a_stack(count: int = 4) -> tuple[Stack, Taken]:
    stack = Stack(desired(*(wanted(f"s[{i}]", image="one") for i in range(count))))
    stack.store = store = Taken(stack.desired.stack, stack.log)
    return stack, store


def applied(stack: Stack, **options: Any) -> tuple[ApplyReport | None, LeaseLost | None]:
    try:
        return stack.apply(**options), None
    except LeaseLost as lost:
        return None, lost


@pytest.mark.parametrize("nth", range(1, 10))
def test_whenever_it_is_taken_nothing_is_begun_after_that_and_the_next_run_converges(nth: int) -> None:
    stack, store = a_stack()
    store.nth = nth
    _, lost = applied(stack, parallelism=1)
    if store.thief is None:
        assert lost is None, "it was over before"
        return
    assert lost is not None
    assert not set(stack.log[stack.log.index("taken") :]) & {*WRITES, "snapshot"}
    assert "(destroy) holds it now" in lost.message
    assert "of 4 steps" in lost.message
    assert "run the command again" in lost.hint
    store.thief.check()
    store.thief.release()
    applied(stack)
    assert stack.plan().empty
    assert len(stack.ids()) == 4


def test_what_the_new_holder_wrote_stays_as_it_wrote_it() -> None:
    stack, store = a_stack()
    stack.apply()
    stack.desired = desired(*(wanted(f"s[{i}]", image="two") for i in range(4)))
    theirs: list[State | None] = []
    take = store.take

    def take_and_write() -> None:
        take()
        state = store.read()
        assert state is not None
        assert store.thief is not None
        theirs.append(store.write(store.thief, state))

    store.take, store.nth = take_and_write, store.appends + 3  # type: ignore[method-assign]
    _, lost = applied(stack, parallelism=1)
    assert lost is not None
    assert theirs == [store.read()]
    assert next(version.serial for version in store.history()) == theirs[0].serial  # type: ignore[union-attr]


def test_what_is_under_way_is_waited_for_and_told() -> None:
    stack, store = a_stack(2)
    under_way, go_on = threading.Event(), threading.Event()
    slow, calls = stack.memory.create, itertools.count()

    def create(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 0:
            under_way.set()
            go_on.wait(20.0)
        else:
            under_way.wait(20.0)
            store.nth = store.appends + 1  # this one's outcome is the one that cannot be written
        return slow(*args, **kwargs)

    stack.memory.create = create  # type: ignore[method-assign]
    taken = store.take

    def take() -> None:
        taken()
        go_on.set()

    store.take = take  # type: ignore[method-assign]
    _, lost = applied(stack, parallelism=2)
    assert lost is not None
    assert len(stack.ids()) == 2, "a call that was under way was left alone"
    assert not [e for e in stack.events if isinstance(e, StepEnded) and e.result.status is StepStatus.FAILED]


def test_calls_that_wait_for_a_thread_are_not_begun() -> None:
    """More is handed out than runs at once, so that no thread idles; none of that may begin after the loss."""
    stack, store = a_stack(40)
    started = threading.Semaphore(0)
    go_on = threading.Event()
    create, take = stack.memory.create, store.take

    def blocking(*args: Any, **kwargs: Any) -> Any:
        started.release()
        go_on.wait(20.0)
        return create(*args, **kwargs)

    def notice() -> None:
        for _ in range(8):
            started.acquire()
        take()
        lease.lost = LeaseLost("the lock was taken from this run")  # as the heartbeat finds out
        go_on.set()

    stack.memory.create = blocking  # type: ignore[method-assign]
    lock, lease = store.lock, None

    def locked(*args: Any, **kwargs: Any) -> Lease:
        nonlocal lease
        lease = lock(*args, **kwargs)
        store.lock = lock  # type: ignore[method-assign]
        return lease

    store.lock = locked  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=notice)
    thread.start()
    _, lost = applied(stack, parallelism=8)
    thread.join()
    assert lost is not None
    assert len(stack.ids()) == stack.backend.count("create") == 8


def test_what_the_heartbeat_found_out_ends_a_wait_in_which_nothing_is_written() -> None:
    stack, store = a_stack(1)
    stack.memory._ready_seconds = 3600.0
    leases: list[Lease] = []
    lock = store.lock

    def locked(*args: Any, **kwargs: Any) -> Lease:
        leases.append(lock(*args, **kwargs))
        return leases[-1]

    store.lock = locked  # type: ignore[method-assign]

    def probed(verb: str, n: int) -> None:
        if (verb, n) == ("probe", 3):
            leases[0].lost = LeaseLost("the lock was taken from this run")

    stack.backend.fault = probed
    _, lost = applied(stack)
    assert lost is not None
    assert "0 of 1 steps were done by then" in lost.message
    assert stack.backend.count("probe") <= 4


def test_a_snapshot_that_the_loss_comes_before_is_told_after_what_was_done() -> None:
    stack, store = a_stack(1)
    write = store.write

    def taken(lease: Lease, state: State) -> State:
        if stack.ids():
            store.take()
        return write(lease, state)

    store.write = taken  # type: ignore[method-assign]
    _, lost = applied(stack)
    assert isinstance(lost, LeaseLost)
    [ended] = [e for e in stack.events if isinstance(e, StepEnded)]
    assert ended.result.status is StepStatus.DONE


def test_a_journal_that_cannot_be_written_waits_for_what_is_under_way_as_well() -> None:
    stack, store = a_stack(2)
    append = store.append
    under_way, go_on = threading.Event(), threading.Event()
    create, calls = stack.memory.create, itertools.count()

    def slow(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 0:
            under_way.set()
            go_on.wait(20.0)
        else:
            under_way.wait(20.0)
        return create(*args, **kwargs)

    def full(lease: Lease, entries: Sequence[Entry]) -> None:
        if any(isinstance(entry, Outcome) for entry in entries):
            go_on.set()
            raise StoreError("disk full")
        append(lease, entries)

    stack.memory.create = slow  # type: ignore[method-assign]
    store.append = full  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="disk full"):
        stack.apply(parallelism=2)
    assert len(stack.ids()) == 2
