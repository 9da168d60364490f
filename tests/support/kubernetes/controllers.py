"""The controllers that act on objects: agent-sandbox makes a pod of each Sandbox, the service proxy listens for Services."""

from __future__ import annotations

import copy
import random
import socket

from tests.support.kubernetes import podstatus
from tests.support.kubernetes.api import Api, Call
from tests.support.kubernetes.kubelet import Kubelet
from tests.support.kubernetes.network import Network, Talk, pipe
from tests.support.kubernetes.refusals import Json
from tests.support.kubernetes.resources import PODS, SANDBOXES, SERVICES
from tests.support.kubernetes.selectors import labels
from tests.support.kubernetes.storage import Change, Key, Storage


class SandboxController:
    """As agent-sandbox does: one pod of the same name, status.conditions Ready, suspension; a changed template is ignored."""

    def __init__(self, storage: Storage, api: Api, kubelet: Kubelet) -> None:
        self.stopped = False
        self._storage = storage
        self._api = api
        self._kubelet = kubelet
        storage.observe(self._noticed)

    def _noticed(self, change: Change) -> None:
        kind, namespace, name = change.key
        if kind == SANDBOXES.key and change.after is not None:
            self._kubelet.later(1, lambda: self.look_at(change.key))
        elif kind == PODS.key:
            thing = change.after or change.before or {}
            owners = thing["metadata"].get("ownerReferences") or ()
            if any(owner["kind"] == "Sandbox" for owner in owners):
                self._kubelet.later(1, lambda: self.look_at((SANDBOXES.key, namespace, name)))

    def look_at(self, key: Key) -> None:
        with self._storage.lock:
            sandbox = self._storage.get(key)
            if sandbox is None or sandbox["metadata"].get("deletionTimestamp") or self.stopped:
                return
            pod = self._storage.get((PODS.key, *key[1:]))
            wanted = sandbox["spec"].get("operatingMode") != "Suspended"
            if pod is None and wanted:
                pod = self._create(sandbox)
            elif pod is not None and not wanted and not pod["metadata"].get("deletionTimestamp"):
                self._api.delete(Call(resource=PODS, namespace=key[1], name=key[2]), {})
            self._write(key, sandbox, pod, wanted)

    def _create(self, sandbox: Json) -> Json:
        metadata, template = sandbox["metadata"], sandbox["spec"]["podTemplate"]
        extra = template.get("metadata") or {}
        name = metadata["name"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {**(extra.get("labels") or {}), "agents.x-k8s.io/sandbox-name-hash": f"{hash(name) & 0xFFFFFFFF:08x}"},
                "annotations": extra.get("annotations") or {},
                "ownerReferences": [
                    {
                        "apiVersion": SANDBOXES.api_version, "kind": "Sandbox", "name": name, "uid": metadata["uid"],
                        "controller": True, "blockOwnerDeletion": True,
                    }
                ],
            },
            "spec": copy.deepcopy(template["spec"]),
        }  # fmt: skip
        call = Call(resource=PODS, namespace=metadata["namespace"], agent="agent-sandbox-controller")
        return self._api.create(call, pod)

    def _write(self, key: Key, sandbox: Json, pod: Json | None, wanted: bool) -> None:
        name = key[2]
        status = copy.deepcopy(sandbox.get("status") or {})
        ready, reason, message = self._readiness(pod, wanted)
        condition = podstatus.condition("Ready", ready, reason, message)
        condition["observedGeneration"] = sandbox["metadata"]["generation"]
        condition.pop("lastProbeTime")
        old = next((each for each in status.get("conditions") or () if each["type"] == "Ready"), None)
        if old is not None and all(
            old.get(each) == condition[each] for each in condition if each != "lastTransitionTime"
        ):
            condition = old
        status.update(conditions=[condition], replicas=1 if pod else 0)
        status["selector"] = f"agents.x-k8s.io/sandbox-name-hash={hash(name) & 0xFFFFFFFF:08x}"
        status["podIPs"] = [each["ip"] for each in (pod or {}).get("status", {}).get("podIPs") or ()]
        if sandbox["spec"].get("service"):
            status.update(service=name, serviceFQDN=f"{name}.{key[1]}.svc.cluster.local")
        if status != sandbox.get("status"):
            call = Call(
                resource=SANDBOXES,
                namespace=key[1],
                name=name,
                subresource="status",
                agent="agent-sandbox-controller",
            )
            self._api.replace(call, {**sandbox, "status": status})

    def _readiness(self, pod: Json | None, wanted: bool) -> tuple[bool, str, str]:
        if not wanted:
            return False, "SandboxSuspended", "Sandbox is suspended"
        if pod is None:
            return False, "DependenciesNotReady", "Pod does not exist"
        phase = pod.get("status", {}).get("phase")
        if phase in ("Failed", "Succeeded"):
            return False, f"Pod{phase}", f"Pod is {phase}"
        for each in pod.get("status", {}).get("conditions") or ():
            if each["type"] == "Ready" and each["status"] == "True":
                return True, "DependenciesReady", "Pod is Ready"
        return False, "DependenciesNotReady", f"Pod exists with phase: {phase}"


class ServiceProxy:
    """Every cluster address and node port really listens, and passes connections on to a ready pod."""

    def __init__(self, storage: Storage, network: Network, node: str) -> None:
        self._storage = storage
        self._network = network
        self._node = node
        storage.observe(self._noticed)

    def _noticed(self, change: Change) -> None:
        if change.key[0] != SERVICES.key:
            return
        before, after = change.before, change.after
        for address, port, _ in self._points(before) if before else ():
            if not after or (address, port) not in [point[:2] for point in self._points(after)]:
                self._network.hang_up(address, port)
        for address, port, target in self._points(after) if after else ():
            self._network.listen(address, port, self._talk(change.key, target))

    def _points(self, service: Json) -> list[tuple[str, int, object]]:
        spec = service["spec"]
        out: list[tuple[str, int, object]] = []
        for port in spec.get("ports") or ():
            if spec.get("clusterIP") not in (None, "", "None"):
                out.append((spec["clusterIP"], port["port"], port["targetPort"]))
            if port.get("nodePort"):
                out.append((self._node, port["nodePort"], port["targetPort"]))
        return out

    def _talk(self, key: Key, target: object) -> Talk:
        def talk(connection: socket.socket) -> None:
            found = self.endpoints(key, target)
            if found:
                with socket.create_connection(random.choice(found), 5) as other:
                    other.settimeout(None)
                    pipe(connection, other)

        return talk

    def endpoints(self, key: Key, target: object) -> list[tuple[str, int]]:
        """Addresses of the ready pods behind a service."""
        with self._storage.lock:
            service = self._storage.get(key)
            selector = (service or {}).get("spec", {}).get("selector") or {}
            if not selector:
                return []
            chosen = labels(",".join(f"{name}={value}" for name, value in selector.items()))
            pods = [pod for pod in self._storage.list(PODS, key[1]) if chosen(pod)]
        out = []
        for pod in pods:
            ready = any(
                each["type"] == "Ready" and each["status"] == "True"
                for each in pod.get("status", {}).get("conditions") or ()
            )
            port = _target(pod, target)
            if ready and port and not pod["metadata"].get("deletionTimestamp"):
                out.append((pod["status"]["podIP"], port))
        return out


def _target(pod: Json, target: object) -> int | None:
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == target:
                return int(port["containerPort"])
    return None
