"""The lock between processes and machines, by the clock of a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

from reconciler.errors import LeaseLost, LockHeld, StoreError
from reconciler.stores import host
from reconciler.stores.base import LockInfo
from reconciler.stores.postgres import PostgresStore, snapshots
from reconciler.stores.postgres.lease import PostgresLease, Timing
from reconciler.stores.postgres.session import Connection
from reconciler.testing.store_conformance import a_state, created
from tests.stores.contention import contend
from tests.stores.databases import a_store, schema_of
from tests.stores.places import Machine
from tests.stores.test_file_lock import wait_until
from tests.support.effort import effort
from tests.support.postgres import Postgres, requires_postgres

pytestmark = requires_postgres
QUIET = Timing(renew=1e6)


class Home:
    """Stores of one state, closed at the end."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.stores: list[PostgresStore] = []

    def open(
        self,
        machine: Machine | None = None,
        pid: int = 7,
        timing: Timing = QUIET,
        timeout: float = 10.0,
    ) -> PostgresStore:
        who = host.this_host() if machine is None else machine.process(pid)
        store = a_store(self.server.url(), self.folder, host=who, timing=timing, timeout=timeout)
        self.stores.append(store)
        return store

    def age(self, seconds: float) -> None:
        """As if the lease had been taken that much earlier by the server's clock."""
        options = f"-c search_path={schema_of(self.folder)}"
        with psycopg.connect(self.server.url(), autocommit=True, options=options) as connection:
            connection.execute(
                "update reconciler_lock set since = since - make_interval(secs => %(s)s),"
                " expires = expires - make_interval(secs => %(s)s)",
                {"s": seconds},
            )


@pytest.fixture
def home(postgres: Postgres, tmp_path: Path) -> Iterator[Home]:
    made = Home(postgres, tmp_path)
    yield made
    for store in made.stores:
        store.close()


