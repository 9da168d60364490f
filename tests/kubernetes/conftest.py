"""The backend on whatever cluster is given (`make test-kubernetes KUBECONFIG=...`), on the fake one where none is.

RECONCILER_TEST_KUBECONFIG   the cluster: its current context, as somebody who may make namespaces
RECONCILER_TEST_IMAGE        an image that answers GET /v1/sandbox on port 8080, and that the cluster can pull or has
RECONCILER_TEST_SHELL        what runs a shell in it (default: sh)
RECONCILER_TEST_BARE         1: the fake cluster has no nodes, as an API server alone has none

Every test has a namespace of its own, which goes afterwards with all that is in it.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.containers import AIO_IMAGE
from tests.support.kubernetes.cluster import Cluster, running
from tests.support.kubernetes.fixtures import NAMED, namespace_of_its_own
from tests.support.kubernetes.reach import Reach, client, eventually, has_controllers, has_nodes

IMAGE = os.environ.get("RECONCILER_TEST_IMAGE") or (AIO_IMAGE if NAMED else "aio:1")
BARE = os.environ.get("RECONCILER_TEST_BARE") == "1" and not NAMED
SHELL = os.environ.get("RECONCILER_TEST_SHELL", "sh")
SERVED = "/apis/agents.x-k8s.io/v1beta1"


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A cluster and a namespace on it. What it cannot do is told by `nodes`, `controllers` and `sandboxes`.

    `sandboxes` is whether it has the type; `agents` whether somebody makes pods of its objects.
    """

    reach: Reach
    controllers: bool
    sandboxes: bool
    agents: bool
    fake: Cluster | None

    @property
    def nodes(self) -> bool:
        return self.reach.nodes

    @property
    def namespace(self) -> str:
        return self.reach.namespace

    def options(self, **more: Any) -> dict[str, Any]:
        """Of the backend's constructor. Slow nodes get time; images that are there are not pulled."""
        mine = {
            "kubeconfig": str(self.reach.kubeconfig),
            "namespace": self.namespace,
            "image": IMAGE,
            "stop_timeout": 1.0,
        }
        return {**mine, **more}

    def config(self, body: str, **more: Any) -> str:
        """A configuration whose default backend is this cluster."""
        options = {"type": "kubernetes", **self.options(**more)}
        options["stop_timeout"] = "1s"
        written = f"backends: {{cluster: {json.dumps(options)}}}\ndefaults: {{backend: cluster}}\n"
        return f"version: 1\nstack: ground\n{written}{body}"

    def needs_nodes(self) -> None:
        """Skip where there are objects only."""
        if not self.nodes:
            pytest.skip("no node of this cluster is ready: objects only")

    def needs_agents(self) -> None:
        if not self.agents:
            pytest.skip("nobody makes pods of Sandbox objects on this cluster")

    def listed(self, plural: str, group: str = "") -> list[dict[str, Any]]:
        found = self.reach.ask("GET", self.reach.path(plural, group=group))
        assert found.status_code == 200, found.text
        items: list[dict[str, Any]] = found.json()["items"]
        return items

    def end(self, pod: str) -> None:
        """Let a pod's containers end by themselves, as any cluster can be made to: its time is over."""
        where = self.reach.path("pods", pod)
        patch = {"spec": {"activeDeadlineSeconds": 1}}
        done = self.reach.ask("PATCH", where, patch, kind="application/strategic-merge-patch+json")
        assert done.status_code == 200, done.text
        eventually(
            lambda: self.reach.ask("GET", where).json()["status"].get("phase") == "Failed", f"{pod} ends", 60
        )


@contextmanager
def _fake(folder: Path, *, nodes: bool) -> Iterator[Ground]:
    """Without nodes it is an API server with its objects, and nothing becomes of a pod."""
    namespace = f"reconciler-test-{uuid.uuid4().hex[:8]}"
    with running(nodes=nodes) as cluster:
        cluster.make("v1", "Namespace", namespace)
        path = cluster.kubeconfig(folder / "kubeconfig", namespace=namespace)
        with client(path) as http:
            reach = Reach(kind="fake", http=http, kubeconfig=path, namespace=namespace, nodes=has_nodes(http))
            yield Ground(reach=reach, controllers=True, sandboxes=True, agents=nodes, fake=cluster)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Ground]:
    """A fake API server that has no nodes, whatever cluster is given."""
    with _fake(tmp_path, nodes=False) as made:
        yield made


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    if not NAMED:
        with _fake(tmp_path, nodes=not BARE) as made:
            yield made
        return
    namespace = f"reconciler-test-{uuid.uuid4().hex[:8]}"
    path = Path(NAMED)
    with client(path) as http, namespace_of_its_own(http, namespace):
        reach = Reach(kind="cluster", http=http, kubeconfig=path, namespace=namespace, nodes=has_nodes(http))
        sandboxes = http.get(SERVED).status_code == 200
        agents = sandboxes and http.get("/api/v1/namespaces/agent-sandbox-system").status_code == 200
        yield Ground(
            reach=reach, controllers=has_controllers(http), sandboxes=sandboxes, agents=agents, fake=None
        )
