"""For the conformance classes of stores that know their runs by host and process."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from reconciler.stores.base import Store
from reconciler.stores.host import Host, this_host
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import StoreConformance
from tests.stores.places import a_key, a_sealer


class OnOneMachine(StoreConformance):
    """Each store is a process of its own on one machine: pids from 1000000 up, alive until killed."""

    def setup_method(self) -> None:
        self.alive: dict[int, str | None] = {}
        self.opened: list[Store] = []

    def host(self) -> Host:
        """The next process."""
        pid = 1_000_000 + len(self.alive)
        self.alive[pid] = "then"
        return replace(this_host(), pid=pid, boot="this boot", started=self.alive.get)

    def kept(self, store: Store) -> Store:
        """One that `close_all` closes."""
        self.opened.append(store)
        return store

    def close_all(self) -> None:
        for store in self.opened:
            store.close()

    def sealer(self) -> Sealer:
        return PLAIN

    def kill(self, home: Path, store: Store) -> None:
        info = store.lock_info()
        assert info is not None
        self.alive[info.pid] = None


class Sealed(OnOneMachine):
    """With everything encrypted; to be named before the class that it is about."""

    def sealer(self) -> Sealer:
        return a_sealer(a_key())