@contextmanager
def holder(server: Postgres, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock and writes until it is refused; certainly gone and collected afterwards."""
    command = [sys.executable, "-m", "tests.stores.databases", server.url(), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# --- real processes


@pytest.mark.slow
def test_fifty_processes_never_overlap_and_no_update_is_lost(postgres: Postgres, tmp_path: Path) -> None:
    contest = contend(
        f"{postgres.url()} {schema_of(tmp_path)}",
        processes=50,
        rounds=effort(5, 20),
        open_by="tests.stores.databases:a_contender",
        log=tmp_path / "log",
    )
    contest.demand_order()


def test_the_lock_of_a_killed_process_is_taken_over_at_once(home: Home) -> None:
    with holder(home.server, home.folder) as process:
        assert process.stdout is not None
        lock_id = process.stdout.readline().strip()
        store = home.open()
        with pytest.raises(LockHeld, match=f"pid {process.pid}, apply"):
            store.lock("plan")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        broken: list[LockInfo] = []
        with store.lock("apply", on_broken=broken.append) as lease:
            assert [(info.id, info.pid) for info in broken] == [(lock_id, process.pid)]
            assert lease.info.fence == broken[0].fence + 1


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_stopped_process_that_wakes_up_after_a_take_over_writes_nothing_more(
    home: Home, where: str
) -> None:
    with holder(home.server, home.folder) as process:
        assert process.stdout is not None
        lock_id = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGSTOP)
        home.age(1000.0)
        if where == "here":  # not dead: it may go on any moment; people decide
            store = home.open()
            with pytest.raises(LockHeld):
                store.lock("apply")
            store.force_unlock(lock_id)
        else:
            store = home.open(Machine("there"))
        with store.lock("apply", timeout=20.0) as lease:
            state = store.read()
            os.kill(process.pid, signal.SIGCONT)
            assert process.stdout.readline().startswith("LeaseLost: ")  # the append
            assert process.stdout.readline().startswith("LeaseLost: ")  # the snapshot
            lease.check()
        assert state is not None
        assert store.read() == state


# --- who counts as dead


@pytest.mark.parametrize(
    ("holder", "age", "now_there", "broken"),
    [
        (Machine(), 1e6, "t1", False),
        (Machine(), 0.0, None, True),
        (Machine(), 0.0, "t2", True),
        (Machine(), 1e6, OSError("?"), False),
        (Machine("there"), 25.0, None, False),
        (Machine("there"), 31.0, None, True),
        (Machine(boot="boot-0"), 25.0, None, False),
        (Machine(boot="boot-0"), 31.0, None, True),
    ],
    ids=[
        "a process of this machine that lives is never broken",
        "a process of this machine that is gone is broken at once",
        "a pid that another process has by now is broken at once",
        "a process that nobody can look at counts as alive",
        "a holder elsewhere is kept while its lease runs",
        "a holder elsewhere is broken when its lease has run out",
        "a namesake of this machine is judged by its lease: kept",
        "a namesake of this machine is judged by its lease: broken",
    ],
)
def test_a_holder_is_broken_only_when_it_is_certainly_dead(
    home: Home, holder: Machine, age: float, now_there: str | OSError | None, broken: bool
) -> None:
    held = home.open(holder).lock("apply")
    home.age(age)
    here = Machine()
    store = home.open(here, pid=8)
    here.processes[7] = now_there
    told: list[LockInfo] = []
    if broken:
        with store.lock("apply", on_broken=told.append):
            assert [info.id for info in told] == [held.info.id]
        with pytest.raises(LeaseLost):
            held.check()
    else:
        with pytest.raises(LockHeld):
            store.lock("apply", on_broken=told.append)
        assert told == []
    held.release()


def test_a_heartbeat_that_comes_between_the_look_and_the_taking_wins(home: Home) -> None:
    """The lease had run out when it was looked at; the row says otherwise when it is to be taken."""
    store = home.open(Machine("there"))
    held = store.lock("apply")
    assert isinstance(held, PostgresLease)
    home.age(31.0)
    taker = home.open(Machine(), pid=8)
    seen = taker._session.run("look", taker._lock.look)
    assert seen is not None
    assert seen.late
    assert held.beat()
    taker._session.run("lock", lambda connection: taker._lock._take(connection, seen, "mine", "apply"))
    held.check()
    held.release()


def test_of_many_that_see_a_dead_holder_one_takes_its_lock(home: Home) -> None:
    machine = Machine()
    dead = home.open(machine).lock("apply")
    machine.processes[7] = None
    told: list[LockInfo] = []
    fences: list[int] = []

    def take(store: PostgresStore) -> None:
        with store.lock("apply", timeout=60.0, on_broken=told.append) as lease:
            fences.append(lease.info.fence)

    threads = [
        threading.Thread(target=take, args=(home.open(machine, pid=8 + n, timing=Timing(poll=0.01)),))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [info.id for info in told] == [dead.info.id]
    assert fences == list(range(2, 8))
    dead.release()


# --- heartbeat


def test_the_heartbeat_renews_the_lease_on_a_connection_of_its_own_and_ends_with_it(home: Home) -> None:
    store, other = home.open(timing=Timing(renew=0.01)), home.open()
    before = set(threading.enumerate())
    lease = store.lock("apply")
    (heart,) = set(threading.enumerate()) - before
    with store._session._turn:  # the run's own connection is busy
        for _ in range(2):
            seen = other.lock_info()
            assert seen is not None
            late = seen.expires
            wait_until(lambda late=late: (other.lock_info() or lease.info).expires > late)  # type: ignore[misc]
    renewed = other.lock_info()
    assert renewed == replace(lease.info, expires=renewed.expires if renewed else 0.0)
    lease.release()
    assert not heart.is_alive()
    assert other.lock_info() is None


def test_a_heartbeat_that_finds_the_lock_taken_stops_and_takes_nothing_back(home: Home) -> None:
    store, other = home.open(timing=Timing(renew=0.01)), home.open()
    before = set(threading.enumerate())
    lease = store.lock("apply")
    (heart,) = set(threading.enumerate()) - before
    other.force_unlock(lease.info.id)
    with other.lock("destroy") as second:
        heart.join(timeout=20.0)
        assert not heart.is_alive()
        with pytest.raises(LeaseLost):
            lease.check()
        lease.release()
        assert other.lock_info() == second.info


def test_a_heartbeat_survives_a_server_that_is_away_for_a_while(home: Home) -> None:
    store = home.open()
    lease = store.lock("apply")
    assert isinstance(lease, PostgresLease)
    home.server.stop()
    try:
        assert lease.beat()
    finally:
        home.server.start()
    assert lease.beat()
    lease.check()
    store.force_unlock(lease.info.id)
    assert not lease.beat()


def test_nobody_takes_the_lock_while_a_write_is_under_way(home: Home) -> None:
    """Check and write are one: the row is held from the look at the fence until the commit."""
    store, other = home.open(), home.open()
    lease = store.lock("apply")
    taken = threading.Event()

    def take() -> None:
        other.force_unlock(lease.info.id)
        taken.set()

    thread = threading.Thread(target=take)

    def write(connection: Connection) -> None:
        with connection.transaction():
            store._lock.demand(connection, lease.info, keep=True)
            thread.start()
            assert not taken.wait(0.1)

    store._session.run("write", write)
    thread.join()
    assert taken.is_set()
    with pytest.raises(LeaseLost):
        store.write(lease, a_state())
    lease.release()


def test_who_stops_in_the_middle_of_a_write_keeps_nobody_from_the_lock(home: Home) -> None:
    """The server ends a transaction that nobody goes on with, and with it what was half written."""
    store, other = home.open(timeout=0.4), home.open()
    lease = store.lock("apply")
    base = store.write(lease, a_state("a"))
    emptied = snapshots.written(replace(base, serial=2, sandboxes={}), store._sealer)
    stopped: list[bool] = []

    def write(connection: Connection) -> None:
        with connection.transaction():
            store._lock.demand(connection, lease.info, keep=True)
            store._replace(connection, 1, emptied)
            if not stopped:
                stopped.append(True)
                other.force_unlock(lease.info.id)  # waits for the row

    with pytest.raises(LeaseLost):
        store._session.run("write", write)
    assert other.read() == base
    lease.release()


def test_waiting_is_told_once_and_ends_with_who_holds_it_since_when(home: Home) -> None:
    held = home.open(Machine()).lock("apply")
    home.age(5.0)
    waits: list[LockInfo] = []
    machine = Machine()
    machine.processes[7] = "t1"
    store = home.open(machine, pid=8, timing=Timing(poll=0.01))
    with pytest.raises(LockHeld, match=r"locked by ann@here \(pid 7, apply\) since .* UTC \([56] s ago\)"):
        store.lock("plan", timeout=0.1, on_wait=waits.append)
    assert [info.id for info in waits] == [held.info.id]
    held.release()


def test_an_old_lease_is_refused_even_by_a_row_of_the_same_id(home: Home) -> None:
    """The fence decides, not only the id: a table that was restored from a copy gives no way in."""
    store = home.open()
    lease = store.lock("apply")
    store.write(lease, a_state())
    home.age(0.0)
    with psycopg.connect(home.server.url(), autocommit=True) as connection:
        connection.execute(
            psycopg.sql.SQL("update {} set fence = fence + 1").format(
                psycopg.sql.Identifier(schema_of(home.folder), "reconciler_lock")
            )
        )
    for attempt in (lambda: store.append(lease, created("a")), lambda: store.write(lease, a_state(serial=1))):
        with pytest.raises(LeaseLost):
            attempt()
    with pytest.raises(StoreError):
        lease.check()
    lease.release()
