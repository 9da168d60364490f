"""The conformance suite on every store that comes with the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.stores.base import Store
from reconciler.stores.file import FileStore
from reconciler.stores.file.lease import Timing
from reconciler.stores.http import HttpStore
from reconciler.stores.http.wire import Pace
from reconciler.stores.kubernetes.lease import Timing as ClusterTiming
from reconciler.stores.memory import MemoryStore
from reconciler.stores.postgres.lease import Timing as PostgresTiming
from reconciler.testing.store_conformance import STACK, StoreConformance
from tests.stores import clusters, databases
from tests.stores.hosts import OnOneMachine, Sealed
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


class TestFileStore(OnOneMachine):
    def open(self, home: Path) -> Store:
        return FileStore(
            STACK,
            path=home / "state",
            host=self.host(),
            timing=Timing(poll=0.005),
            environ={},
            sealer=self.sealer(),
        )


class TestSealedFileStore(Sealed, TestFileStore):
    """The same, with everything encrypted."""


class TestHttpStore(OnOneMachine):
    """On a server that does what the protocol says and nothing more."""

    keeps_history = False
    keeps_journal = False
    keeps_key = False
    fences = False
    kind = "plain"

    @pytest.fixture(autouse=True)
    def server(self) -> Iterator[StateServer]:
        with keeping(self.kind) as self.states:
            yield self.states

    def open(self, home: Path) -> Store:
        pace = Pace(first=0.01, poll=0.005)
        return HttpStore(
            STACK,
            **self.states.options(),
            timeout=10.0,
            host=self.host(),
            pace=pace,
            environ={},
            sealer=self.sealer(),
        )


class TestHttpStoreOnGitLab(TestHttpStore):
    """On one that behaves as GitLab does: it keeps no more of a lock than its id."""

    kind = "gitlab"
    tells_holder = False


class TestSealedHttpStoreOnGitLab(Sealed, TestHttpStoreOnGitLab):
    """The same, with everything encrypted."""


@requires_postgres
class TestPostgresStore(OnOneMachine):
    """The same on a real server; each home has a schema of its own."""

    @pytest.fixture(autouse=True)
    def server(self, postgres: Postgres) -> Iterator[None]:
        self.url = postgres.url()
        yield
        self.close_all()

    def open(self, home: Path) -> Store:
        timing = PostgresTiming(poll=0.005)
        return self.kept(
            databases.a_store(self.url, home, host=self.host(), timing=timing, sealer=self.sealer())
        )


class TestSealedPostgresStore(Sealed, TestPostgresStore):
    """The same, with everything encrypted."""


class TestKubernetesStore(OnOneMachine):
    """The same on an API server; each test has a cluster of its own."""

    @pytest.fixture(autouse=True)
    def server(self, tmp_path: Path) -> Iterator[None]:
        with running(nodes=False) as cluster:
            self.kubeconfig = cluster.kubeconfig(tmp_path / "kubeconfig")
            yield
            self.close_all()

    def open(self, home: Path) -> Store:
        timing = ClusterTiming(poll=0.005)
        return self.kept(
            clusters.a_store(self.kubeconfig, host=self.host(), timing=timing, sealer=self.sealer())
        )


class TestSealedKubernetesStore(Sealed, TestKubernetesStore):
    """The same, with everything encrypted."""
