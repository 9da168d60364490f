"""The lock between processes: real ones that are killed and stopped, and pretended ones on other machines. What time does
to it is in `test_file_lock_time.py`, what many at once do in `test_contention.py`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.errors import LeaseLost, LockHeld, StoreError
from reconciler.stores import host
from reconciler.stores.base import LockInfo
from reconciler.stores.file.lease import FileLease, Timing
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores.places import NOW, Clock, Machine, a_store


@contextmanager
def child(home: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is certainly gone and collected afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stores.contender", home], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(is_so: Callable[[], bool]) -> None:
    """Bounded by 20 s, for what another thread or process is about to do."""
    patience_ends = time.monotonic() + 20.0
    while not is_so():
        assert time.monotonic() < patience_ends
        time.sleep(0.002)


# --- real processes


@pytest.mark.parametrize("collected", [False, True], ids=["still a zombie", "collected by its parent"])
def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path, collected: bool) -> None:
    with child(str(tmp_path)) as process:
        assert process.stdout is not None
        lock_id = process.stdout.readline().strip()
        with pytest.raises(LockHeld, match=f"pid {process.pid}, apply"):
            a_store(tmp_path).lock("plan")
        os.kill(process.pid, signal.SIGKILL)
        if collected:
            process.wait()
        else:
            wait_until(lambda: host.process_started(process.pid) is None)
        broken: list[LockInfo] = []
        with a_store(tmp_path).lock("apply", on_broken=broken.append) as lease:
            assert [(info.id, info.pid) for info in broken] == [(lock_id, process.pid)]
            assert lease.info.fence == broken[0].fence + 1


def test_the_lock_of_a_stopped_process_is_kept_however_late_it_is(tmp_path: Path) -> None:
    """Not dead: it may go on any moment. People decide, with force-unlock, and then it writes nothing more."""
    with child(str(tmp_path)) as process:
        assert process.stdout is not None
        lock_id = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGSTOP)
        late = a_store(tmp_path, timing=Timing(now=lambda: time.time() + 1e6))
        with pytest.raises(LockHeld, match="its lease ran out") as refused:
            late.lock("apply")
        assert f"kill -CONT {process.pid}" in refused.value.hint
        late.force_unlock(lock_id)
        with late.lock("apply") as lease:
            demand_silence(process, tmp_path)
            lease.check()


def test_a_stopped_process_that_was_followed_from_elsewhere_writes_nothing_when_it_goes_on(
    tmp_path: Path,
) -> None:
    with child(str(tmp_path)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)
        there = a_store(tmp_path, host=Machine("there").process(8), timing=Clock().timing(renew=1e6))
        with there.lock("apply", timeout=60.0) as lease:
            state = there.read()
            assert state is not None
            there.write(lease, state)
            there.append(lease, created("theirs"))
            demand_silence(process, tmp_path)
            lease.check()


def demand_silence(stopped: subprocess.Popen[str], directory: Path) -> None:
    """It goes on, tries everything, is told so, and no byte of anything changes."""
    assert stopped.stdout is not None
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert any(".history" in str(path) for path in before)
    os.kill(stopped.pid, signal.SIGCONT)
    assert [stopped.stdout.readline().split(":")[0] for _ in range(2)] == ["LeaseLost", "LeaseLost"]
    assert stopped.wait(timeout=20) == 0
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


# --- who counts as dead


@dataclass(frozen=True)
class Case:
    says: str
    holder: Machine
    seconds_later: float
    now_there: str | OSError | None
    broken: bool
    boot: str = "boot-1"


CASES = (
    Case("a process of this machine that lives is never broken", Machine(), 1e6, "t1", broken=False),
    Case("a process of this machine that is gone is broken at once", Machine(), 0, None, broken=True),
    Case("a pid that another process has by now is broken at once", Machine(), 0, "t2", broken=True),
    Case("a process that nobody can look at counts as alive", Machine(), 1e6, OSError("?"), broken=False),
    Case("a holder elsewhere is kept while its lease runs", Machine("there"), 29.9, None, broken=False),
    Case(
        "a holder elsewhere is broken when its lease has run out", Machine("there"), 30.0, None, broken=True
    ),
    Case(
        "a namesake of this machine, or this one before a restart, is judged by its lease: kept",
        Machine(boot="boot-0"),
        29.9,
        None,
        broken=False,
    ),
    Case(
        "a namesake of this machine, or this one before a restart, is judged by its lease: broken",
        Machine(boot="boot-0"),
        30.0,
        None,
        broken=True,
    ),
    Case("without a boot id pids prove nothing", Machine(boot=""), 29.9, None, broken=False, boot=""),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_a_holder_is_broken_only_when_it_is_certainly_dead(tmp_path: Path, case: Case) -> None:
    clock = Clock()
    here = Machine(boot=case.boot)
    held = a_store(tmp_path, host=case.holder.process(7), timing=clock.timing(renew=1e6)).lock("apply")
    clock.time += case.seconds_later
    mine = here.process(8)
    here.processes[7] = case.now_there
    store = a_store(tmp_path, host=mine, timing=clock.timing(renew=1e6))
    broken: list[LockInfo] = []
    if case.broken:
        with store.lock("apply", on_broken=broken.append):
            assert broken == [held.info]
    else:
        with pytest.raises(LockHeld):
            store.lock("apply", on_broken=broken.append)
        assert broken == []
    held.release()


def test_containers_of_one_machine_do_not_judge_each_others_pids() -> None:
    """They share kernel and boot id, often the host name too, but not their pids."""
    if not os.path.exists("/proc/self/ns/pid"):
        pytest.skip("no pid namespaces here")
    assert os.readlink("/proc/self/ns/pid") in host.this_host().boot


# --- waiting and being told


def test_who_waits_is_told_once_and_looks_at_an_even_pace_until_time_is_up(tmp_path: Path) -> None:
    clock, machine = Clock(), Machine()
    held = a_store(tmp_path, host=machine.process(7), timing=clock.timing(renew=1e6)).lock("apply")
    store = a_store(tmp_path, host=machine.process(8), timing=clock.timing(poll=2.0))
    waits: list[LockInfo] = []
    with pytest.raises(LockHeld) as refused:
        store.lock("plan", timeout=5.0, on_wait=waits.append)
    assert waits == [held.info]
    assert clock.slept == [2.0, 2.0, 1.0]
    assert refused.value.message.endswith(
        "is locked by ann@here (pid 7, apply) since 2027-01-15 08:00:00 UTC (5 s ago); "
        "its lease lasts 25 s unless renewed"
    )
    assert f"research.json is locked by {held.info.holder}" in refused.value.message
    assert refused.value.hint == (
        "wait for it with `--lock-timeout 5m`, or, if that run is certainly dead, "
        f"`reconciler force-unlock {held.info.id}`"
    )
    held.release()


def test_nobody_waits_without_being_asked_to(tmp_path: Path) -> None:
    clock, machine = Clock(), Machine()
    held = a_store(tmp_path, host=machine.process(7), timing=clock.timing(renew=1e6)).lock("apply")
    waits: list[LockInfo] = []
    with pytest.raises(LockHeld):
        a_store(tmp_path, host=machine.process(8), timing=clock.timing()).lock("apply", on_wait=waits.append)
    assert waits == []
    assert clock.slept == []
    held.release()


def test_the_lock_says_what_there_is_to_say(tmp_path: Path) -> None:
    store = a_store(tmp_path, host=Machine().process(7), timing=Clock().timing(renew=1e6))
    with store.lock("apply") as lease:
        assert lease.info.to_dict() == {
            "id": lease.info.id,
            "who": "ann@here",
            "host": "here",
            "pid": 7,
            "operation": "apply",
            "since": NOW,
            "expires": NOW + 30.0,
            "fence": 1,
        }
        assert len(lease.info.id) == 32


def test_the_lock_of_a_dead_holder_is_still_shown(tmp_path: Path) -> None:
    machine = Machine()
    held = a_store(tmp_path, host=machine.process(7)).lock("apply")
    machine.processes[7] = None
    assert a_store(tmp_path, host=machine.process(8)).lock_info() == held.info
    held.release()


# --- heartbeat and fence


def test_the_heartbeat_renews_the_lease_and_ends_with_it(tmp_path: Path) -> None:
    store = a_store(tmp_path, timing=Timing(renew=0.005))
    before = set(threading.enumerate())
    lease = store.lock("apply")
    (heart,) = set(threading.enumerate()) - before
    for _ in range(2):
        seen = store.lock_info()
        assert seen is not None
        expires = seen.expires
        wait_until(lambda late=expires: (store.lock_info() or lease.info).expires > late)  # type: ignore[misc]
    renewed = store.lock_info()
    assert renewed is not None
    assert (renewed.id, renewed.since, renewed.fence) == (lease.info.id, lease.info.since, lease.info.fence)
    lease.check()
    lease.release()
    assert not heart.is_alive()
    assert store.lock_info() is None


def test_a_heartbeat_that_finds_the_lock_taken_stops_and_takes_nothing_back(tmp_path: Path) -> None:
    store = a_store(tmp_path, timing=Timing(renew=0.005))
    before = set(threading.enumerate())
    lease = store.lock("apply")
    (heart,) = set(threading.enumerate()) - before
    other = a_store(tmp_path, timing=Timing(renew=1e6))
    other.force_unlock(lease.info.id)
    with other.lock("destroy") as second:
        heart.join(timeout=20.0)
        assert not heart.is_alive()
        with pytest.raises(LeaseLost, match="destroy"):
            lease.check()
        lease.release()
        assert other.lock_info() == second.info


def test_a_heartbeat_survives_a_disk_that_fails_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    store = a_store(tmp_path / "state", timing=clock.timing(renew=1e6))
    with store.lock("apply") as lease:
        assert isinstance(lease, FileLease)
        (tmp_path / "state").rename(tmp_path / "unplugged")
        with pytest.raises(StoreError):
            lease.check()
        assert lease.beat()
        (tmp_path / "unplugged").rename(tmp_path / "state")
        clock.time += 5
        assert lease.beat()
        assert store.lock_info() == replace(lease.info, expires=NOW + 35.0)
        lease.check()
        store.force_unlock(lease.info.id)
        assert not lease.beat()


def test_releasing_never_raises(tmp_path: Path) -> None:
    store = a_store(tmp_path / "state")
    lease = store.lock("apply")
    (tmp_path / "state").rename(tmp_path / "unplugged")
    lease.release()
    lease.release()


def test_an_old_lease_is_refused_even_by_a_record_of_the_same_id(tmp_path: Path) -> None:
    """The fence decides, not only the id: a lock file that was restored from a copy gives no way in."""
    store = a_store(tmp_path)
    with store.lock("apply") as lease:
        store.write(lease, a_state())
        path = tmp_path / f"{STACK}.lock"
        record = json.loads(path.read_text())
        record["holder"]["fence"] += 1
        path.write_text(json.dumps(record))
        with pytest.raises(LeaseLost):
            store.append(lease, created("a"))


def test_an_old_lease_is_refused_even_by_a_record_of_the_same_fence(tmp_path: Path) -> None:
    """The id decides, not only the fence: a lock file that somebody removed counts from one again."""
    store = a_store(tmp_path, timing=Timing(renew=1e6))
    with store.lock("apply") as lease:
        store.write(lease, a_state())
        (tmp_path / f"{STACK}.lock").unlink()
        with store.lock("apply") as second:
            assert second.info.fence == lease.info.fence
            with pytest.raises(LeaseLost):
                store.append(lease, created("a"))


def test_nobody_can_take_the_lock_while_a_write_is_under_way(tmp_path: Path) -> None:
    """Check and write are one: the guard is held from the fence's check to the end of the write."""
    store = a_store(tmp_path, timing=Timing(renew=1e6))
    with store.lock("apply") as lease:
        taken = threading.Event()

        def take() -> None:
            other = a_store(tmp_path)
            other.force_unlock(lease.info.id)
            taken.set()

        thread = threading.Thread(target=take)
        with store._lock.held_by(lease):
            thread.start()
            assert not taken.wait(0.05)
            lease.check()
        thread.join()
        assert taken.is_set()


# --- processes


def test_a_living_process_has_a_beginning_that_stays() -> None:
    assert host.process_started(os.getpid()) == host.process_started(os.getpid()) is not None


def test_a_process_with_a_confusing_name_is_read_right(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 ("
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(program), "60"])
    try:
        assert host.process_started(process.pid) is not None
    finally:
        process.kill()
        process.wait()
    assert host.process_started(process.pid) is None


@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps here")
def test_ps_tells_the_same_as_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of macOS, wherever there is a `ps`."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        started = host._started_by_ps(process.pid)
        assert started == host._started_by_ps(process.pid) is not None
        process.kill()
        wait_until(lambda: host._started_by_ps(process.pid) is None)  # a zombie first
    finally:
        process.kill()
        process.wait()
    assert host._started_by_ps(process.pid) is None
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(OSError, match="ps"):
        host._started_by_ps(os.getpid())
