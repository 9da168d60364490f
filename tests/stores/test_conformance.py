"""The conformance suite on every store that comes with the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.stores.base import Store
from reconciler.stores.file import FileStore
from reconciler.stores.file.lease import Timing
from reconciler.stores.host import Host, this_host
from reconciler.stores.http import HttpStore
from reconciler.stores.http.wire import Pace
from reconciler.stores.kubernetes.lease import Timing as ClusterTiming
from reconciler.stores.memory import MemoryStore
from reconciler.stores.postgres.lease import Timing as PostgresTiming
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import STACK, StoreConformance
from tests.stores import clusters, databases
from tests.stores.places import a_key, a_sealer
from tests.support.kubernetes.cluster import running
from tests.support.postgres import Postgres, requires_postgres
from tests.support.states import StateServer, keeping


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


class TestHttpStore(StoreConformance):
    """On a server that does what the protocol says and nothing more."""

    keeps_history = False
    keeps_journal = False
    keeps_key = False
    fences = False
    kind = "plain"

    @pytest.fixture(autouse=True)
    def server(self) -> Iterator[StateServer]:
        self.alive: dict[int, str | None] = {}
        with keeping(self.kind) as self.states:
            yield self.states

    def open(self, home: Path) -> Store:
        pid = 1_000_000 + len(self.alive)
        self.alive[pid] = "then"
        host: Host = replace(this_host(), pid=pid, boot="this boot", started=self.alive.get)
        pace = Pace(first=0.01, poll=0.005)
        return HttpStore(
            STACK,
            **self.states.options(),
            timeout=10.0,
            host=host,
            pace=pace,
            environ={},
            sealer=self.sealer(),
        )

    def sealer(self) -> Sealer:
        return PLAIN

    def kill(self, home: Path, store: Store) -> None:
        info = store.lock_info()
        assert info is not None
        self.alive[info.pid] = None


class TestHttpStoreOnGitLab(TestHttpStore):
    """On one that behaves as GitLab does: it keeps no more of a lock than its id."""

    kind = "gitlab"
    tells_holder = False


class TestSealedHttpStoreOnGitLab(TestHttpStoreOnGitLab):
    """The same, with everything encrypted."""

    def sealer(self) -> Sealer:
        return a_sealer(a_key())


@requires_postgres
class TestPostgresStore(StoreConformance):
    """The same on a real server; each home has a schema of its own."""

    @pytest.fixture(autouse=True)
    def server(self, postgres: Postgres) -> Iterator[None]:
        self.url = postgres.url()
        self.alive: dict[int, str | None] = {}
        self.opened: list[Store] = []
        yield
        for store in self.opened:
            store.close()

    def open(self, home: Path) -> Store:
        pid = 1_000_000 + len(self.alive)
        self.alive[pid] = "then"
        host: Host = replace(this_host(), pid=pid, boot="this boot", started=self.alive.get)
        timing = PostgresTiming(poll=0.005)
        store = databases.a_store(self.url, home, host=host, timing=timing, sealer=self.sealer())
        self.opened.append(store)
        return store

    def sealer(self) -> Sealer:
        return PLAIN

    def kill(self, home: Path, store: Store) -> None:
        info = store.lock_info()
        assert info is not None
        self.alive[info.pid] = None


class TestSealedPostgresStore(TestPostgresStore):
    """The same, with everything encrypted."""

    def sealer(self) -> Sealer:
        return a_sealer(a_key())


class TestKubernetesStore(StoreConformance):
    """The same on an API server; each test has a cluster of its own."""

    @pytest.fixture(autouse=True)
    def server(self, tmp_path: Path) -> Iterator[None]:
        self.alive: dict[int, str | None] = {}
        self.opened: list[Store] = []
        with running(nodes=False) as cluster:
            self.kubeconfig = cluster.kubeconfig(tmp_path / "kubeconfig")
            yield
            for store in self.opened:
                store.close()

    def open(self, home: Path) -> Store:
        pid = 1_000_000 + len(self.alive)
        self.alive[pid] = "then"
        host: Host = replace(this_host(), pid=pid, boot="this boot", started=self.alive.get)
        timing = ClusterTiming(poll=0.005)
        store = clusters.a_store(self.kubeconfig, host=host, timing=timing, sealer=self.sealer())
        self.opened.append(store)
        return store

    def sealer(self) -> Sealer:
        return PLAIN

    def kill(self, home: Path, store: Store) -> None:
        info = store.lock_info()
        assert info is not None
        self.alive[info.pid] = None


class TestSealedKubernetesStore(TestKubernetesStore):
    """The same, with everything encrypted."""

    def sealer(self) -> Sealer:
        return a_sealer(a_key())
