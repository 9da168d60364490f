"""What changes on an object that is there: its labels and annotations, what stands beside it, and whether it is suspended.

A server-side apply says what we want and takes it from whoever changed it. It takes nothing off that a creation put there, so
what is left over goes by a second patch, if there is any.
"""

from __future__ import annotations

from typing import Any

from reconciler.backends.containers import PREFIX
from reconciler.backends.kubernetes import manifests
from reconciler.backends.kubernetes.beside import Beside
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.find import Objects
from reconciler.backends.kubernetes.labelling import declared
from reconciler.backends.kubernetes.look import Found
from reconciler.backends.kubernetes.order import UNFINISHED, Json, Order
from reconciler.model.observed import SandboxInfo


class Update:
    def __init__(self, cluster: Cluster, objects: Objects, stands_beside: Beside) -> None:
        self._cluster = cluster
        self._objects = objects
        self._beside = stands_beside

    def update(self, found: Found, order: Order) -> SandboxInfo:
        """Raises NotFound when it went meanwhile, Conflict when another one has its name."""
        body = wanted(found, order)
        kind = str(body["kind"])
        live = self._cluster.apply(kind, found.name, body)
        rest = left_over(live["metadata"], declared(found.main["metadata"]), body["metadata"])
        if rest:
            self._cluster.merge(kind, found.name, {"metadata": {"uid": found.uid, **rest}})
        self._beside.ensure(order, found.main)
        return self._objects.reader.info(self._objects.again(found))


def wanted(found: Found, order: Order) -> Json:
    """What we say of it, and nothing that cannot change."""
    made = manifests.sandbox(order) if order.agent_sandbox else manifests.pod(order)
    labels, annotations = made["metadata"]["labels"], made["metadata"].get("annotations") or {}
    annotations.pop(UNFINISHED, None)
    body: Json = {
        "apiVersion": made["apiVersion"],
        "kind": made["kind"],
        "metadata": {"name": found.name, "uid": found.uid, "labels": labels, "annotations": annotations},
    }
    if order.agent_sandbox:  # whose controller hands them on to the pod
        template = {"metadata": {"labels": labels, "annotations": annotations}}
        body["spec"] = {"operatingMode": "Running", "podTemplate": template}
    return body


def left_over(live: Json, before: dict[str, str], meant: Json) -> dict[str, Any]:
    """The labels and annotations to take off: ours that are not meant any more, and those that left the YAML."""
    ours = {
        place: {
            key: None for key in live.get(place) or {} if key.startswith(PREFIX) and key not in meant[place]
        }
        for place in ("labels", "annotations")
    }
    ours["annotations"].pop(UNFINISHED, None)  # that is for a creation to say
    theirs = {key: None for key in before if key in (live.get("labels") or {}) and key not in meant["labels"]}
    rest = {"labels": {**ours["labels"], **theirs}, "annotations": ours["annotations"]}
    return {place: keys for place, keys in rest.items() if keys}
