"""Connections that break at every point of a run, servers that restart or hang: nothing is doubled, and nothing lost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.core.fold import fold_all
from reconciler.errors import LeaseLost, StoreError
from reconciler.model.state import State
from reconciler.stores.postgres import PostgresStore
from reconciler.testing.store_conformance import a_state, created
from tests.stores.databases import a_store
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


def _run(store: PostgresStore) -> State:
    """Everything that a run asks of a store; what is to be there at the end."""
    key = store.secret_key(create=True)
    with store.lock("apply") as lease:
        base = store.write(lease, a_state("a"))
        store.append(lease, created("b"))
        store.append(lease, created("c"))
        assert store.read() == fold_all(base, [*created("b"), *created("c")])
        second = store.write(lease, fold_all(base, [*created("b"), *created("c")]))
        store.append(lease, created("d"))
        lease.check()
    assert store.secret_key(create=False) == key
    assert [version.serial for version in store.history()] == [2, 1]
    assert store.version(1) == base
    return fold_all(second, created("d"))


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["request", "answer"])
def test_whichever_request_or_answer_is_lost_the_run_goes_on_and_everything_is_there_once(
    postgres: Postgres, wire: Wire, tmp_path: Path, lost: str
) -> None:
    number, points = 1, 0
    while points == 0 or number <= points:
        home = tmp_path / str(number)
        store = a_store(_url(wire), home)
        wire.requests = 0
        wire.lose_request, wire.lose_answer = (number, 0) if lost == "request" else (0, number)
        try:
            expected = _run(store)
        except StoreError as error:
            # What broke before there ever was a connection is told at once.
            if number > 3 or "closed" not in error.message:
                raise
        else:
            points = max(points, wire.requests)
            wire.lose_request = wire.lose_answer = 0
            direct = a_store(postgres.url(), home)
            assert direct.read() == expected, f"after the {lost} {number} was lost"
            assert direct.lock_info() is None
            direct.close()
        finally:
            store.close()
        number += 1
    assert points > 40


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
