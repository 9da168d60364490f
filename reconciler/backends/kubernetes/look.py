"""From a cluster's objects to `ObservedSandbox`: phase, connection details, owner, live attributes, what is missing. Pure.

A listing shows all of an object, so a look at one tells no more than the listing did.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from reconciler.backends.containers import HTTP_PORT, LOOPBACK, MANAGED_BY, SANDBOX_ID, owner_of, url_of
from reconciler.backends.kubernetes.compare import attributes, beside
from reconciler.backends.kubernetes.explain import Explained, explain, explain_sandbox, has_begun
from reconciler.backends.kubernetes.labelling import own
from reconciler.backends.kubernetes.order import CONTAINER, NETWORK
from reconciler.backends.kubernetes.policies import holds, rules
from reconciler.model.desired import Network, NetworkMode, Scalar
from reconciler.model.observed import Astray, ObservedSandbox, SandboxInfo

Json = Mapping[str, Any]


class Found(Struct, frozen=True, kw_only=True):
    """The objects of one sandbox. `main` is its pod, or its `Sandbox`, whose pod is `pod`. `service` and `policy` are None
    where there is none; `sees_beside` says whether they were looked for at all."""

    main: Json
    pod: Json | None = None
    service: Json | None = None
    policy: Json | None = None
    sees_beside: bool = True

    @property
    def is_sandbox(self) -> bool:
        return "podTemplate" in (self.main.get("spec") or {})

    @property
    def name(self) -> str:
        return str(self.main["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.main["metadata"]["uid"])

    @property
    def sandbox_id(self) -> str:
        return str((self.main["metadata"].get("labels") or {}).get(SANDBOX_ID) or self.name)

    @property
    def is_labelled(self) -> bool:
        """Whether it carries our labels."""
        return MANAGED_BY in (self.main["metadata"].get("labels") or {})

    @property
    def pod_name(self) -> str:
        """What its controller calls the pod of a `Sandbox`."""
        annotations = self.main["metadata"].get("annotations") or {}
        return str(annotations.get("agents.x-k8s.io/pod-name") or self.name) if self.is_sandbox else self.name

    @property
    def pod_spec(self) -> Json:
        spec: Json = self.main.get("spec") or {}
        return (spec.get("podTemplate") or {}).get("spec") or {} if self.is_sandbox else spec

    @property
    def has_begun(self) -> bool:
        """Whether a container of it runs, or can never do so: then there is nothing to wait for."""
        pod = self.pod if self.is_sandbox else self.main
        return self.explained().hopeless or (pod is not None and has_begun(pod))

    def explained(self, events: tuple[Json, ...] = ()) -> Explained:
        if self.is_sandbox:
            return explain_sandbox(self.main, self.pod, events)
        return explain(self.main, events)


class Reader(Struct, frozen=True, kw_only=True):
    """How this backend reads objects. `access` is how a sandbox is reached: pod, service, node, proxy, or port-forward, which
    gives no URL and is the business of `kubectl`, the words that such a command begins with. `node` is the host
    in the URL of a node's port, where it is not that of the API server; `server` says the API server's address, `url` a template that says it otherwise."""

    namespace: str
    access: str
    node: str | None = None
    server: Callable[[], str] = str
    url: str | None = None
    kubectl: str = "kubectl"

    def seen(self, found: Found, events: tuple[Json, ...] = ()) -> ObservedSandbox:
        metadata = found.main["metadata"]
        told = found.explained(events)
        return ObservedSandbox(
            info=self.info(found),
            phase=told.phase,
            owner=owner_of(own(metadata)),
            attributes={
                **attributes(metadata, found.pod_spec),
                **self._published(found),
                **_network(metadata),
            },
            detail=told.detail,
            reach="" if told.phase.is_dead else self._reach(found),
            astray=_astray(found)
            if found.is_labelled and not told.phase.is_dead and not metadata.get("deletionTimestamp")
            else (),
        )

    def info(self, found: Found) -> SandboxInfo:
        ports = ports_of(found.pod_spec)
        places = self._places(found, ports)
        return SandboxInfo(
            sandbox_id=found.sandbox_id,
            sandbox_url=self._url(found, ports, places),
            container_name=found.name,
            container_id=found.uid,
            created_at=moment(found.main["metadata"].get("creationTimestamp")) or 0.0,
            ports=places,
        )

    def _places(self, found: Found, ports: Mapping[str, int]) -> dict[str, int]:
        """Where each name is published, as whoever reaches it sees it."""
        if self.access != "node":
            return dict(ports)
        given = _node_ports(found.service)
        return {name: given[number] for name, number in ports.items() if number in given}

    def _url(self, found: Found, ports: Mapping[str, int], places: Mapping[str, int]) -> str:
        """ "" where it has no address yet, or none any more."""
        inside = ports.get("http", HTTP_PORT)
        if self.url is not None:
            return self.url.format(name=found.name, namespace=self.namespace, port=places.get("http", inside))
        match self.access:
            case "service":
                return f"http://{found.name}.{self.namespace}.svc:{inside}"
            case "node":
                port = places.get("http") or _node_ports(found.service).get(inside)
                return url_of(self._node(), port) if port else ""
            case "port-forward":
                return ""
            case "proxy":
                path = f"/api/v1/namespaces/{self.namespace}/pods/{found.name}:{inside}/proxy"
                return f"{self.server().rstrip('/')}{path}"
            case _:
                address = self.address(found)
                return url_of(address, inside) if address else ""

    def _reach(self, found: Found) -> str:
        if self.access != "port-forward" or self.url is not None:
            return ""
        port = ports_of(found.pod_spec).get("http", HTTP_PORT)
        return f"{self.kubectl} port-forward pod/{found.pod_name} {port}"

    def _node(self) -> str:
        return self.node or urlsplit(self.server()).hostname or LOOPBACK

    @staticmethod
    def address(found: Found) -> str:
        """Of its pod; "" while it has none."""
        status: Json = (found.main if found.pod is None else found.pod).get("status") or {}
        return str(status.get("podIP") or next(iter(status.get("podIPs") or ()), ""))

    def _published(self, found: Found) -> dict[str, Scalar]:
        if self.access != "node":
            return {}
        return {
            f"ports.{name}.host": port for name, port in self._places(found, ports_of(found.pod_spec)).items()
        }


def ports_of(spec: Json) -> dict[str, int]:
    containers = spec.get("containers") or ()
    ours: Json = next((one for one in containers if one.get("name") == CONTAINER), next(iter(containers), {}))
    return {
        str(port["name"]): int(port["containerPort"]) for port in ours.get("ports") or () if port.get("name")
    }


def _node_ports(service: Json | None) -> dict[int, int]:
    """The node's port for each container port."""
    ports = ((service or {}).get("spec") or {}).get("ports") or ()
    return {
        int(port.get("targetPort") or port["port"]): int(port["nodePort"])
        for port in ports
        if port.get("nodePort") and str(port.get("targetPort") or port["port"]).isdigit()
    }


