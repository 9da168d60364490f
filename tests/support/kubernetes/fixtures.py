"""Fixtures for everything that needs Kubernetes: the fake cluster always, and a real one where one is named.

RECONCILER_TEST_KUBECONFIG   a kubeconfig: tests that can run on any cluster run on that one
RECONCILER_TEST_IMAGE        an image that serves /v1/sandbox there (README of tests/kubernetes)
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.kubernetes.cluster import Cluster, running
from tests.support.kubernetes.reach import Reach, client, has_controllers, has_nodes

NAMED = os.environ.get("RECONCILER_TEST_KUBECONFIG", "")
CLEANED = (
    ("/apis/agents.x-k8s.io/v1beta1", "sandboxes"),
    ("/api/v1", "pods"),
    ("/api/v1", "services"),
    ("/api/v1", "secrets"),
    ("/api/v1", "configmaps"),
    ("/api/v1", "persistentvolumeclaims"),
    ("/apis/networking.k8s.io/v1", "networkpolicies"),
    ("/apis/coordination.k8s.io/v1", "leases"),
    ("/api/v1", "events"),
)
KINDS = ("fake", "cluster") if NAMED else ("fake",)


@pytest.fixture
def kube_fake() -> Iterator[Cluster]:
    """A fake cluster of one's own."""
    with running() as cluster:
        yield cluster


@pytest.fixture(params=KINDS)
def kube(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reach]:
    """Each kind of cluster there is, with a namespace of one's own that goes away afterwards."""
    namespace = f"reconciler-test-{uuid.uuid4().hex[:8]}"
    if request.param == "fake":
        with running() as cluster:
            cluster.make("v1", "Namespace", namespace)
            path = cluster.kubeconfig(tmp_path / "kubeconfig", namespace=namespace)
            with client(path) as http:
                yield Reach(kind="fake", http=http, kubeconfig=path, namespace=namespace, nodes=True)
        return
    with client(Path(NAMED)) as http, namespace_of_its_own(http, namespace):
        yield Reach(
            kind="cluster", http=http, kubeconfig=Path(NAMED), namespace=namespace, nodes=has_nodes(http)
        )


@contextmanager
def namespace_of_its_own(http: httpx.Client, name: str) -> Iterator[str]:
    """Made now; it and all that it holds is gone afterwards, also on a server that has no controllers to do that."""
    made = http.post("/api/v1/namespaces", json={"metadata": {"name": name}})
    assert made.status_code == 201, made.text
    try:
        yield name
    finally:
        for base, plural in CLEANED:
            url = f"{base}/namespaces/{name}/{plural}"
            found = http.get(url)
            if found.status_code != 200:  # a type that this cluster does not have
                continue
            for thing in found.json().get("items") or ():
                if thing["metadata"].get("finalizers"):
                    where = f"{url}/{thing['metadata']['name']}"
                    kind = {"Content-Type": "application/merge-patch+json"}
                    http.patch(where, json={"metadata": {"finalizers": None}}, headers=kind)
            http.request("DELETE", url, params={"gracePeriodSeconds": "0"})
        http.delete(f"/api/v1/namespaces/{name}")
        if not has_controllers(http):
            http.put(
                f"/api/v1/namespaces/{name}/finalize",
                json={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {}},
            )
