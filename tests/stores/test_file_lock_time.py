"""The lock and the time: clocks that jump, machines that sleep, holders elsewhere. Nothing but a heartbeat proves life,
and nothing but a whole lease without one proves death."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.errors import LeaseLost, LockHeld
from reconciler.stores.base import LockInfo
from reconciler.stores.file.lease import FileLease, Timing
from reconciler.testing.store_conformance import a_state, created
from tests.stores.places import NOW, Clock, Machine, a_store

HOURS = 3 * 3600.0


class Elsewhere:
    """A run on another machine, whose wall clock is `ahead` of ours, and who waits for it. Both share the file system
    only: while the waiting one sleeps, `beats` says whether the other one's heart goes on."""

    def __init__(self, directory: Path, *, ahead: float = 0.0, beats: bool = True) -> None:
        self.clock = Clock()
        self.ahead = ahead
        self.beats = beats
        self.wall = 0.0  # what our own wall clock is off by
        there = Timing(renew=1e6, now=lambda: self.clock.time + self.ahead)
        self.holder = a_store(directory, host=Machine("there").process(7), timing=there)
        lease = self.holder.lock("apply")
        assert isinstance(lease, FileLease)
        self.lease = lease
        self.last_beat = self.clock.time
        here = Timing(
            renew=1e6,
            now=lambda: self.clock.time + self.wall,
            monotonic=lambda: self.clock.time,
            sleep=self._sleep,
            jitter=lambda: 0.5,
        )
        self.store = a_store(directory, host=Machine("here").process(8), timing=here)
        self.on_sleep: Callable[[], None] = lambda: None

    def _sleep(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.on_sleep()
        if self.beats and self.clock.time - self.last_beat >= 10.0:
            self.last_beat = self.clock.time
            assert self.lease.beat()


@pytest.mark.parametrize("off", [0.0, HOURS, -HOURS], ids=["equal", "ours hours ahead", "ours hours behind"])
@pytest.mark.parametrize("timeout", [0.0, 300.0], ids=["not to wait", "to wait for minutes"])
def test_a_holder_that_beats_keeps_its_lock_whatever_clocks_say(
    tmp_path: Path, off: float, timeout: float
) -> None:
    two = Elsewhere(tmp_path)
    two.wall = off
    with pytest.raises(LockHeld):
        two.store.lock("apply", timeout=timeout)
    two.lease.check()
    assert two.clock.time - NOW <= max(timeout, 30.0), "a living holder is watched no longer than a lease"
    two.lease.release()


@pytest.mark.parametrize("off", [0.0, HOURS, -HOURS], ids=["equal", "ours hours ahead", "ours hours behind"])
def test_a_dead_holder_is_followed_after_a_lease_whatever_clocks_say(tmp_path: Path, off: float) -> None:
    two = Elsewhere(tmp_path, beats=False)
    two.wall = off
    broken: list[LockInfo] = []
    with two.store.lock("apply", timeout=300.0, on_broken=broken.append) as lease:
        assert [info.id for info in broken] == [two.lease.info.id]
        assert 30.0 <= two.clock.time - NOW <= 31.0
        assert lease.info.fence == two.lease.info.fence + 1
    two.lease.release()


def test_a_wall_clock_that_jumps_while_one_waits_breaks_nothing(tmp_path: Path) -> None:
    two = Elsewhere(tmp_path)

    def jump() -> None:
        two.wall = HOURS if two.wall <= 0 else -HOURS

    two.on_sleep = jump
    with pytest.raises(LockHeld):
        two.store.lock("apply", timeout=300.0)
    two.lease.check()
    assert 300.0 <= two.clock.time - NOW <= 301.0
    two.lease.release()


def test_a_wall_clock_that_jumps_under_a_holder_breaks_nothing(tmp_path: Path) -> None:
    two = Elsewhere(tmp_path)

    def jump() -> None:
        two.ahead = HOURS if two.ahead <= 0 else -HOURS

    two.on_sleep = jump
    with pytest.raises(LockHeld):
        two.store.lock("apply", timeout=300.0)
    two.holder.write(two.lease, a_state("a"))
    two.lease.release()


def test_who_was_not_to_wait_watches_only_a_lease_that_is_over_and_says_so(tmp_path: Path) -> None:
    two = Elsewhere(tmp_path, beats=False)
    with pytest.raises(LockHeld, match="its lease lasts 30 s unless renewed"):
        two.store.lock("apply")
    assert two.clock.slept == []
    two.clock.time += 31.0
    waits: list[LockInfo] = []
    with two.store.lock("apply", on_wait=waits.append):
        assert [info.id for info in waits] == [two.lease.info.id]
        assert sum(two.clock.slept) == pytest.approx(30.0, abs=0.3)
    two.lease.release()


def test_a_watcher_that_slept_lets_a_holder_that_slept_as_well_wake_up(tmp_path: Path) -> None:
    """Two containers that were frozen together, two machines on a suspended laptop: the lease ran out for both."""
    two = Elsewhere(tmp_path)
    frozen = False

    def freeze() -> None:
        nonlocal frozen
        if not frozen:
            frozen = True
            two.clock.time += HOURS
            two.last_beat = two.clock.time - 5.0  # its own heart waits for the rest of its ten seconds

    two.on_sleep = freeze
    with pytest.raises(LockHeld):
        two.store.lock("apply", timeout=HOURS + 60.0)
    two.lease.check()
    two.lease.release()


def test_a_holder_that_slept_through_a_takeover_writes_nothing_when_it_wakes(tmp_path: Path) -> None:
    two = Elsewhere(tmp_path, beats=False)
    base = two.holder.write(two.lease, a_state("a"))
    with two.store.lock("apply", timeout=60.0) as lease:
        two.store.append(lease, created("theirs"))
        left = two.store.read()
        files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert not two.lease.beat()
        for attempt in (
            two.lease.check,
            lambda: two.holder.append(two.lease, created("late")),
            lambda: two.holder.write(two.lease, replace(base, serial=99)),
        ):
            with pytest.raises(LeaseLost, match=r"ann@here \(pid 8, apply\) holds it now"):
                attempt()
        two.lease.release()
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
        assert two.store.read() == left
        lease.check()


def test_a_lease_of_a_clock_that_is_hours_ahead_does_not_outlive_its_holder(tmp_path: Path) -> None:
    """It would look valid for hours. Nobody's lease lasts that long, so it is watched even by who was not to wait."""
    two = Elsewhere(tmp_path, ahead=HOURS, beats=False)
    with two.store.lock("apply"):
        assert 30.0 <= two.clock.time - NOW <= 31.0
    two.lease.release()
