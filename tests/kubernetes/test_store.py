"""The store's conformance suite on the cluster at hand, and what only a real API server decides: sizes, and who may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.errors import LeaseLost
from reconciler.stores.base import Store
from reconciler.stores.host import Host, this_host
from reconciler.stores.kubernetes import KubernetesStore
from reconciler.stores.kubernetes.lease import Timing
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import StoreConformance, created
from tests.kubernetes.conftest import Ground
from tests.stores.clusters import NAME, a_store
from tests.stores.places import a_key, a_sealer
from tests.stores.test_kubernetes_store import large


class TestStore(StoreConformance):
    """Each store is a process of its own on one machine: pids from 1000000 up, alive until killed."""

    @pytest.fixture(autouse=True)
    def namespace(self, ground: Ground) -> Iterator[None]:
        self.ground = ground
        self.alive: dict[int, str | None] = {}
        self.opened: list[Store] = []
        yield
        for store in self.opened:
            store.close()

    def open(self, home: Path) -> Store:
        pid = 1_000_000 + len(self.alive)
        self.alive[pid] = "then"
        host: Host = replace(this_host(), pid=pid, boot="this boot", started=self.alive.get)
        store = a_store(
            self.ground.reach.kubeconfig,
            namespace=self.ground.namespace,
            host=host,
            timing=Timing(poll=0.02),
            sealer=self.sealer(),
        )
        self.opened.append(store)
        return store

    def sealer(self) -> Sealer:
        return PLAIN

    def kill(self, home: Path, store: Store) -> None:
        info = store.lock_info()
        assert info is not None
        self.alive[info.pid] = None


class TestSealedStore(TestStore):
    """The same, with everything encrypted."""

    def sealer(self) -> Sealer:
        return a_sealer(a_key())


@pytest.fixture
def store(ground: Ground) -> Iterator[KubernetesStore]:
    made = a_store(ground.reach.kubeconfig, namespace=ground.namespace, timing=Timing(renew=0.05))
    yield made
    made.close()


def test_a_state_that_needs_several_secrets_comes_back_whole(ground: Ground, store: KubernetesStore) -> None:
    with store.lock("apply") as lease:
        written = store.write(lease, large(2500))
    parts = [thing for thing in ground.listed("secrets") if "." in thing["metadata"]["name"]]
    assert len(parts) >= 3
    assert store.read() == written


def test_a_lease_is_renewed_and_given_back_as_the_cluster_has_it(
    ground: Ground, store: KubernetesStore
) -> None:
    with store.lock("apply") as lease:
        store.write(lease, large(1))
        [held] = ground.listed("leases", "coordination.k8s.io/v1")
        assert held["metadata"]["name"] == NAME
        assert held["spec"]["holderIdentity"].endswith(lease.info.id)
        for _ in range(20):
            store.append(lease, created("a"))
        lease.check()
    [free] = ground.listed("leases", "coordination.k8s.io/v1")
    assert not free["spec"].get("holderIdentity")
    with pytest.raises(LeaseLost):
        store.append(lease, created("b"))
