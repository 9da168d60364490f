"""A whole small cluster in this process: start it with `running()`, point a client at its kubeconfig."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.kubernetes import http
from tests.support.kubernetes.admission import Admission
from tests.support.kubernetes.api import Api, Call, stamp
from tests.support.kubernetes.collector import Collector
from tests.support.kubernetes.controllers import SandboxController, ServiceProxy
from tests.support.kubernetes.hostile import Answer, Misbehaves
from tests.support.kubernetes.kubelet import Kubelet
from tests.support.kubernetes.lists import Lists
from tests.support.kubernetes.metrics import MetricsServer
from tests.support.kubernetes.network import Network
from tests.support.kubernetes.refusals import Json
from tests.support.kubernetes.resources import ALL, NAMESPACES, NODES, PODS, SANDBOXES, Resource
from tests.support.kubernetes.storage import Storage
from tests.support.kubernetes.streams import Streams

NODE = "node-1"


class Cluster:
    """The parts are public: change their knobs while it runs.

    `crds` is whether the Sandbox type exists. `nodes` False leaves pods where they are, as a bare API server does.
    """

    def __init__(self, *, crds: bool = True, nodes: bool = True, pace: float = 0.02) -> None:
        self.crds = crds
        prefix = f"127.{1 + (os.getpid() * 7 + random.randint(0, 250)) % 250}"
        self.storage = Storage()
        self.admission = Admission(network=prefix)
        self.api = Api(self.storage, self.admission)
        self.lists = Lists(self.storage)
        self.network = Network()
        self.kubelet = Kubelet(self.storage, self.api, self.network, prefix, pace=pace)
        self.kubelet.stopped = not nodes
        everything = {resource.key: resource for resource in (*ALL, SANDBOXES)}
        self.collector = Collector(self.storage, self.api, everything)
        self.sandboxes = SandboxController(self.storage, self.api, self.kubelet)
        self.node_address = f"{prefix}.0.1"
        self.services = ServiceProxy(self.storage, self.network, self.node_address)
        self.server = http.Server(self.api, self.lists, self.known)
        streams = Streams(self.kubelet)
        self.server.streams = {"log": streams.log, "exec": streams.exec, "portforward": streams.portforward}
        self.metrics = MetricsServer(self.storage)
        self.server.metrics = self.metrics.listed
        for name in ("default", "kube-system"):
            self.make("v1", "Namespace", name)
        if nodes:
            self.add_node(NODE)
        http.serve(self.server)

    def known(self) -> tuple[Resource, ...]:
        return (*ALL, SANDBOXES) if self.crds else ALL

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def log(self) -> list[http.Request]:
        """Every request so far."""
        return self.server.log

    def add_node(self, name: str, cpu: str = "64", memory: str = "256Gi") -> None:
        size = {"cpu": cpu, "memory": memory, "pods": "2000"}
        addresses = [
            {"type": "InternalIP", "address": self.node_address},
            {"type": "Hostname", "address": name},
        ]
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": stamp()}
        node = self.make("v1", "Node", name)
        status = {"capacity": size, "allocatable": size, "addresses": addresses, "conditions": [ready]}
        with self.storage.lock:
            self.storage.put((NODES.key, "", name), {**node, "status": status})

    def make(self, api_version: str, kind: str, name: str, namespace: str = "", **parts: Any) -> Json:
        """Create an object past HTTP, as somebody else would."""
        resource = next(
            one for one in (*ALL, SANDBOXES) if (one.api_version, one.kind) == (api_version, kind)
        )
        thing = {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"name": name, **parts.pop("metadata", {})},
            **parts,
        }
        where = (namespace or "default") if resource.namespaced else ""
        return self.api.create(Call(resource=resource, namespace=where, agent="somebody-else/1"), thing)

    def get(self, plural: str, name: str, namespace: str = "default") -> Json | None:
        """`plural` as messages name it: pods, leases.coordination.k8s.io."""
        with self.storage.lock:
            return self.storage.get(
                (plural, "" if plural in (NAMESPACES.key, NODES.key) else namespace, name)
            )

    def change(
        self,
        plural: str,
        name: str,
        change: Callable[[Json], None],
        namespace: str = "default",
        *,
        by: str = "somebody-else",
    ) -> Json:
        """Change an object behind everybody's back: `change` gets a copy. The field manager is `by`."""
        resource = next(one for one in (*ALL, SANDBOXES) if one.key == plural)
        with self.storage.lock:
            call = Call(
                resource=resource, namespace=namespace if resource.namespaced else "", name=name, agent=by
            )
            thing = copy.deepcopy(self.api.get(call))
            change(thing)
            return self.api.replace(call, thing)

    def pods(self, namespace: str = "") -> list[Json]:
        with self.storage.lock:
            return self.storage.list(PODS, namespace)

    def kubeconfig(
        self, path: Path, *, token: str = "", ca: Path | None = None, client: tuple[Path, Path] | None = None,
        namespace: str = "default", context: str = "fake", server: str = "", user: Json | None = None,
    ) -> Path:  # fmt: skip
        """Write one that leads here. `user` replaces the user's entry altogether (exec plugins and the like)."""
        cluster: Json = {"server": server or self.url}
        if ca:
            cluster["certificate-authority"] = str(ca)
        entry: Json = {"token": token} if token else {}
        if client:
            entry = {"client-certificate": str(client[0]), "client-key": str(client[1])}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": context, "cluster": cluster}],
            "users": [{"name": context, "user": entry if user is None else user}],
            "contexts": [
                {"name": context, "context": {"cluster": context, "user": context, "namespace": namespace}}
            ],
        }
        path.write_text(yaml.safe_dump(document))
        path.chmod(0o600)
        return path

    def misbehave(
        self, answer: Answer, path: str = "", *, method: str = "", times: int = 1_000_000, after: int = 0
    ) -> Misbehaves:
        """From now on, requests that match are answered like this. The path is a regular expression."""
        fault = Misbehaves(answer, path, method, times, after)
        self.server.misbehaviours.append(fault)
        return fault

    def behave(self) -> None:
        """Answer everything well again."""
        self.server.misbehaviours.clear()

    def close(self) -> None:
        self.storage.close()
        self.server.shutdown()
        self.server.drop_connections()
        self.server.server_close()
        self.collector.close()
        self.kubelet.close()
        self.network.close()


@contextmanager
def running(*, crds: bool = True, nodes: bool = True, pace: float = 0.02) -> Iterator[Cluster]:
    cluster = Cluster(crds=crds, nodes=nodes, pace=pace)
    try:
        yield cluster
    finally:
        cluster.close()
