"""What the cluster shows of all sandboxes, kept up by one watch, for those who wait: a question about one costs no call.

Must never be asked whether something is gone: a mirror may lag behind. It says what lives, and what will never answer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.backends.base import ProbeAnswer
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.explain import NEVER_STARTED, Explained
from reconciler.backends.kubernetes.find import Objects
from reconciler.backends.kubernetes.follow import Follower
from reconciler.backends.kubernetes.labelling import SELECTOR
from reconciler.backends.kubernetes.look import Found
from reconciler.backends.kubernetes.order import CONTAINER, Json
from reconciler.backends.kubernetes.pod import readiness_probe
from reconciler.errors import BackendError
from reconciler.model.desired import Port, Readiness, SandboxSpec
from reconciler.model.observed import SandboxInfo

_VOUCHES = 2.0  # seconds after a probe in which nobody need ask the API server whether it lives
_WARNINGS = 5  # kept of each pod, the last ones


class Mirror:
    """Begins to watch when it is made; `close` ends it."""

    def __init__(self, cluster: Cluster, objects: Objects, kind: str) -> None:
        self._objects = objects
        self._changed = threading.Condition()
        self._mains = _Kept(self._changed)
        self._pods = self._mains if kind == "Pod" else _Kept(self._changed)
        self._warned = _Warnings(self._changed)
        self._asked: dict[str, float] = {}
        self._closed = False
        self._followers = [Follower(cluster, kind, SELECTOR, self._mains, at_once=False)]
        if kind != "Pod":
            self._followers.append(Follower(cluster, "Pod", SELECTOR, self._pods, at_once=False))
        fields = "type!=Normal,involvedObject.kind=Pod"
        self._followers.append(Follower(cluster, "Event", "", self._warned, fields=fields, at_once=False))

    @property
    def is_closed(self) -> bool:
        return self._closed

    def probe(self, info: SandboxInfo, readiness: Readiness, timeout: float) -> ProbeAnswer | None:
        """None where its kubelet asks another question than this one."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._asked[info.sandbox_id] = time.monotonic()
            self._changed.wait_for(lambda: self._mains.known and self._pods.known, timeout)
            found = self._found(info)
            if found is None and self._mains.known:  # made a moment ago: its news are on their way
                self._changed.wait_for(
                    lambda: self._found(info) is not None, min(0.5, max(0.0, deadline - time.monotonic()))
                )
                found = self._found(info)
            if found is None:
                return ProbeAnswer(ready=False, detail=self._mains.trouble)
            if not _asks(found, readiness):
                return None
            told = self._explained(found)
        if told.detail == NEVER_STARTED:  # it was let go a moment ago: that news is on its way
            return ProbeAnswer(ready=False)
        return ProbeAnswer(ready=told.ready, dead=told.hopeless or told.phase.is_dead, detail=told.detail)

    def vouches_for(self, info: SandboxInfo) -> bool:
        """Whether it is being waited for, and certainly lives. False says nothing."""
        with self._changed:
            since = time.monotonic() - self._asked.get(info.sandbox_id, -_VOUCHES)
            if since >= _VOUCHES or self._mains.trouble or not self._mains.known:
                return False
            found = self._found(info)
            if found is None:
                return False
            told = self._explained(found)
        return not (told.hopeless or told.phase.is_dead)

    def _found(self, info: SandboxInfo) -> Found | None:
        main = self._mains.things.get(str(info.container_name))
        if main is None or main["metadata"].get("uid") != info.container_id:
            return None
        if self._pods is self._mains:
            return Found(main=main, sees_beside=False)
        return Found(main=main, pod=self._pods.things.get(Found(main=main).pod_name), sees_beside=False)

    def _explained(self, found: Found) -> Explained:
        return found.explained(tuple(self._warned.of(found.pod_name)))

    def close(self) -> None:
        self._closed = True
        for follower in self._followers:
            follower.close()


class _Kept:
    """The last known of each object, by name, without what nobody here reads."""

    def __init__(self, changed: threading.Condition) -> None:
        self._condition = changed
        self.things: dict[str, Json] = {}
        self.known = False
        self.trouble = ""

    def listed(self, items: Sequence[Json]) -> None:
        with self._condition:
            self.things = {item["metadata"]["name"]: _trimmed(item) for item in items}
            self.known, self.trouble = True, ""
            self._condition.notify_all()

    def changed(self, item: Json, *, gone: bool) -> None:
        with self._condition:
            if gone:
                self.things.pop(item["metadata"]["name"], None)
            else:
                self.things[item["metadata"]["name"]] = _trimmed(item)
            self.trouble = ""
            self._condition.notify_all()

    def lost(self, error: BackendError) -> None:
        with self._condition:
            self.trouble = error.message
            self._condition.notify_all()


class _Warnings:
    """The last warnings about each pod. Who may not read events goes without."""

    def __init__(self, changed: threading.Condition) -> None:
        self._condition = changed
        self._told: dict[str, deque[Json]] = {}

    def of(self, pod: str) -> Sequence[Json]:
        return tuple(self._told.get(pod, ()))

    def listed(self, items: Sequence[Json]) -> None:
        with self._condition:
            self._told.clear()
            for item in items:
                self._keep(item)

    def changed(self, item: Json, *, gone: bool) -> None:
        with self._condition:
            if not gone:
                self._keep(item)

    def lost(self, error: BackendError) -> None:
        """What is not told is waited for without a reason."""

    def _keep(self, item: Json) -> None:
        name = str((item.get("involvedObject") or {}).get("name"))
        told = {key: item.get(key) for key in ("reason", "message", "type")}
        self._told.setdefault(name, deque(maxlen=_WARNINGS)).append(told)


def _trimmed(item: Json) -> Json:
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": metadata}


def _asks(found: Found, readiness: Readiness) -> bool:
    """Whether its kubelet asks what is to be asked: what was declared later is not on an older pod."""
    containers: Sequence[Mapping[str, Any]] = found.pod_spec.get("containers") or ()
    container = next((one for one in containers if one.get("name") == CONTAINER), {})
    ports = tuple(
        Port(name=str(port["name"]), container=int(port["containerPort"]))
        for port in container.get("ports") or ()
        if port.get("name")
    )
    wanted = readiness_probe(SandboxSpec(readiness=readiness, ports=ports))
    live = container.get("readinessProbe")
    if wanted is None or live is None:
        return False
    return all(_within(value, live.get(key)) for key, value in wanted.items())


def _within(wanted: object, live: object) -> bool:
    """A server may have filled in the rest."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(_within(value, live.get(key)) for key, value in wanted.items())
    return wanted == live
