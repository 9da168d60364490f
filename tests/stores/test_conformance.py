"""The conformance suite on every store that comes with the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reconciler.stores.base import Store
from reconciler.stores.file import FileStore
from reconciler.stores.file.host import Host, this_host
from reconciler.stores.file.lease import Timing
from reconciler.stores.memory import MemoryStore
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import STACK, StoreConformance
from tests.stores.places import a_key, a_sealer


class TestMemoryStore(StoreConformance):
    def open(self, home: Path) -> Store:
        stores: dict[Path, MemoryStore] = self.__dict__.setdefault("stores", {})
        return stores.setdefault(home, MemoryStore(STACK))

    def kill(self, home: Path, store: Store) -> None:
        assert isinstance(store, MemoryStore)
        store.crash()


class TestFileStore(StoreConformance):
    """Each store is a process of its own on one machine: pids from 1000000 up, alive until killed."""

    def open(self, home: Path) -> Store:
        self.alive = getattr(self, "alive", {})
        pid = 1_000_000 + len(self.alive)
        self.alive[pid] = "then"
        host: Host = replace(this_host(), pid=pid, boot="this boot", started=self.alive.get)
        return FileStore(
            STACK,
            path=home / "state",
            host=host,
            timing=Timing(poll=0.005),
            environ={},
            sealer=self.sealer(),
        )

    def sealer(self) -> Sealer:
        return PLAIN

    def kill(self, home: Path, store: Store) -> None:
        info = store.lock_info()
        assert info is not None
        self.alive[info.pid] = None


class TestSealedFileStore(TestFileStore):
    """The same, with everything encrypted."""

    def sealer(self) -> Sealer:
        return a_sealer(a_key())
