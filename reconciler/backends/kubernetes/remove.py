"""How a sandbox goes: its pod may end by itself first; then what stands beside it; then its absence is verified.

Must never remove what it was not given by uid, nor take a failure for success.
"""

from __future__ import annotations

import contextlib

from reconciler.backends.kubernetes.beside import KINDS, Beside, gone
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.compare import beside
from reconciler.backends.kubernetes.labelling import WARM_POOL
from reconciler.backends.kubernetes.look import Found, moment
from reconciler.backends.kubernetes.order import Json
from reconciler.errors import Conflict, NotFound

_BEYOND_GRACE = 120.0  # seconds that a node has, after the time to end by itself, to say that it has ended


class Removal:
    """`grace` are the seconds a sandbox has to end by itself; `kind` is Pod or Sandbox."""

    def __init__(self, cluster: Cluster, stands_beside: Beside, kind: str, grace: int) -> None:
        self._cluster = cluster
        self._beside = stands_beside
        self._kind = kind
        self._grace = grace

    def end(self, found: Found) -> None:
        """Returns when it, its pod and what stands beside it are gone. Raises Conflict for a warm pool's own."""
        if WARM_POOL in (found.main["metadata"].get("labels") or {}):
            raise Conflict(
                f"{found.name} belongs to a warm pool, so it is left alone",
                hint="a pool looks after its own sandboxes: change its `replicas`",
            )
        self._take_away(self._kind, found.name, found.uid)
        if self._kind == "Sandbox":
            self._end_pod(found)
        kinds = beside(found.main["metadata"])
        self._beside.remove(found.sandbox_id, found.name, [kind for kind in KINDS if kind in kinds])

    def leftovers(self, sandbox_id: str, name: str) -> None:
        """What may be left of one that somebody else removed, where no collector took it away."""
        self._beside.remove(sandbox_id, name, KINDS)

    def _end_pod(self, found: Found) -> None:
        """The controller's collector does it too, in its own time."""
        try:
            pod = self._cluster.get(
                "Pod", found.name if found.pod is None else str(found.pod["metadata"]["name"])
            )
        except NotFound:
            return
        owners = pod["metadata"].get("ownerReferences") or ()
        if any(owner.get("uid") == found.uid for owner in owners):
            self._take_away("Pod", str(pod["metadata"]["name"]), str(pod["metadata"]["uid"]))

    def _take_away(self, kind: str, name: str, uid: str) -> None:
        with contextlib.suppress(NotFound):
            self._cluster.delete(kind, name, uid=uid, grace=self._grace if kind == "Pod" else None)
        let_go = self._let_go if kind == "Pod" else None
        gone(self._cluster, kind, name, uid, self._grace + _BEYOND_GRACE, let_go)

    def _let_go(self, pod: Json) -> None:
        """A node keeps the object of what has ended for a minute and longer, until it has cleaned up behind it. Nobody need
        wait for that: its containers have ended, as the node itself says, and it holds no volume that another may wait for."""
        if not _has_ended(pod):
            return
        volumes = (pod.get("spec") or {}).get("volumes") or ()
        if any("persistentVolumeClaim" in volume for volume in volumes) or pod["metadata"].get("finalizers"):
            return
        with contextlib.suppress(NotFound):
            self._cluster.delete(
                "Pod", str(pod["metadata"]["name"]), uid=str(pod["metadata"]["uid"]), grace=0
            )


def _has_ended(pod: Json) -> bool:
    """Whether each of its containers ended after it was to go, and none will be started again."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    gone_by = moment(metadata.get("deletionTimestamp"))
    if gone_by is None:
        return False
    if status.get("phase") in ("Succeeded", "Failed"):
        return True
    asked = gone_by - float(metadata.get("deletionGracePeriodSeconds") or 0)
    states = [
        (one.get("state") or {}).get("terminated") or {} for one in status.get("containerStatuses") or ()
    ]
    return bool(states) and all((moment(state.get("finishedAt")) or 0.0) >= asked for state in states)