def _network(metadata: Json) -> dict[str, Scalar]:
    """As it was declared; whether that still holds, `_astray` says. Of one without a policy nothing can be told: it was
    declared as open, not at all, or as something to go without."""
    mode, _, allow = str((metadata.get("annotations") or {}).get(NETWORK) or "").partition(" ")
    return {"network.mode": mode, **({"network.allow": allow} if allow else {})} if mode else {}


def _astray(found: Found) -> tuple[Astray, ...]:
    """What somebody took away or changed beside it."""
    away: list[Astray] = []
    kinds = beside(found.main["metadata"])
    if found.is_sandbox and (found.main["spec"].get("operatingMode") == "Suspended"):
        away.append(Astray(path="sandbox.operatingMode", live="Suspended", meant="Running"))
    if not found.sees_beside:
        return tuple(away)
    if "Service" in kinds and found.service is None:
        away.append(Astray(path="service", live=None, meant=found.name))
    if "NetworkPolicy" in kinds:
        text = str((found.main["metadata"].get("annotations") or {}).get(NETWORK) or "")
        live = None if found.policy is None else "another one"
        if found.policy is None or not holds(found.policy, rules(found.sandbox_id, network_of(text))):
            away.append(Astray(path="network.policy", live=live, meant=text.partition(" ")[0] or None))
    return tuple(away)


def network_of(text: str) -> Network:
    """Of the annotation that says it."""
    mode, _, allow = text.partition(" ")
    with suppress(ValueError, TypeError, RecursionError):
        return Network(mode=NetworkMode(mode), allow=tuple(json.loads(allow)) if allow else ())
    return Network()


def moment(stamp: object) -> float | None:
    """Seconds since the epoch; None for what is no time."""
    try:
        return datetime.fromisoformat(str(stamp).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
