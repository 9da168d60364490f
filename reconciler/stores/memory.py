"""`MemoryStore`: state, journal, lock and key of one stack in this process, for the simulator, tests and embedding.

Holds what a file store holds on disk, as JSON text, so that nothing survives here that a real store would lose.
Must never be laxer than a real store: the lock excludes, the fence is checked on every write, a dead holder's lock
is broken only when the holder is said to be dead (`crash`).
"""

from __future__ import annotations

import json
import secrets
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from hashlib import sha256

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.fold import fold_all
from reconciler.errors import LeaseLost, StoreError
from reconciler.model.outcome import Entry, entry_from_dict
from reconciler.model.state import State
from reconciler.stores.base import Lease, LockInfo, Store, Version, lock_held, no_version

_KEPT = 20  # versions


class _Contents(Struct):
    """What a file store has on disk."""

    snapshot: str | None = None
    backup: str | None = None
    kept: tuple[str, ...] = ()  # what was replaced, oldest first
    journal: tuple[str, ...] = ()
    holder: LockInfo | None = None
    holder_dead: bool = False
    fence: int = 0
    key: bytes | None = None


class MemoryStore(Store):
    """One stack in memory. `now` gives seconds since the epoch and only dates things; waiting for the lock is real
    time, on a condition. `key` plays the part of RECONCILER_STATE_KEY."""

    options: tuple[str, ...] = ("key",)

    def __init__(self, stack: str, *, key: str | None = None, now: Callable[[], float] = time.time) -> None:
        self.stack = stack
        self._now = now
        self._contents = _Contents()
        self._changed = threading.Condition()
        if key is not None:
            self._contents.key = sha256(key.encode()).digest()

    def describe(self) -> str:
        return f"memory:{self.stack}"

    def read(self) -> State | None:
        with self._changed:
            snapshot, journal = self._contents.snapshot, self._contents.journal
        if snapshot is None:
            return None
        state = State.from_dict(json.loads(snapshot))
        return fold_all(state, [entry_from_dict(json.loads(line)) for line in journal])

    @property
    def backup(self) -> State | None:
        """The snapshot before the last."""
        text = self._contents.backup
        return None if text is None else State.from_dict(json.loads(text))

    def lock(
        self,
        operation: str,
        *,
        timeout: float = 0.0,
        on_wait: Callable[[LockInfo], None] | None = None,
        on_broken: Callable[[LockInfo], None] | None = None,
    ) -> Lease:
        with self._changed:
            held = self._held()
            if held is not None:
                if timeout > 0 and on_wait is not None:
                    on_wait(held)
                self._changed.wait_for(lambda: self._held() is None, timeout)
                held = self._held()
            if held is not None:
                raise lock_held(f"the state {self.describe()!r}", held, self._now())
            broken = self._contents.holder
            info = self._take(operation)
        if broken is not None and on_broken is not None:
            on_broken(broken)
        return _MemoryLease(self, info)

    def _held(self) -> LockInfo | None:
        return None if self._contents.holder_dead else self._contents.holder

    def _take(self, operation: str) -> LockInfo:
        now = self._now()
        self._contents.fence += 1
        self._contents.holder_dead = False
        self._contents.holder = LockInfo(
            id=uuid.uuid4().hex,
            who="you@memory",
            host="memory",
            pid=0,
            operation=operation,
            since=now,
            expires=now,
            fence=self._contents.fence,
        )
        return self._contents.holder

    def crash(self) -> None:
        """The holder's process died without a word: the next `lock` breaks its lock at once, as on one machine."""
        with self._changed:
            self._contents.holder_dead = self._contents.holder is not None
            self._changed.notify_all()

    def append(self, lease: Lease, entries: Sequence[Entry]) -> None:
        lines = tuple(json.dumps(entry.to_dict(), allow_nan=False) for entry in entries)
        with self._changed:
            self._check(lease)
            if self._contents.snapshot is None:
                raise StoreError(
                    f"{self.describe()!r} has no state yet, so nothing can be noted in its journal",
                    hint="write the first snapshot, which holds the lineage, before the first entry",
                )
            self._contents.journal += lines

    def write(self, lease: Lease, state: State) -> State:
        with self._changed:
            self._check(lease)
            self._refuse_foreign(state)
            written = replace(state, serial=state.serial + 1, updated_at=self._now())
            text = json.dumps(written.to_dict(), allow_nan=False)
            self._contents.backup = replaced = self._contents.snapshot
            if replaced is not None:
                self._contents.kept = (*self._contents.kept, replaced)[-_KEPT:]
            self._contents.snapshot = text
            self._contents.journal = ()
        return written

    def history(self) -> Sequence[Version]:
        with self._changed:
            texts = (self._contents.snapshot, *reversed(self._contents.kept))
        return [_version(text, current=index == 0) for index, text in enumerate(texts) if text is not None]

    def version(self, serial: int) -> State:
        with self._changed:
            texts = (self._contents.snapshot, *reversed(self._contents.kept))
        for text in texts:
            state = None if text is None else State.from_dict(json.loads(text))
            if state is not None and state.serial == serial:
                return state
        raise no_version(self.describe(), serial, self.history())

    def _refuse_foreign(self, state: State) -> None:
        if state.stack != self.stack:
            raise StoreError(f"the state of stack {state.stack!r} cannot be written to {self.describe()!r}")
        if self._contents.snapshot is None:
            return
        serial = json.loads(self._contents.snapshot)["serial"]
        if state.serial < serial:
            raise StoreError(
                f"{self.describe()!r} is at serial {serial} already, newer than the {state.serial} to be written",
                hint="read the state again",
            )

    def _check(self, lease: Lease) -> None:
        held = self._contents.holder
        if held is None or held.id != lease.info.id or held.fence != lease.info.fence:
            now_with = "nobody holds it" if held is None else f"{held.holder} holds it"
            raise LeaseLost(
                f"the lock of {self.describe()!r} was lost: {now_with} now",
                hint="run the command again; it starts from what is really there",
            )

    def _release(self, lease: Lease) -> None:
        with self._changed:
            held = self._contents.holder
            if held is not None and held.id == lease.info.id:
                self._contents.holder = None
                self._contents.holder_dead = False
                self._changed.notify_all()

    def secret_key(self, *, create: bool) -> bytes | None:
        with self._changed:
            if self._contents.key is None and create:
                self._contents.key = secrets.token_bytes(32)
            return self._contents.key

    def take_key(self, lease: Lease, key: bytes) -> None:
        with self._changed:
            self._check(lease)
            self._contents.key = key

    def keep(self, lease: Lease, versions: Sequence[State]) -> int:
        with self._changed:
            self._check(lease)
            texts = {json.loads(text)["serial"]: text for text in self._contents.kept}
            new = {
                v.serial: json.dumps(v.to_dict(), allow_nan=False) for v in versions if v.serial not in texts
            }
            kept = [text for _, text in sorted({**texts, **new}.items())]
            self._contents.kept = tuple(kept[-_KEPT:])
        return len(new)

    def lock_info(self) -> LockInfo | None:
        with self._changed:
            return self._contents.holder

    def force_unlock(self, lock_id: str) -> LockInfo:
        with self._changed:
            held = self._contents.holder
            if held is None:
                raise StoreError(f"nobody holds the lock of {self.describe()!r}")
            if held.id != lock_id:
                raise StoreError(
                    f"the lock of {self.describe()!r} has the id {held.id}, not {lock_id}",
                    hint="look at it with `reconciler lock show`",
                )
            self._contents.holder = None
            self._contents.holder_dead = False
            self._changed.notify_all()
            return held


def _version(text: str, *, current: bool) -> Version:
    state = State.from_dict(json.loads(text))
    return Version(
        serial=state.serial,
        at=state.updated_at,
        sandboxes=len(state.sandboxes),
        size=len(text),
        lineage=state.lineage,
        current=current,
    )


class _MemoryLease(Lease):
    def __init__(self, store: MemoryStore, info: LockInfo) -> None:
        self._store = store
        self.info = info

    def check(self) -> None:
        with self._store._changed:
            self._store._check(self)

    def release(self) -> None:
        self._store._release(self)
