"""A state moves from store to store: all of it, under both locks, and nobody works with what is left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.core.migration import contents
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.migrate import migrate
from reconciler.engine.surgery import forget, push, rollback
from reconciler.engine.survey import survey
from reconciler.errors import LockHeld, NotFound, ReconcilerError, Refused, StoreError
from reconciler.model.desired import Desired
from reconciler.model.state import Migrated, State
from reconciler.stores import snapshot
from reconciler.stores.base import Lease, Store
from reconciler.stores.memory import MemoryStore
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores.places import a_key, a_sealer, a_store

RELEASED = {("main", "sb-gone"): "gone"}


class WithoutExtras(MemoryStore):
    """As a third party's, which has what every store must have, and no more."""

    def take_key(self, lease: Lease, key: bytes) -> None:
        Store.take_key(self, lease, key)

    def keep(self, lease: Lease, versions: Sequence[State]) -> int:
        return Store.keep(self, lease, versions)


Make = Callable[[Path], Store]
MAKERS: dict[str, Make] = {
    "a directory": a_store,
    "an encrypted directory": lambda path: a_store(path, sealer=a_sealer(a_key())),
    "memory": lambda path: MemoryStore(STACK),
}


def a_context(store: Store) -> Context:
    desired = Desired(stack=STACK, sandboxes={}, backends={})
    return Context(desired=desired, store=store, backends=BackendPool({}, lambda _: None))  # type: ignore[arg-type, return-value]


def filled(store: Store) -> State:
    """Three versions, a journal, a key, and something that was released."""
    with store.lock("apply") as lease:
        state = replace(a_state("a"), released=RELEASED)
        for _ in range(3):
            state = store.write(lease, state)
        store.append(lease, created("b"))
    store.secret_key(create=True)
    state = store.read()
    assert state is not None
    return state


@pytest.mark.parametrize("source", MAKERS.values(), ids=[f"from {name}" for name in MAKERS])
@pytest.mark.parametrize("target", MAKERS.values(), ids=[f"to {name}" for name in MAKERS])
def test_all_of_it_arrives(tmp_path: Path, source: Make, target: Make) -> None:
    old, new = source(tmp_path / "old"), target(tmp_path / "new")
    if old.place() == new.place():
        new = WithoutExtras("research")
        new.place = lambda: "elsewhere"  # type: ignore[method-assign]
        new.take_key = lambda lease, key: MemoryStore.take_key(new, lease, key)  # type: ignore[method-assign, arg-type]
    state = filled(old)
    done = migrate(a_context(new), old)
    arrived = new.read()
    assert arrived is not None
    assert contents(arrived) == contents(state)
    assert arrived.released == RELEASED
    assert (done.moved, done.written, done.state) == (True, True, arrived)
    assert arrived.serial > state.serial
    assert new.secret_key(create=False) == old.secret_key(create=False)
    came = {version.serial for version in new.history()}
    assert done.versions + done.behind == 3
    assert all(new.version(serial) == old.version(serial) for serial in (1, 2, 3) if serial in came)
    left = old.read()
    assert left is not None
    assert left.migrated is not None
    assert left.migrated.to == new.place()
    assert contents(left) == contents(state)


def test_a_store_that_keeps_no_versions_says_how_many_stay_behind(tmp_path: Path) -> None:
    old, new = a_store(tmp_path), WithoutExtras(STACK)
    with old.lock("apply") as lease:
        old.write(lease, old.write(lease, a_state("a")))
    done = migrate(a_context(new), old)
    assert (done.versions, done.behind) == (0, 2)


def test_a_key_that_cannot_come_along_is_told_before_anything_is_touched(tmp_path: Path) -> None:
    old, new = a_store(tmp_path), WithoutExtras(STACK)
    filled(old)
    with pytest.raises(StoreError, match="cannot keep the key of the secrets' digests") as refused:
        migrate(a_context(new), old)
    assert "RECONCILER_STATE_KEY" in refused.value.hint
    left = old.read()
    assert left is not None
    assert left.migrated is None
    assert new.read() is None


@pytest.mark.parametrize(
    "work",
    [
        survey,
        lambda context: forget(context, ["a"]),
        lambda context: rollback(context, 1, confirm=lambda _: True),
        lambda context: push(context, snapshot.encode(a_state("z", serial=99)), place="z.json"),
    ],
    ids=["a plan", "state rm", "state rollback", "state push"],
)
def test_nobody_works_with_what_is_left_behind(tmp_path: Path, work: Callable[[Context], object]) -> None:
    old, new = a_store(tmp_path / "old"), a_store(tmp_path / "new")
    filled(old)
    migrate(a_context(new), old)
    before = old.read()
    with pytest.raises(Refused, match=r"moved to .*new"):
        work(a_context(old))
    assert old.read() == before


