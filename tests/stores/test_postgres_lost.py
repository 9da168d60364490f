"""Connections that break at every point of a run, servers that restart or hang: nothing is doubled, and nothing lost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.core.fold import fold_all
from reconciler.errors import LeaseLost, StoreError
from reconciler.model.state import State
from reconciler.stores.base import Store
from reconciler.stores.postgres.lease import Timing
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import a_state, created
from tests.stores.databases import a_store
from tests.stores.kept import KeptInDatabase, kept_in
from tests.stores.places import Clock, a_key, a_sealer
from tests.stores.sealed_anywhere import CHANGES
from tests.stores.whole_run import a_whole_run
from tests.support.cut import Wire
from tests.support.postgres import ADMIN, Postgres, requires_postgres

pytestmark = requires_postgres


@pytest.fixture
def wire(postgres: Postgres) -> Iterator[Wire]:
    with tempfile.TemporaryDirectory(prefix="rtest", dir="/tmp") as name:
        made = Wire(Path(name), server=postgres.folder, port=postgres.port)
        yield made
        made.close()


def _url(wire: Wire) -> str:
    return f"postgresql://{ADMIN}@:{wire.port}/postgres?host={wire.folder}"


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["request", "answer"])
def test_whichever_request_or_answer_is_lost_the_run_goes_on_and_everything_is_there_once(
    postgres: Postgres, wire: Wire, tmp_path: Path, lost: str
) -> None:
    number, points = 1, 0
    while points == 0 or number <= points:
        home = tmp_path / str(number)
        # Sealed twice, the same entry is not the same text: an answer that was lost must not lead to that.
        sealer = a_sealer(a_key()) if lost == "answer" else PLAIN
        store = a_store(_url(wire), home, sealer=sealer)
        wire.requests = 0
        wire.lose_request, wire.lose_answer = (number, 0) if lost == "request" else (0, number)
        try:
            expected = a_whole_run(store)
        except StoreError as error:
            # What broke before there ever was a connection is told at once.
            if number > 3 or "closed" not in error.message:
                raise
        else:
            points = max(points, wire.requests)
            wire.lose_request = wire.lose_answer = 0
            direct = a_store(postgres.url(), home, sealer=sealer)
            assert direct.read() == expected, f"after the {lost} {number} was lost"
            assert direct.lock_info() is None
            direct.close()
        finally:
            store.close()
        number += 1
    assert points > 40


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_request_of_a_first_sealing_loses_nothing(
    postgres: Postgres, wire: Wire, tmp_path: Path
) -> None:
    """As `sealed_anywhere.py` has it for files: before it there is a state with versions, a key and the journal of a
    killed run."""
    before, during, after = CHANGES["on"]
    with kept_in("postgres", tmp_path, postgres.url) as kept:
        assert isinstance(kept, KeptInDatabase)
        state, key = _left(kept.store(before))
        rows = kept.rows()
        request, killed = 0, True
        while killed:
            request += 1
            kept.restore(rows)
            killed = _dies(wire, request, tmp_path, during)
            store = kept.store(during)
            left = store.read()
            assert left is not None
            assert left.sandboxes == state.sandboxes, f"killed at request {request}"
            assert store.secret_key(create=False) == key
            assert not [version for version in store.history() if version.damage]
            with suppress(StoreError):
                store.force_unlock(getattr(store.lock_info(), "id", ""))
            with store.lock("apply") as lease:
                store.write(lease, left)
            only = kept.store(after)
            assert only.secret_key(create=False) == key
            serials = [only.version(version.serial).serial for version in only.history()]
            assert serials == list(range(left.serial + 1, 0, -1))
    assert request > 25


def _left(store: Store) -> tuple[State, bytes | None]:
    """What a killed run left."""
    key = store.secret_key(create=True)
    with store.lock("apply") as lease:
        base = store.write(lease, store.write(lease, a_state("old")))
        store.append(lease, created("new"))
    return fold_all(base, created("new")), key


def _dies(wire: Wire, request: int, home: Path, sealer: Sealer) -> bool:
    """Whether a run that is cut off at that request ends early. It waits for nobody: its clock is its own."""
    wire.dies_at = 0
    clock = Clock()
    timing = Timing(renew=1e6, monotonic=clock.now, sleep=lambda _: clock.sleep(60.0))
    store = a_store(_url(wire), home, sealer=sealer, timing=timing)
    store.lock_info()  # connected: all that follows is of the change
    wire.requests, wire.dies_at = 0, request
    try:
        with store.lock("apply") as lease:
            state = store.read()
            assert state is not None
            store.append(lease, created("new"))
            store.write(lease, state)
    except StoreError:
        return True
    finally:
        store.close()
    return wire.requests >= request


def test_a_server_that_restarts_is_found_again_and_the_run_goes_on(
    postgres: Postgres, tmp_path: Path
) -> None:
    store = a_store(postgres.url(), tmp_path)
    with store.lock("apply") as lease:
        base = store.write(lease, a_state())
        store.append(lease, created("a"))
        postgres.restart()
        store.append(lease, created("b"))
        postgres.restart()
        written = store.write(lease, fold_all(base, [*created("a"), *created("b")]))
    assert store.read() == written
    store.close()


def test_a_server_that_does_not_come_back_is_told_when_the_time_is_up(
    postgres: Postgres, tmp_path: Path
) -> None:
    store = a_store(postgres.url(), tmp_path, timeout=0.3)
    lease = store.lock("apply")
    base = store.write(lease, a_state())
    store.append(lease, created("a"))
    postgres.stop()
    try:
        with pytest.raises(StoreError, match="cannot write the journal of") as refused:
            store.append(lease, created("b"))
        assert not isinstance(refused.value, LeaseLost)
        assert "is the server running" in refused.value.hint
        lease.release()
    finally:
        postgres.start()
    assert store.read() == fold_all(base, created("a"))
    assert store.lock_info() is not None  # nobody could be told that it was given back
    store.close()


def test_a_run_that_lost_its_server_and_then_its_lock_writes_nothing_more(
    postgres: Postgres, tmp_path: Path
) -> None:
    store, other = a_store(postgres.url(), tmp_path), a_store(postgres.url(), tmp_path)
    lease = store.lock("apply")
    base = store.write(lease, a_state())
    postgres.restart()
    other.force_unlock(lease.info.id)
    with other.lock("apply") as second:
        with pytest.raises(LeaseLost):
            store.append(lease, created("late"))
        other.append(second, created("b"))
    assert store.read() == fold_all(base, created("b"))
    store.close()
    other.close()


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up_on(wire: Wire, tmp_path: Path) -> None:
    store = a_store(_url(wire), tmp_path, timeout=0.3)
    assert store.read() is None
    wire.stall = True
    with pytest.raises(StoreError, match=r"no answer within|timeout expired"):
        store.read()
    wire.stall = False
    assert store.read() is None
    store.close()
