"""From an order to the objects of a sandbox: its pod, or the `Sandbox` that makes one, its secret and its service. Pure.

A secret's value is in the Secret alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from reconciler.backends.containers import SANDBOX_ID
from reconciler.backends.kubernetes.labelling import marks
from reconciler.backends.kubernetes.order import (
    API_VERSION,
    GATE,
    NETWORK,
    RESTART,
    UNFINISHED,
    WITH,
    Json,
    Order,
    published,
)
from reconciler.backends.kubernetes.pod import pod_spec
from reconciler.model.desired import Network, NetworkMode


def pod(order: Order) -> Json:
    """The body of a new pod."""
    labels, annotations = _marks(order)
    spec = pod_spec(order)
    if order.held_back:
        spec["schedulingGates"] = [{"name": GATE}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": _metadata(order, labels, annotations),
        "spec": spec,
    }


def sandbox(order: Order) -> Json:
    """The body of a new `Sandbox`. Its controller makes the pod, and a headless service where one was asked for."""
    labels, annotations = _marks(order)
    if order.held_back:
        annotations[UNFINISHED] = "true"
    ends = datetime.fromtimestamp(order.expires, UTC) if order.expires is not None else None
    # Its pod goes then, also when nobody applies any more; that it has ended is to be seen, so the object stays.
    expiry = {"shutdownTime": f"{ends:%Y-%m-%dT%H:%M:%SZ}", "shutdownPolicy": "Retain"} if ends else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "Sandbox",
        "metadata": _metadata(order, labels, annotations),
        "spec": {
            **expiry,
            "operatingMode": "Suspended" if order.held_back else "Running",
            "service": order.service == "ClusterIP",
            "podTemplate": {
                "metadata": {"labels": labels, "annotations": _inherited(annotations)},
                "spec": pod_spec(order),
            },
        },
    }


def _marks(order: Order) -> tuple[dict[str, str], dict[str, str]]:
    labels, annotations = marks(order.sandbox_id, order.spec, order.thread_id)
    if order.beside:
        annotations[WITH] = ",".join(order.beside)
    if order.has_policy:
        annotations[NETWORK] = network_text(order.spec.network)
    if order.spec.restart is not None:
        annotations[RESTART] = order.spec.restart
    return labels, annotations


def network_text(network: Network) -> str:
    """`isolated`, or `allowlist` and what it allows as JSON."""
    if network.mode is NetworkMode.ISOLATED:
        return str(network.mode)
    return f"{network.mode} {json.dumps(sorted(network.allow))}"


def _inherited(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key != UNFINISHED}


def _metadata(order: Order, labels: Mapping[str, str], annotations: Mapping[str, str]) -> Json:
    made: Json = {"name": order.name, "namespace": order.namespace, "labels": dict(labels)}
    if annotations:
        made["annotations"] = dict(annotations)
    return made


def secret(order: Order, owner: Mapping[str, Any]) -> Json:
    """The body of the Secret, `owner` the object it goes with."""
    return {
        **companion(order, "v1", "Secret", owner),
        "type": "Opaque",
        "immutable": True,  # another value makes another sandbox
        "data": {
            name: base64.b64encode(value.encode()).decode()
            for name, value in sorted(order.secret_values.items())
        },
    }


def service(order: Order, owner: Mapping[str, Any]) -> Json:
    """The body of the Service. A container port that has two names is served once."""
    served: dict[int, Json] = {}
    for port in published(order.spec):
        entry: Json = {
            "name": port.name,
            "port": port.container,
            "targetPort": port.container,
            "protocol": "TCP",
        }
        if order.service == "NodePort" and port.host is not None:
            entry["nodePort"] = port.host
        served.setdefault(port.container, entry)
    return {
        **companion(order, "v1", "Service", owner),
        "spec": {
            "type": order.service,
            "selector": selector(order.sandbox_id),
            "ports": list(served.values()),
        },
    }


def selector(sandbox_id: str) -> dict[str, str]:
    return {SANDBOX_ID: sandbox_id}


def companion(order: Order, version: str, kind: str, owner: Mapping[str, Any]) -> Json:
    """What every object beside a sandbox begins with: it goes when its `owner` goes."""
    labels, annotations = marks(order.sandbox_id, order.spec, order.thread_id)
    metadata = _metadata(order, labels, annotations)
    metadata["ownerReferences"] = [owner_reference(owner)]
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def owner_reference(owner: Mapping[str, Any]) -> Json:
    """So that the cluster takes it away with its owner, whoever removes that."""
    return {
        "apiVersion": owner.get("apiVersion") or "v1",
        "kind": owner.get("kind") or "Pod",
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
