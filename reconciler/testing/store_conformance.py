"""What every `Store` must do, as a pytest suite. A store proves itself by a subclass:

    class TestMyStore(StoreConformance):
        def open(self, home):          # called again, it stands for another process on the same state
            return MyStore("research", url=...)

        def kill(self, home, store):   # whoever holds the lock of `store` dies without a word
            ...

What a store cannot have, because the place it keeps things in has no such thing, it says in a class attribute
(`keeps_history = False`); what is asked of it then is less, and skipped tests say which ability is missing.

Must never look inside a store: only what the interface promises is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.core.fold import fold_all
from reconciler.errors import LeaseLost, LockHeld, StoreError
from reconciler.model.desired import Address, FlatSpec, fingerprint
from reconciler.model.observed import SandboxInfo
from reconciler.model.outcome import Entry, Intent, Operation, Outcome
from reconciler.model.state import SandboxRecord, State, Status
from reconciler.stores.base import LockInfo, Store

STACK = "research"
_SPEC: FlatSpec = {
    "image": "aio:1",
    "environment.LÄNGE": "ü",
    "resources.cpu": 1.5,
    "security.read_only_root": False,
}


def a_record(address: str, **fields: object) -> SandboxRecord:
    """A record with something in every field."""
    info = SandboxInfo(
        f"sb-{address}", "http://127.0.0.1:1", container_id="c1", created_at=5.5, ports={"http": 1}
    )
    record = SandboxRecord(
        address=Address(address),
        sandbox_id=f"sb-{address}",
        backend="main",
        generation=1,
        spec=_SPEC,
        spec_hash=fingerprint(_SPEC),
        info=info,
        status=Status.READY,
        depends_on=(Address("db"),),
        created_at=1.25,
        updated_at=2.5,
        error="line one\nline “two”",
    )
    return replace(record, **fields)


def a_state(*addresses: str, serial: int = 0) -> State:
    """A state that holds records of these addresses."""
    return State(
        stack=STACK,
        lineage="a-lineage",
        serial=serial,
        sandboxes={Address(a): a_record(a) for a in addresses},
        backends={"main": {"type": "process", "options": {"nested": [1, None, {"a": "b"}]}}},
        outputs={"url": "http://127.0.0.1:1"},
    )


def created(address: str, at: float = 10.0) -> tuple[Entry, ...]:
    """What a run that creates `address` and sees it ready writes into its journal."""
    sandbox_id = f"sb-{address}"
    info = SandboxInfo(sandbox_id, "http://127.0.0.1:2")
    where = {"address": Address(address), "sandbox_id": sandbox_id}
    return (
        Intent(at=at, operation=Operation.CREATE, backend="main", generation=1, spec=_SPEC, **where),  # type: ignore[arg-type]
        Outcome(at=at + 1, operation=Operation.CREATE, info=info, **where),  # type: ignore[arg-type]
        Outcome(at=at + 2, operation=Operation.READY, **where),  # type: ignore[arg-type]
    )


class StoreConformance:
    """Subclass it, call the subclass `Test…`, and say how to open a store and how its holder dies.

    `keeps_history`: snapshots that were replaced can be had. `keeps_journal`: appended entries stand beside the snapshot;
    without it each append is a snapshot of a serial of its own. `keeps_key`: it makes and keeps the key of the secrets'
    digests. `fences`: takings of the lock are numbered. `tells_holder`: all of `LockInfo` can be seen by others; without
    it, the id alone is sure.
    """

    keeps_history = True
    keeps_journal = True
    keeps_key = True
    fences = True
    tells_holder = True

    def needs(self, ability: str) -> None:
        if not getattr(self, ability):
            pytest.skip(f"this store says of itself: {ability} = False")

    def same(self, found: State | None, expected: State) -> bool:
        """Equal; but for serial and time where each append has its own."""
        if found is None or self.keeps_journal:
            return found == expected
        return replace(found, serial=expected.serial, updated_at=expected.updated_at) == expected

    def told(self, found: LockInfo | None, expected: LockInfo) -> bool:
        """What others see of a holder is what is known of it."""
        return found == expected if self.tells_holder or found is None else found.id == expected.id

    def open(self, home: Path) -> Store:
        """A store of the stack "research". Called again with the same `home`, the same state from elsewhere."""
        raise NotImplementedError

    def kill(self, home: Path, store: Store) -> None:
        """Whoever took the lock through `store` is dead from now on, in a way that others can tell."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        store = self.open(tmp_path)
        yield store
        store.close()

    @pytest.fixture
    def other(self, tmp_path: Path, store: Store) -> Iterator[Store]:
        other = self.open(tmp_path)
        yield other
        other.close()

    # --- state

    def test_a_new_place_has_no_state_no_key_and_no_holder(self, store: Store) -> None:
        assert store.read() is None
        assert store.lock_info() is None
        assert store.secret_key(create=False) is None

    def test_what_is_written_is_read_back_elsewhere(self, store: Store, other: Store) -> None:
        state = a_state("a", 'b["eu"]', "c[0]")
        with store.lock("apply") as lease:
            written = store.write(lease, state)
        assert written == replace(state, serial=1, updated_at=written.updated_at)
        assert other.read() == written

    def test_the_serial_grows_by_one_with_each_snapshot(self, store: Store) -> None:
        with store.lock("apply") as lease:
            first = store.write(lease, a_state())
            second = store.write(lease, first)
        assert (first.serial, second.serial) == (1, 2)

    def test_an_older_state_never_replaces_a_newer_one(self, store: Store) -> None:
        with store.lock("apply") as lease:
            newest = store.write(lease, a_state("a", serial=7))
            with pytest.raises(StoreError, match="serial 8"):
                store.write(lease, a_state(serial=3))
        assert store.read() == newest

    def test_the_state_of_another_stack_is_refused(self, store: Store) -> None:
        with store.lock("apply") as lease, pytest.raises(StoreError, match="elsewhere"):
            store.write(lease, replace(a_state(), stack="elsewhere"))
        assert store.read() is None

    def test_a_state_that_cannot_be_stored_leaves_the_last_one(self, store: Store) -> None:
        with store.lock("apply") as lease:
            good = store.write(lease, a_state("a"))
            bad = replace(
                good, updated_at=0.0, backends={"main": {"type": "process", "options": {"x": object()}}}
            )
            with pytest.raises((StoreError, TypeError)):
                store.write(lease, bad)
        assert store.read() == good

    # --- versions

    def test_a_new_place_has_no_versions(self, store: Store) -> None:
        assert list(store.history()) == []
        with pytest.raises(StoreError, match="serial 1") as refused:
            store.version(1)
        assert "no state yet" in refused.value.hint

    def test_each_snapshot_that_was_replaced_can_be_had_again(self, store: Store, other: Store) -> None:
        self.needs("keeps_history")
        with store.lock("apply") as lease:
            written = [store.write(lease, a_state("a", "b"))]
            written.append(store.write(lease, a_state("a", serial=1)))
            written.append(store.write(lease, a_state(serial=2)))
        assert [other.version(serial) for serial in (1, 2, 3)] == written
        there = other.history()
        assert [(v.serial, v.sandboxes, v.current) for v in there] == [
            (3, 0, True),
            (2, 1, False),
            (1, 2, False),
        ]
        assert [v.at for v in there] == [state.updated_at for state in reversed(written)]
        assert {v.lineage for v in there} == {"a-lineage"}
        assert all(v.size > 0 and not v.damage for v in there)

    def test_a_version_is_as_it_was_written_without_what_came_after(self, store: Store, other: Store) -> None:
        self.needs("keeps_history")
        with store.lock("apply") as lease:
            base = store.write(lease, a_state("old"))
            store.append(lease, created("new"))
            assert other.version(1) == base
            second = store.write(lease, fold_all(base, created("new")))
        assert other.version(1) == base
        assert other.version(2) == second

    def test_a_version_that_is_not_there_is_answered_with_those_that_are(self, store: Store) -> None:
        self.needs("keeps_history")
        with store.lock("apply") as lease:
            store.write(lease, store.write(lease, a_state("a")))
        for serial in (0, 3):
            with pytest.raises(StoreError, match=f"serial {serial}") as refused:
                store.version(serial)
            assert "2, 1" in refused.value.hint

    def test_versions_are_many_and_have_a_bound(self, store: Store) -> None:
        self.needs("keeps_history")
        with store.lock("apply") as lease:
            state = a_state("a")
            for _ in range(60):
                state = store.write(lease, state)
        serials = [version.serial for version in store.history()]
        assert serials == list(range(60, 60 - len(serials), -1))
        assert 10 <= len(serials) < 60
        assert store.version(serials[-1]).serial == serials[-1]
        with pytest.raises(StoreError):
            store.version(1)

    def test_a_refused_write_makes_no_version(self, store: Store) -> None:
        with store.lock("apply") as lease:
            store.write(lease, a_state("a", serial=7))
            with pytest.raises(StoreError):
                store.write(lease, a_state(serial=3))
        assert [version.serial for version in store.history()] == [8]

    # --- journal

    def test_entries_are_folded_into_what_is_read(self, store: Store, other: Store) -> None:
        with store.lock("apply") as lease:
            base = store.write(lease, a_state("old"))
            for entry in created("new"):
                store.append(lease, [entry])
        assert self.same(other.read(), fold_all(base, created("new")))

    def test_entries_of_one_call_keep_their_order(self, store: Store, other: Store) -> None:
        entries = [*created("a"), *created("b"), *created("a", at=20.0)]
        with store.lock("apply") as lease:
            base = store.write(lease, a_state())
            store.append(lease, entries)
        assert self.same(other.read(), fold_all(base, entries))

    def test_appending_nothing_changes_nothing(self, store: Store, other: Store) -> None:
        with store.lock("apply") as lease:
            base = store.write(lease, a_state("a"))
            store.append(lease, [])
        assert other.read() == base

    def test_a_snapshot_empties_the_journal(self, store: Store, other: Store) -> None:
        with store.lock("apply") as lease:
            base = store.write(lease, a_state())
            store.append(lease, created("a"))
            without = store.write(lease, base)
            assert other.read() == without
            store.append(lease, created("b"))
        assert self.same(other.read(), fold_all(without, created("b")))

    def test_the_next_run_continues_the_journal_of_a_killed_one(
        self, tmp_path: Path, store: Store, other: Store
    ) -> None:
        lease = store.lock("apply")
        base = store.write(lease, a_state())
        store.append(lease, created("a"))
        self.kill(tmp_path, store)
        with other.lock("apply") as second:
            other.append(second, created("b"))
        assert self.same(other.read(), fold_all(base, [*created("a"), *created("b")]))

    def test_no_entry_is_taken_before_the_lineage_is_durable(self, store: Store) -> None:
        with store.lock("apply") as lease, pytest.raises(StoreError, match="yet"):
            store.append(lease, created("a"))
        assert store.read() is None

    # --- lock

    def test_the_lock_says_who_holds_it_for_what(self, store: Store, other: Store) -> None:
        with store.lock("apply") as lease:
            assert self.told(other.lock_info(), lease.info)
            assert lease.info.operation == "apply"
            assert lease.info.who
            assert lease.info.id
        assert other.lock_info() is None

    def test_a_second_run_is_told_who_is_there_and_what_to_do(self, store: Store, other: Store) -> None:
        with store.lock("destroy") as lease:
            with pytest.raises(LockHeld, match="destroy" if self.tells_holder else "locked by") as refused:
                other.lock("apply")
            assert refused.value.holder == lease.info.holder or not self.tells_holder
            told = f"is locked by {lease.info.holder} since " if self.tells_holder else "is locked by "
            assert told in refused.value.message
            assert "--lock-timeout" in refused.value.hint
            assert f"reconciler force-unlock {lease.info.id}" in refused.value.hint

    def test_the_lock_is_free_again_after_an_error(self, store: Store, other: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.lock("apply"):
            _ = 1 / 0
        other.lock("apply").release()

    def test_releasing_twice_never_frees_the_next_holder(self, store: Store, other: Store) -> None:
        first = store.lock("apply")
        first.release()
        with other.lock("apply") as second:
            first.release()
            second.check()
            assert self.told(store.lock_info(), second.info)

    def test_the_fence_grows_with_every_taking(self, store: Store, other: Store) -> None:
        self.needs("fences")
        fences = []
        for taker in (store, other, store):
            with taker.lock("apply") as lease:
                fences.append(lease.info.fence)
        assert fences == sorted(set(fences))

    def test_waiting_ends_when_the_lock_is_free(self, store: Store, other: Store) -> None:
        lease = store.lock("apply")
        waits: list[LockInfo] = []

        def heard(info: LockInfo) -> None:
            waits.append(info)
            threading.Thread(target=lease.release).start()

        with other.lock("apply", timeout=30.0, on_wait=heard) as second:
            second.check()
        assert len(waits) == 1
        assert self.told(waits[0], lease.info)

    def test_waiting_has_an_end(self, store: Store, other: Store) -> None:
        waits: list[LockInfo] = []
        with store.lock("apply"), pytest.raises(LockHeld):
            other.lock("apply", timeout=0.3, on_wait=waits.append)
        assert len(waits) == 1

    def test_a_dead_holders_lock_is_broken_at_once_and_said_so(
        self, tmp_path: Path, store: Store, other: Store
    ) -> None:
        dead = store.lock("apply")
        self.kill(tmp_path, store)
        broken: list[LockInfo] = []
        with other.lock("apply", on_broken=broken.append) as lease:
            assert [info.id for info in broken] == [dead.info.id]
            assert lease.info.fence > dead.info.fence or not self.fences

    def test_who_lost_the_lock_writes_nothing_more(self, tmp_path: Path, store: Store, other: Store) -> None:
        dead = store.lock("apply")
        base = store.write(dead, a_state("a"))
        store.append(dead, created("b"))
        self.kill(tmp_path, store)
        with other.lock("apply"):
            for attempt in (
                dead.check,
                lambda: store.append(dead, created("c")),
                lambda: store.write(dead, a_state("c", serial=9)),
            ):
                with pytest.raises(LeaseLost):
                    attempt()
            dead.release()
            assert other.lock_info() is not None
        assert self.same(other.read(), fold_all(base, created("b")))

    def test_a_released_lease_writes_nothing_more(self, store: Store) -> None:
        lease = store.lock("apply")
        base = store.write(lease, a_state("a"))
        lease.release()
        with pytest.raises(LeaseLost):
            lease.check()
        with pytest.raises(LeaseLost):
            store.append(lease, created("b"))
        with pytest.raises(LeaseLost):
            store.write(lease, base)
        assert store.read() == base

    def test_force_unlock_takes_the_right_id_only(self, store: Store, other: Store) -> None:
        with pytest.raises(StoreError, match="nobody"):
            other.force_unlock("x")
        lease = store.lock("apply")
        with pytest.raises(StoreError, match=lease.info.id):
            other.force_unlock("x")
        assert self.told(other.force_unlock(lease.info.id), lease.info)
        assert other.lock_info() is None
        with pytest.raises(LeaseLost):
            lease.check()
        with other.lock("apply") as second:
            assert second.info.fence > lease.info.fence or not self.fences

    def test_threads_exclude_each_other(self, tmp_path: Path, store: Store) -> None:
        inside: list[int] = []
        fences: list[int] = []

        def run() -> None:
            mine = self.open(tmp_path)
            for _ in range(5):
                with mine.lock("apply", timeout=60.0) as lease:
                    inside.append(1)
                    fences.append(lease.info.fence if len(inside) == 1 else -1)
                    inside.pop()

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(fences) == 20
        assert -1 not in fences
        assert fences == sorted(set(fences)) or not self.fences

    # --- key

    def test_the_key_is_made_once_and_is_the_same_everywhere(self, store: Store, other: Store) -> None:
        self.needs("keeps_key")
        key = store.secret_key(create=True)
        assert key is not None
        assert len(key) == 32
        assert other.secret_key(create=True) == key
        assert other.secret_key(create=False) == key

    def test_a_key_made_by_many_at_once_is_one_key(self, tmp_path: Path, store: Store) -> None:
        self.needs("keeps_key")
        keys: list[bytes | None] = []
        stores = [self.open(tmp_path) for _ in range(8)]
        threads = [
            threading.Thread(target=lambda s=s: keys.append(s.secret_key(create=True))) for s in stores
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(keys) == 8
        assert len(set(keys)) == 1

    # --- what comes from another store

    def test_a_key_that_another_store_had_is_kept_from_now_on(self, store: Store, other: Store) -> None:
        self.needs("keeps_key")
        key = bytes(range(32))
        with store.lock("state migrate") as lease:
            store.secret_key(create=True)
            store.take_key(lease, key)
        assert other.secret_key(create=True) == key

    def test_a_key_is_taken_from_nobody_who_has_lost_the_lock(self, store: Store, other: Store) -> None:
        self.needs("keeps_key")
        key = store.secret_key(create=True)
        with store.lock("state migrate") as lease:
            other.force_unlock(lease.info.id)
            with pytest.raises(LeaseLost):
                store.take_key(lease, bytes(32))
        assert other.secret_key(create=False) == key

    def test_versions_that_another_store_had_are_as_old_as_they_are(self, store: Store, other: Store) -> None:
        older = [replace(a_state(f"v{serial}"), serial=serial) for serial in (5, 6, 7)]
        with store.lock("state migrate") as lease:
            store.write(lease, replace(a_state("now"), serial=7))
            if not store.keep(lease, older):
                pytest.skip("this store takes no older versions")
            assert [version.serial for version in store.history()] == [8, 7, 6, 5]
            assert store.keep(lease, older) == 0
        assert [version.serial for version in other.history()] == [8, 7, 6, 5]
        for state in older:
            assert other.version(state.serial) == state

    # --- people

    def test_it_says_where_it_is(self, store: Store) -> None:
        assert STACK in store.describe()

    def test_a_healthy_store_passes_its_own_check(self, store: Store) -> None:
        with store.lock("apply") as lease:
            store.write(lease, a_state("a"))
        assert [what for what, well, _ in store.check() if not well] == []
