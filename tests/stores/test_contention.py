"""Many at once: the file store's lock under contention, with processes, and with threads that look and break beside them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from reconciler.errors import LeaseLost, StoreError
from reconciler.stores.base import Lease, LockInfo
from reconciler.stores.file.lease import Timing
from tests.stores.contention import contend
from tests.stores.places import a_store


@pytest.mark.slow
@pytest.mark.no_cover
def test_twelve_processes_take_turns_and_lose_nothing(tmp_path: Path) -> None:
    """The whole of it, fifty processes, is `make lock-contention`."""
    contest = contend(str(tmp_path / "state"), processes=12, rounds=5, log=tmp_path / "log")
    contest.demand_order()
    assert "60 turns, 0 overlaps, 0 lost updates, counter 60" in contest.text()
    assert contest.idle < 0.1 * sum(turn.waited for turn in contest.turns), (
        "waiting should cost next to nothing"
    )


def test_who_comes_later_lets_those_who_wait_have_a_look_first(tmp_path: Path) -> None:
    """Else who gives the lock back and takes it again at once would have it for ever."""
    store = a_store(tmp_path, timing=Timing(poll=0.01))
    order: list[str] = []
    waiting = threading.Event()

    def wait() -> None:
        with a_store(tmp_path, timing=Timing(poll=0.002)).lock(
            "plan", timeout=60.0, on_wait=lambda _: waiting.set()
        ):
            order.append("the other")

    first = store.lock("apply")
    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    while not (tmp_path / "research.lock.waiting").exists():
        pass
    slow = a_store(tmp_path, timing=Timing(poll=0.5))
    first.release()
    with slow.lock("apply", timeout=60.0):
        order.append("the one before")
    thread.join()
    assert order == ["the other", "the one before"]


def test_fifty_that_break_one_lock_break_that_one_only(tmp_path: Path) -> None:
    store = a_store(tmp_path, timing=Timing(renew=1e6))
    for _ in range(3):
        lease = store.lock("apply")
        broken: list[LockInfo] = []
        refused: list[StoreError] = []
        next_ones: list[Lease] = []
        start = threading.Barrier(50)

        def break_it(lock_id: str = lease.info.id, start: threading.Barrier = start) -> None:
            mine = a_store(tmp_path, timing=Timing(renew=1e6))
            start.wait()
            try:
                broken.append(mine.force_unlock(lock_id))  # noqa: B023 - joined before the next round
                next_ones.append(mine.lock("apply"))  # noqa: B023
            except StoreError as error:
                refused.append(error)  # noqa: B023

        threads = [threading.Thread(target=break_it) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [info.id for info in broken] == [lease.info.id]
        assert len(refused) == 49
        [follower] = next_ones
        follower.check()
        with pytest.raises(LeaseLost):
            lease.check()
        follower.release()


def test_looking_beside_those_who_take_turns_always_has_an_answer(tmp_path: Path) -> None:
    over = threading.Event()

    def take_turns() -> None:
        store = a_store(tmp_path)
        for _ in range(30):
            store.lock("apply", timeout=60.0).release()
        over.set()

    thread = threading.Thread(target=take_turns)
    thread.start()
    store, fences = a_store(tmp_path), [0]
    while not over.is_set():
        held = store.lock_info()
        if held is not None:
            fences.append(held.fence)
    thread.join()
    assert fences == sorted(fences)
    assert store.lock_info() is None
