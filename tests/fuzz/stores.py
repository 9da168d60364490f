"""A store that the run's death cuts off, and whose disk fills up: around the memory store or the file store."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reconciler.errors import StoreError
from reconciler.model.outcome import Entry
from reconciler.model.state import State
from reconciler.stores.base import Lease, LockInfo, Store, Version
from reconciler.stores.file import FileStore
from reconciler.stores.memory import MemoryStore
from tests.fuzz.backends import Killed
from tests.fuzz.scenario import STACK
from tests.stores.places import Machine


class Mortal(Store):
    """Passes everything on while the run lives. `expect` says at which write that ends."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.expect()

    def expect(self, *, dies_at: int | None = None, after: bool = False, full_at: int | None = None) -> None:
        self._dies_at, self._after, self._full_at = dies_at, after, full_at
        self._writes = 0
        self.dead = False
        self.failed = False
        self._lease: Lease | None = None

    def die(self) -> Killed:
        """The process is gone: nothing it still does reaches the disk."""
        self.dead = True
        return Killed()

    def lock(self, operation: str, **kwargs: Any) -> Lease:
        self._lease = _MortalLease(self, self.inner.lock(operation, **kwargs))
        return self._lease

    def append(self, lease: Lease, entries: Sequence[Entry]) -> None:
        self._write(lambda: self.inner.append(_inner(lease), entries))

    def write(self, lease: Lease, state: State) -> State:
        written: State = self._write(lambda: self.inner.write(_inner(lease), state))
        return written

    def _write(self, effect: Callable[[], Any]) -> Any:
        if self.dead:
            raise Killed
        self._writes += 1
        if self._full_at is not None and self._writes >= self._full_at:
            self.failed = True
            raise StoreError("no space left on the disk")
        if self._writes != self._dies_at:
            return effect()
        if self._after:
            effect()
        raise self.die()

    def read(self) -> State | None:
        return self.inner.read()

    def secret_key(self, *, create: bool) -> bytes | None:
        return self.inner.secret_key(create=create)

    def lock_info(self) -> LockInfo | None:
        return self.inner.lock_info()

    def force_unlock(self, lock_id: str) -> LockInfo:
        return self.inner.force_unlock(lock_id)

    def describe(self) -> str:
        return self.inner.describe()

    def history(self) -> Sequence[Version]:
        return self.inner.history()

    def version(self, serial: int) -> State:
        return self.inner.version(serial)


class _MortalLease(Lease):
    def __init__(self, store: Mortal, inner: Lease) -> None:
        self._store = store
        self.inner = inner
        self.info = inner.info

    def check(self) -> None:
        self.inner.check()

    def release(self) -> None:
        if not self._store.dead:
            self.inner.release()


def _inner(lease: Lease) -> Lease:
    return lease.inner if isinstance(lease, _MortalLease) else lease


class Place:
    """Where the state is: opened anew for each run, as a new process does. `texts` is all that is at rest there."""

    def open(self) -> Mortal:
        raise NotImplementedError

    def bury(self, store: Mortal) -> None:
        """The process that used this store is dead, and its lock with it."""
        raise NotImplementedError

    def texts(self) -> str:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is left of it."""


class InMemory(Place):
    def __init__(self) -> None:
        self._store = MemoryStore(STACK)

    def open(self) -> Mortal:
        return Mortal(self._store)

    def bury(self, store: Mortal) -> None:
        self._store.crash()

    def texts(self) -> str:
        contents = self._store._contents
        return "\n".join([contents.snapshot or "", contents.backup or "", *contents.journal])


class InFiles(Place):
    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self._path = Path(self._directory.name)
        self._machine = Machine()
        self._pid = 100

    def open(self) -> Mortal:
        self._pid += 1
        return Mortal(FileStore(STACK, path=self._path, host=self._machine.process(self._pid), environ={}))

    def bury(self, store: Mortal) -> None:
        """Its heartbeat ends, while the lock stays on the disk as the dead left it."""
        lock = self._path / f"{STACK}.lock"
        left = lock.read_bytes()
        if store._lease is not None:
            _inner(store._lease).release()
        lock.write_bytes(left)
        self._machine.processes[self._pid] = None

    def texts(self) -> str:
        files = [path for path in sorted(self._path.rglob("*")) if path.suffix != ".key"]
        return "\n".join(path.read_text(errors="replace") for path in files if path.is_file())

    def close(self) -> None:
        self._directory.cleanup()


PLACES: dict[str, type[Place]] = {"memory": InMemory, "file": InFiles}


def as_json(state: State) -> Any:
    """As it is written, for the schema."""
    return json.loads(json.dumps(state.to_dict(), allow_nan=False))
