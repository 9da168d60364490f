"""The store's conformance suite on the cluster at hand, and what only a real API server decides: sizes, and who may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import LeaseLost
from reconciler.stores.base import Store
from reconciler.stores.kubernetes import KubernetesStore
from reconciler.stores.kubernetes.lease import Timing
from reconciler.testing.store_conformance import created
from tests.kubernetes.conftest import Ground
from tests.stores.clusters import NAME, a_store
from tests.stores.hosts import OnOneMachine, Sealed
from tests.stores.test_kubernetes_store import large


class TestStore(OnOneMachine):
    @pytest.fixture(autouse=True)
    def namespace(self, ground: Ground) -> Iterator[None]:
        self.ground = ground
        yield
        self.close_all()

    def open(self, home: Path) -> Store:
        return self.kept(
            a_store(
                self.ground.reach.kubeconfig,
                namespace=self.ground.namespace,
                host=self.host(),
                timing=Timing(poll=0.02),
                sealer=self.sealer(),
            )
        )


class TestSealedStore(Sealed, TestStore):
    """The same, with everything encrypted."""


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
