"""What stands beside a sandbox: its secret, its network policy, its service. Each goes with its owner.

Must never change or remove an object of that name which is not this sandbox's.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reconciler.backends.kubernetes import manifests, policies
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.labelling import is_ours
from reconciler.backends.kubernetes.order import Json, Order
from reconciler.errors import Conflict, NotFound, Transient
from reconciler.kubeapi.failures import Exists

KINDS = ("NetworkPolicy", "Secret", "Service")  # in this order: what protects comes first
_BODIES: Mapping[str, Callable[[Order, Mapping[str, Any]], Json]] = {
    "NetworkPolicy": policies.policy,
    "Secret": manifests.secret,
    "Service": manifests.service,
}
_TRIES = 5
_GONE_WITHIN = 10.0  # seconds; what stands beside has nothing to finish first


class Beside:
    """Of the sandboxes of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def ensure(self, order: Order, owner: Mapping[str, Any]) -> dict[str, Json]:
        """All that the order wants, by kind: made, or found as it should be. Raises Conflict for a name that is taken."""
        return {kind: self._ensure(kind, order, owner) for kind in KINDS if kind in order.beside}

    def _ensure(self, kind: str, order: Order, owner: Mapping[str, Any]) -> Json:
        body = _BODIES[kind](order, owner)
        for _ in range(_TRIES):
            with contextlib.suppress(Exists):
                return self._cluster.create(kind, body)
            with contextlib.suppress(NotFound):  # somebody removed it between two of our calls
                found = self._cluster.get(kind, order.name)
                if _owner_uid(found) == owner["metadata"]["uid"]:
                    return self._as_meant(kind, found, body)
                self._refuse_stranger(kind, found, order.sandbox_id)
                self._remove(kind, found)  # a former owner's, which the cluster has not taken away yet
        raise Transient(f"{kind} {order.name} came and went {_TRIES} times", retry_after=1.0)

    def _as_meant(self, kind: str, found: Json, body: Json) -> Json:
        """A policy that somebody changed is put right; the others are not read back."""
        if kind != "NetworkPolicy" or policies.holds(found, body["spec"]):
            return found
        spec = {**dict.fromkeys(found["spec"]), **body["spec"]}  # what was added is taken off
        return self._cluster.merge(kind, found["metadata"]["name"], {"spec": spec})

    def _refuse_stranger(self, kind: str, found: Json, sandbox_id: str) -> None:
        if not is_ours(found["metadata"], sandbox_id):
            name = found["metadata"]["name"]
            raise Conflict(
                f"the name {name} is taken by a {kind} that is not ours",
                hint=f"rename or remove it (`kubectl delete {kind.lower()} {name}`), or set `prefix:` on the backend",
            )

    def remove(self, sandbox_id: str, name: str, kinds: Iterable[str]) -> None:
        """Those of this sandbox, and no other's; returns when they are gone. Absent is success."""
        for kind in kinds:
            with contextlib.suppress(NotFound):
                found = self._cluster.get(kind, name)
                if is_ours(found["metadata"], sandbox_id):
                    self._remove(kind, found)

    def _remove(self, kind: str, found: Json) -> None:
        name, uid = str(found["metadata"]["name"]), str(found["metadata"]["uid"])
        with contextlib.suppress(NotFound):
            self._cluster.delete(kind, name, uid=uid)
        gone(self._cluster, kind, name, uid, _GONE_WITHIN)


def gone(
    cluster: Cluster,
    kind: str,
    name: str,
    uid: str,
    seconds: float,
    meanwhile: Callable[[Json], None] | None = None,
) -> None:
    """Returns when that very object is not there any more. Raises Transient, with what holds it, when it still is. `meanwhile`
    is shown it each time that it is still there."""
    began = time.monotonic()
    while True:
        try:
            found = cluster.get(kind, name)
        except NotFound:
            return
        if found["metadata"].get("uid") != uid:
            return
        if meanwhile is not None:
            meanwhile(found)
        waited = time.monotonic() - began
        if waited > seconds:
            raise Transient(
                f"{kind} {name} is still there {waited:.0f} s after its removal{_held_by(found)}",
                retry_after=5.0,
            )
        time.sleep(min(1.0, max(0.02, waited / 10)))


def _held_by(found: Json) -> str:
    finalizers = found["metadata"].get("finalizers")
    if finalizers:
        return f": {', '.join(finalizers)} have to let go of it first"
    node = (found.get("spec") or {}).get("nodeName")
    return f": node {node} does not say that it has ended" if node else ""


def _owner_uid(found: Json) -> str:
    references = found["metadata"].get("ownerReferences") or ()
    return str(next((reference.get("uid") for reference in references), ""))
