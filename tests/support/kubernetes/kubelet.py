"""The scheduler and the kubelet: pods get a node, an address with a real server behind it, a status and an end.

What goes wrong is chosen by the last part of the image's name (`example.test/crash:1`), or by `scenario_of`:

image-missing, unschedulable, crash, oom, evicted, exits, fails, never-ready, slow-ready, stubborn (ignores SIGTERM)
"""

from __future__ import annotations

import contextlib
import heapq
import http.client
import itertools
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.kubernetes import podstatus
from tests.support.kubernetes.api import Api, Call
from tests.support.kubernetes.defaults import amount
from tests.support.kubernetes.environment import Missing, environment
from tests.support.kubernetes.events import Recorder
from tests.support.kubernetes.network import Network
from tests.support.kubernetes.podserver import PodServer
from tests.support.kubernetes.refusals import Json, Refusal
from tests.support.kubernetes.resources import CLAIMS, NODES, PODS
from tests.support.kubernetes.storage import Change, Storage

SCENARIOS = (
    "image-missing", "unschedulable", "crash", "oom", "evicted", "exits", "fails", "never-ready", "slow-ready", "stubborn",
)  # fmt: skip
_CODES = {"crash": (1, "Error"), "oom": (137, "OOMKilled"), "exits": (0, "Completed"), "fails": (3, "Error")}
_LOG = logging.getLogger(__name__)


def by_image(pod: Json) -> str:
    """The scenario that the first container's image asks for; "" when all goes well."""
    name = pod["spec"]["containers"][0]["image"].partition("@")[0].rpartition("/")[2].partition(":")[0]
    return name if name in SCENARIOS else ""


@dataclass
class Running:
    """What the kubelet knows of a pod that is on its node."""

    key: tuple[str, str, str]
    uid: str
    address: str
    root: Path
    scenario: str = ""
    log: list[str] = field(default_factory=list)
    former_log: list[str] = field(default_factory=list)
    restarts: int = 0
    serving: bool = False  # a process listens
    ready: bool = False
    stopping: bool = False
    unready_until: float = 0.0