def test_a_lost_new_store_is_no_dead_end(tmp_path: Path) -> None:
    old = a_store(tmp_path / "old")
    state = filled(old)
    migrate(a_context(a_store(tmp_path / "new")), old)
    pulled = old.read()
    assert pulled is not None
    push(a_context(old), snapshot.encode(pulled), place="old.json", force=True)
    again = a_context(old).recorded()
    assert again is not None
    assert contents(again) == contents(state)


def test_there_and_back_again(tmp_path: Path) -> None:
    old, new = a_store(tmp_path / "old"), a_store(tmp_path / "new")
    state = filled(old)
    migrate(a_context(new), old)
    forget(a_context(new), ["a"])
    migrate(a_context(old), new)
    back = a_context(old).recorded()
    assert back is not None
    assert set(back.sandboxes) == {"b"}
    assert old.version(state.serial).sandboxes.keys() == {"a"}
    with pytest.raises(Refused, match=r"moved to .*old"):
        a_context(new).recorded()


def test_a_second_time_writes_nothing_into_what_went_on(tmp_path: Path) -> None:
    old, new = a_store(tmp_path / "old"), a_store(tmp_path / "new")
    filled(old)
    migrate(a_context(new), old)
    forget(a_context(new), ["a"])
    before = new.read()
    done = migrate(a_context(new), old)
    assert (done.moved, new.read()) == (False, before)


def test_another_state_is_replaced_only_by_force_and_can_be_had_again(tmp_path: Path) -> None:
    old, new = a_store(tmp_path / "old"), a_store(tmp_path / "new")
    filled(old)
    with new.lock("apply") as lease:
        other = new.write(lease, replace(a_state("theirs"), lineage="theirs"))
    with pytest.raises(Refused, match="different sandboxes"):
        migrate(a_context(new), old)
    assert a_context(old).recorded() is not None
    migrate(a_context(new), old, force=True)
    arrived = new.read()
    assert arrived is not None
    assert arrived.lineage == "a-lineage"
    assert new.version(other.serial) == other


def test_a_dry_run_touches_neither(tmp_path: Path) -> None:
    old, new = a_store(tmp_path / "old"), a_store(tmp_path / "new")
    state = filled(old)
    done = migrate(a_context(new), old, dry_run=True)
    assert (done.moved, done.written, done.versions) == (True, False, 2)
    assert old.read() == state
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("held", ["old", "new"])
def test_it_waits_for_whoever_works_with_one_of_them(tmp_path: Path, held: str) -> None:
    old, new = a_store(tmp_path / "old"), a_store(tmp_path / "new")
    state = filled(old)
    with (old if held == "old" else new).lock("apply"), pytest.raises(LockHeld):
        migrate(a_context(new), old)
    assert old.read() == state
    migrate(a_context(new), old)


def test_from_nothing_or_from_itself_is_an_error(tmp_path: Path) -> None:
    old, new = a_store(tmp_path / "old"), a_store(tmp_path / "new")
    with pytest.raises(NotFound, match="holds no state"):
        migrate(a_context(new), old)
    filled(old)
    with pytest.raises(ReconcilerError, match="where it is to come from"):
        migrate(a_context(old), a_store(tmp_path / "new" / ".." / "old"))


def test_a_store_that_loses_what_it_is_given_is_found_out(tmp_path: Path) -> None:
    class Forgetful(MemoryStore):
        def read(self) -> State | None:
            state = super().read()
            return state and replace(state, released={})

    old, new = a_store(tmp_path), Forgetful(STACK)
    filled(old)
    with pytest.raises(StoreError, match="does not give back the state") as refused:
        migrate(a_context(new), old)
    assert "the old store still has all of it" in refused.value.hint


def test_a_mark_survives_being_written_and_read(tmp_path: Path) -> None:
    marked = replace(a_state("a", serial=3), migrated=Migrated(to="elsewhere", at=1.5))
    assert snapshot.decode(snapshot.encode(marked), place="x", hint="") == marked


def test_a_kill_at_any_system_call_leaves_one_to_work_with_and_is_completed_by_doing_it_again(
    tmp_path: Path,
) -> None:
    """The driver forks a migration per kill point; see `migrated_anywhere.py`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.migrated_anywhere", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 40