class Kubelet:
    """`pace` are the seconds that a step takes, and that stand for a probe's period."""

    def __init__(
        self, storage: Storage, api: Api, network: Network, prefix: str, *, pace: float = 0.02
    ) -> None:
        self.pace = pace
        self.scenario_of: Callable[[Json], str] = by_image
        self.stopped = False  # no pod gets anywhere, as with no scheduler and no node
        self.lost: set[str] = set()  # nodes that nobody hears of
        self.pods: dict[str, Running] = {}  # by uid
        self._storage = storage
        self._api = api
        self._network = network
        self._prefix = prefix
        self.events = Recorder(api)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._addresses = itertools.count()
        self._wake = threading.Condition()
        self._closed = False
        self._root = Path(tempfile.mkdtemp(prefix="kubelet-"))
        storage.observe(self._noticed)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(10)
        shutil.rmtree(self._root, ignore_errors=True)

    def later(self, steps: float, call: Callable[[], None]) -> None:
        with self._wake:
            heapq.heappush(self._due, (time.monotonic() + steps * self.pace, next(self._order), call))
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._closed and (not self._due or self._due[0][0] > time.monotonic()):
                    self._wake.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._closed:
                    return
                _, _, call = heapq.heappop(self._due)
            try:
                call()
            except Refusal as refusal:  # the pod went away meanwhile, or somebody else wrote it
                _LOG.debug("kubelet: %s", refusal)

    def _noticed(self, change: Change) -> None:
        if change.key[0] != PODS.key:
            return
        key, before, after = change.key, change.before, change.after
        if after is None:
            uid = before["metadata"]["uid"] if before else ""
            self.later(0, lambda: self._forget(uid))
        elif before is None:
            self.later(1, lambda: self._schedule(key, after["metadata"]["uid"]))
        elif after["metadata"].get("deletionTimestamp") and not before["metadata"].get("deletionTimestamp"):
            self.later(0, lambda: self._terminate(key, after["metadata"]["uid"]))
        elif _grace(after) != _grace(before):  # asked once more, with less time
            self.later(_grace(after) * 5, lambda: self._ended(key, after["metadata"]["uid"]))
        elif after["spec"].get("activeDeadlineSeconds") != before["spec"].get("activeDeadlineSeconds"):
            self.later(
                after["spec"]["activeDeadlineSeconds"], lambda: self._overdue(key, after["metadata"]["uid"])
            )
        elif _images(before) != _images(after):
            self.later(1, lambda: self._image_changed(after["metadata"]["uid"]))

    def _pod(self, key: tuple[str, str, str], uid: str) -> Json | None:
        with self._storage.lock:
            pod = self._storage.get(key)
        return pod if pod and pod["metadata"]["uid"] == uid else None

    def write(self, pod: Json, status: Json, spec: Json | None = None) -> None:
        """A status, as the kubelet; a spec goes in beside it, as the scheduler's binding does."""
        metadata = pod["metadata"]
        call = Call(
            resource=PODS, namespace=metadata["namespace"], name=metadata["name"], subresource="status",
            query={"fieldManager": "kubelet"},
        )  # fmt: skip
        with self._storage.lock:
            live = self._storage.get(call.key)
            if live is None or live["metadata"]["uid"] != metadata["uid"]:
                return
            if spec is not None:
                live = self._storage.put(call.key, {**live, "spec": spec})
            self._api.replace(call, {**live, "status": status})

    def _schedule(self, key: tuple[str, str, str], uid: str) -> None:
        pod = self._pod(key, uid)
        if pod is None or pod["spec"].get("nodeName"):
            return
        if self.stopped:
            self.later(5, lambda: self._schedule(key, uid))
            return
        if pod["spec"].get("schedulingGates"):
            status = podstatus.gated(pod.get("status", {}))
            if status != pod.get("status"):
                self.write(pod, status)
            self.later(2, lambda: self._schedule(key, uid))
            return
        node, why = self._fitting(pod)
        if why:
            status = podstatus.unschedulable(pod.get("status", {}), why)
            if status != pod.get("status"):
                self.write(pod, status)
            self.events.record(pod, "Warning", "FailedScheduling", why, "default-scheduler")
            self.later(25, lambda: self._schedule(key, uid))
            return
        self.write(pod, podstatus.scheduled(pod.get("status", {})), {**pod["spec"], "nodeName": node})
        metadata = pod["metadata"]
        text = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}"
        self.events.record(pod, "Normal", "Scheduled", text, "default-scheduler")
        self.later(1, lambda: self._start(key, uid))

    def _fitting(self, pod: Json) -> tuple[str, str]:
        """The node, or why there is none."""
        with self._storage.lock:
            nodes = [node for node in self._storage.list(NODES) if node["metadata"]["name"] not in self.lost]
            everyone = self._storage.list(PODS)
            claims = {
                (claim["metadata"]["namespace"], claim["metadata"]["name"])
                for claim in self._storage.list(CLAIMS)
            }
        for volume in pod["spec"].get("volumes") or ():
            claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
            if claim and (pod["metadata"]["namespace"], claim) not in claims:
                return "", f'0/{len(nodes)} nodes are available: persistentvolumeclaim "{claim}" not found.'
        why = f"0/{len(nodes)} nodes are available"
        if self.scenario_of(pod) == "unschedulable":
            return "", f"{why}: {len(nodes)} node(s) didn't match Pod's node affinity/selector."
        short: set[str] = set()
        for node in nodes:
            name = node["metadata"]["name"]
            here = [other for other in everyone if other["spec"].get("nodeName") == name]
            lacking = {
                kind
                for kind in ("cpu", "memory")
                if _asked(pod, kind)
                and sum(_asked(other, kind) for other in [*here, pod])
                > amount(node["status"]["allocatable"][kind])
            }
            if not lacking:
                return name, ""
            short |= lacking
        listed = ", ".join(f"{len(nodes)} Insufficient {kind}" for kind in sorted(short))
        return "", f"{why}: {listed}." if listed else f"{why}."

    def _start(self, key: tuple[str, str, str], uid: str) -> None:
        pod = self._pod(key, uid)
        if pod is None or pod["metadata"].get("deletionTimestamp") or pod["spec"]["nodeName"] in self.lost:
            return
        number = next(self._addresses)
        running = self.pods.get(uid)
        if running is None:
            address = f"{self._prefix}.{1 + number // 250 % 180}.{1 + number % 250}"
            root = self._root / uid
            root.mkdir()
            running = self.pods[uid] = Running(key, uid, address, root, self.scenario_of(pod))
        try:
            with self._storage.lock:
                environment(self._storage, pod, pod["spec"]["containers"][0], running.address)
        except Missing as missing:
            self._waits(pod, running, "CreateContainerConfigError", str(missing), f"Error: {missing}")
            self.later(25, lambda: self._start(key, uid))
            return
        image = pod["spec"]["containers"][0]["image"]
        self.events.record(pod, "Normal", "Pulling", f'Pulling image "{image}"')
        if running.scenario == "image-missing":
            text = f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": not found'
            self._waits(pod, running, "ErrImagePull", text, f'Failed to pull image "{image}": {text}')
            self.later(2, lambda: self._back_off(key, uid))
            return
        self.events.record(pod, "Normal", "Pulled", f'Successfully pulled image "{image}" in 10ms')
        self.later(1, lambda: self._run_containers(key, uid))

    def _waits(self, pod: Json, running: Running, reason: str, message: str, event: str) -> None:
        status = podstatus.placed(
            pod.get("status", {}), pod["spec"], podstatus.waiting(reason, message), ready=False, phase="Pending",
            address=running.address, host=self._host,
        )  # fmt: skip
        self.write(pod, status)
        self.events.record(pod, "Warning", "Failed", event)

    @property
    def _host(self) -> str:
        return f"{self._prefix}.0.1"

    def _back_off(self, key: tuple[str, str, str], uid: str) -> None:
        pod, running = self._pod(key, uid), self.pods.get(uid)
        if pod is None or running is None:
            return
        image = pod["spec"]["containers"][0]["image"]
        text = f'Back-off pulling image "{image}"'
        self._waits(pod, running, "ImagePullBackOff", text, "Error: ImagePullBackOff")
        self.events.record(pod, "Normal", "BackOff", text)

    def _image_changed(self, uid: str) -> None:
        """The one change of a running pod that a kubelet acts on: the container starts again from the new image."""
        running = self.pods.get(uid)
        pod = self._pod(running.key, uid) if running else None
        if running is None or pod is None:
            return
        self._silence(running)
        running.scenario = self.scenario_of(pod)
        running.restarts += 1 if pod["status"].get("phase") == "Running" else 0
        self._start(running.key, uid)

    def _run_containers(self, key: tuple[str, str, str], uid: str) -> None:
        pod, running = self._pod(key, uid), self.pods.get(uid)
        if pod is None or running is None or pod["metadata"].get("deletionTimestamp"):
            return
        names = [container["name"] for container in pod["spec"]["containers"]]
        for name in names:
            self.events.record(pod, "Normal", "Created", f"Created container: {name}")
            self.events.record(pod, "Normal", "Started", f"Started container {name}")
        running.log.append("started")
        if running.scenario in _CODES:
            self.later(1, lambda: self._exited(key, uid, *_CODES[running.scenario]))
        else:
            self._listen(pod, running)
        if running.scenario == "slow-ready":
            running.unready_until = time.monotonic() + 20 * self.pace
        probed = [container for container in pod["spec"]["containers"] if container.get("readinessProbe")]
        running.ready = not probed and running.scenario not in _CODES
        self._write_running(pod, running)
        if probed:
            self.later(1, lambda: self._probe(key, uid))
        if running.scenario == "evicted":
            self.later(3, lambda: self.evict(uid))

    def _write_running(self, pod: Json, running: Running, last: Json | None = None) -> None:
        status = podstatus.placed(
            pod.get("status", {}), pod["spec"], podstatus.running(), ready=running.ready, phase="Running",
            restarts=running.restarts, address=running.address, host=self._host, last=last,
        )  # fmt: skip
        self.write(pod, status)

    def _listen(self, pod: Json, running: Running) -> None:
        running.serving = True
        server = PodServer(pod["metadata"]["name"], lambda: self._well(running), running.log.append)
        ports = {
            port["containerPort"]
            for container in pod["spec"]["containers"]
            for port in container.get("ports") or ()
        }
        for port in ports or {8080}:
            if not self._network.listen(running.address, port, server.talk):
                running.log.append(f"cannot listen on {running.address}:{port}")

    def _well(self, running: Running) -> bool:
        return running.scenario != "never-ready" and time.monotonic() >= running.unready_until

    def _probe(self, key: tuple[str, str, str], uid: str) -> None:
        pod, running = self._pod(key, uid), self.pods.get(uid)
        if pod is None or running is None or running.stopping or not running.serving:
            return
        if pod["spec"]["nodeName"] in self.lost:
            return
        container = next(each for each in pod["spec"]["containers"] if each.get("readinessProbe"))
        failure = self._probed(pod, running, container)
        if failure and not running.ready:
            self.events.record(pod, "Warning", "Unhealthy", f"Readiness probe failed: {failure}")
        if running.ready != (not failure):
            running.ready = not failure
            self._write_running(pod, running)
        self.later(5 if running.ready else 2, lambda: self._probe(key, uid))

    def _probed(self, pod: Json, running: Running, container: Json) -> str:
        """Why the readiness probe fails; "" when it does not. A real request, connection or process."""
        probe = container["readinessProbe"]
        try:
            if wanted := probe.get("httpGet"):
                port = _port(container, wanted["port"])
                connection = http.client.HTTPConnection(running.address, port, timeout=2)
                with contextlib.closing(connection):
                    connection.request("GET", wanted.get("path", "/"))
                    status = connection.getresponse().status
                return "" if 200 <= status < 400 else f"HTTP probe failed with statuscode: {status}"
            if wanted := probe.get("tcpSocket"):
                with socket.create_connection((running.address, _port(container, wanted["port"])), 2):
                    return ""
            if wanted := probe.get("exec"):
                done = subprocess.run(
                    wanted["command"], cwd=running.root, env=self.environment(pod, container, running),
                    capture_output=True, timeout=5, check=False,
                )  # fmt: skip
                return (
                    ""
                    if done.returncode == 0
                    else done.stdout.decode() + done.stderr.decode() or "exit status 1"
                )
        except (OSError, subprocess.TimeoutExpired, http.client.HTTPException) as error:
            return str(error)
        return ""

    def environment(self, pod: Json, container: Json, running: Running) -> dict[str, str]:
        with self._storage.lock:
            declared = environment(self._storage, pod, container, running.address)
        return {"PATH": os.environ.get("PATH", ""), "HOME": str(running.root), **declared}

    def exited(self, uid: str, code: int = 1, reason: str = "Error") -> None:
        """The pod's process ends by itself, now."""
        self.later(0, lambda: self._exited(self.pods[uid].key, uid, code, reason))

    def _exited(self, key: tuple[str, str, str], uid: str, code: int, reason: str) -> None:
        pod, running = self._pod(key, uid), self.pods.get(uid)
        if pod is None or running is None or running.stopping:
            return
        self._silence(running)
        running.ready = False
        running.log.append(f"exit {code}")
        ended = podstatus.terminated(code, reason, f"main-{running.restarts}")
        policy = pod["spec"]["restartPolicy"]
        if policy == "Never" or (policy == "OnFailure" and code == 0):
            phase = "Succeeded" if code == 0 else "Failed"
            status = podstatus.placed(
                pod["status"], pod["spec"], ended, ready=False, phase=phase, restarts=running.restarts,
                address=running.address, host=self._host,
            )  # fmt: skip
            self.write(pod, status)
            return
        running.restarts += 1
        running.former_log, running.log = running.log, []
        name = pod["spec"]["containers"][0]["name"]
        text = (
            f"back-off 10s restarting failed container={name} pod={pod['metadata']['name']}_{key[1]}({uid})"
        )
        status = podstatus.placed(
            pod["status"], pod["spec"], podstatus.waiting("CrashLoopBackOff", text), ready=False, phase="Running",
            restarts=running.restarts, last=ended, address=running.address, host=self._host,
        )  # fmt: skip
        self.write(pod, status)
        self.events.record(
            pod,
            "Warning",
            "BackOff",
            f"Back-off restarting failed container {name} in pod {pod['metadata']['name']}_{key[1]}({uid})",
        )
        self.later(10 * min(running.restarts, 20), lambda: self._run_containers(key, uid))

    def evict(self, uid: str, message: str = "The node was low on resource: memory.") -> None:
        running = self.pods[uid]
        pod = self._pod(running.key, uid)
        if pod is None:
            return
        self._silence(running)
        running.ready = False
        status = podstatus.placed(
            pod["status"], pod["spec"], podstatus.terminated(137, "Error"), ready=False, phase="Failed",
            restarts=running.restarts, address=running.address, host=self._host,
        )  # fmt: skip
        self.write(pod, {**status, "reason": "Evicted", "message": message})
        self.events.record(pod, "Warning", "Evicted", message)

    def _overdue(self, key: tuple[str, str, str], uid: str) -> None:
        """The pod was given a time, and it is over."""
        pod, running = self._pod(key, uid), self.pods.get(uid)
        if pod is None or running is None:
            return
        self._silence(running)
        running.ready = False
        status = podstatus.placed(
            pod["status"], pod["spec"], podstatus.terminated(137, "Error"), ready=False, phase="Failed",
            restarts=running.restarts, address=running.address, host=self._host,
        )  # fmt: skip
        message = "Pod was active on the node longer than the specified deadline"
        self.write(pod, {**status, "reason": "DeadlineExceeded", "message": message})
        self.events.record(pod, "Normal", "DeadlineExceeded", message)

    def lose(self, node: str) -> None:
        """Nobody hears of that node any more: its pods are unreachable, unready, and never confirm their end."""
        self.lost.add(node)
        for running in list(self.pods.values()):
            pod = self._pod(running.key, running.uid)
            if pod is None or pod["spec"].get("nodeName") != node:
                continue
            self._silence(running)
            ready = podstatus.condition("Ready", False)
            self.write(pod, podstatus.with_conditions(pod["status"], ready))
            self.events.record(pod, "Warning", "NodeNotReady", "Node is not ready", "node-controller")

    def _terminate(self, key: tuple[str, str, str], uid: str) -> None:
        pod, running = self._pod(key, uid), self.pods.get(uid)
        if pod is None or pod["spec"].get("nodeName") in self.lost:
            return
        self.events.record(
            pod, "Normal", "Killing", "Stopping container " + pod["spec"]["containers"][0]["name"]
        )
        if running is not None:
            running.stopping = True
            running.ready = False
        grace = _grace(pod)
        steps = grace * 5 if running and running.scenario == "stubborn" else min(grace, 2)
        self.later(steps, lambda: self._ended(key, uid))

    def _ended(self, key: tuple[str, str, str], uid: str) -> None:
        pod, running = self._pod(key, uid), self.pods.get(uid)
        if running is not None:
            self._silence(running)
        if pod is None:
            return
        call = Call(resource=PODS, namespace=key[1], name=key[2])
        self._api.delete(call, {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}})

    def _silence(self, running: Running) -> None:
        running.serving = False
        self._network.hang_up(running.address)

    def _forget(self, uid: str) -> None:
        running = self.pods.pop(uid, None)
        if running is not None:
            self._silence(running)
            shutil.rmtree(running.root, ignore_errors=True)


def _grace(pod: Json) -> int:
    return int(pod["metadata"].get("deletionGracePeriodSeconds") or 0)


def _images(pod: Json) -> list[str]:
    return [container["image"] for container in pod["spec"]["containers"]]


def _asked(pod: Json, kind: str) -> float:
    return float(
        sum(
            amount((container.get("resources") or {}).get("requests", {}).get(kind, 0))
            for container in pod["spec"]["containers"]
        )
    )


def _port(container: Json, port: object) -> int:
    if isinstance(port, int):
        return port
    return next(
        int(each["containerPort"]) for each in container.get("ports") or () if each.get("name") == port
    )
