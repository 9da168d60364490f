"""From an order to the objects of a sandbox: its pod, or the `Sandbox` that makes one, its secret and its service. Pure.

What is not declared gets the hardened default: no capabilities, no new privileges, the runtime's own seccomp profile, no
token of a service account, no addresses of other services in the environment. A secret's value is in the Secret alone.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, field

from reconciler.backends.containers import (
    HTTP_PORT,
    LOOPBACK,
    PREFIX,
    SANDBOX_ID,
    SECRETS_DIR,
    ports_to_publish,
)
from reconciler.backends.kubernetes.labelling import marks
from reconciler.backends.kubernetes.quantities import of_cores
from reconciler.model.desired import (
    Mount,
    MountKind,
    Network,
    NetworkMode,
    Port,
    ProbeKind,
    Readiness,
    SandboxSpec,
)

Json = dict[str, Any]

API_VERSION = "agents.x-k8s.io/v1beta1"
CONTAINER = "sandbox"  # the name of the container in each pod
GATE = f"{PREFIX}made-whole"  # holds a pod back until its secret and its network policy are there
UNFINISHED = f"{PREFIX}unfinished"  # annotation of a Sandbox that is held back for the same reason
WITH = f"{PREFIX}with"  # annotation: the kinds that were made beside it, comma separated
NETWORK = f"{PREFIX}network"  # annotation: the declared mode, and what it allows
RESTART = f"{PREFIX}restart"  # annotation: the declared word
SECRETS, SHM = "secrets", "shm"  # names of volumes
_PULL = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}
_RESTART = {"no": "Never", "on-failure": "OnFailure", "always": "Always", "unless-stopped": "Always"}
_USER = re.compile(r"(0|[1-9][0-9]{0,9})(?::(0|[1-9][0-9]{0,9}))?", re.ASCII)
_PROBE_TIMEOUT = 5  # seconds, as for a probe from here


class Order(Struct, frozen=True, kw_only=True):
    """A sandbox to be made. `name` is that of its objects; `secrets` are values by name and delivery."""

    sandbox_id: str
    name: str
    namespace: str
    spec: SandboxSpec
    image: str
    mounts: tuple[Mount, ...] = ()
    thread_id: str | None = None
    agent_sandbox: bool = False
    service: str = "none"  # none | ClusterIP | NodePort
    pull: str = "missing"
    pull_secrets: tuple[str, ...] = ()
    grace: int = 10  # seconds to end by itself
    expires: float | None = None  # seconds since the epoch
    secret_values: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Order({self.sandbox_id!r})"  # never the values of secrets

    @property
    def has_policy(self) -> bool:
        return self.spec.network.mode in (NetworkMode.ISOLATED, NetworkMode.ALLOWLIST)

    @property
    def beside(self) -> tuple[str, ...]:
        """The kinds of the objects that are made beside it."""
        own_service = self.service != "none" and not (self.agent_sandbox and self.service == "ClusterIP")
        wanted = {"NetworkPolicy": self.has_policy, "Secret": bool(self.spec.secrets), "Service": own_service}
        return tuple(kind for kind, is_wanted in wanted.items() if is_wanted)

    @property
    def held_back(self) -> bool:
        """Whether it may start only when something else is there."""
        return bool({"NetworkPolicy", "Secret"} & set(self.beside))


def published(spec: SandboxSpec) -> tuple[Port, ...]:
    """The declared ports, and the sandbox's own where the declaration does not speak of it."""
    return ports_to_publish(spec, LOOPBACK)


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


def pod_spec(order: Order) -> Json:
    """What both forms share."""
    spec = order.spec
    volumes, held = _volumes(order)
    made: Json = {
        "containers": [_container(order, held)],
        "restartPolicy": _RESTART[spec.restart or "no"],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": order.grace,
        "securityContext": _pod_security(order),
    }
    if volumes:
        made["volumes"] = volumes
    if spec.runtime is not None:
        made["runtimeClassName"] = spec.runtime
    if spec.security.init:
        made["shareProcessNamespace"] = True  # the pause process is the init
    if order.pull_secrets:
        made["imagePullSecrets"] = [{"name": name} for name in order.pull_secrets]
    return made


def _container(order: Order, held: list[Json]) -> Json:
    spec = order.spec
    made: Json = {
        "name": CONTAINER,
        "image": order.image,
        "imagePullPolicy": _PULL[order.pull],
        "securityContext": _security(spec),
        "ports": [
            {"name": port.name, "containerPort": port.container, "protocol": "TCP"}
            for port in published(spec)
        ],
    }
    if spec.entrypoint is not None:
        made["command"] = [literal(word) for word in spec.entrypoint]
    if spec.command is not None:
        made["args"] = [literal(word) for word in spec.command]
    environment = _environment(order)
    if environment:
        made["env"] = environment
    resources = _resources(spec)
    if resources:
        made["resources"] = {"requests": resources, "limits": dict(resources)}
    if held:
        made["volumeMounts"] = held
    probe = readiness_probe(spec)
    if probe is not None:
        made["readinessProbe"] = probe
    return made


def literal(text: str) -> str:
    """A cluster fills in `$(NAME)` and takes `$$` for `$`: what is to arrive as it is written says so."""
    return text.replace("$", "$$") if "$(" in text or "$$" in text else text


def _environment(order: Order) -> list[Json]:
    spec = order.spec
    plain = {
        f"{name}_FILE": f"{SECRETS_DIR}/{name}"
        for name, ref in spec.secrets.items()
        if ref.delivery == "file"
    }
    found: dict[str, Json] = {
        name: {"name": name, "value": literal(value)} for name, value in {**plain, **spec.environment}.items()
    }
    for name, ref in spec.secrets.items():
        if ref.delivery == "environment":
            source = {"secretKeyRef": {"name": order.name, "key": name}}
            found[name] = {"name": name, "valueFrom": source}
    return list(found.values())


def _resources(spec: SandboxSpec) -> Json:
    """Requests equal the limits, so that a node never promises what it does not have."""
    found: Json = {}
    if spec.resources.cpu is not None:
        found["cpu"] = of_cores(spec.resources.cpu)
    if spec.resources.memory is not None:
        found["memory"] = str(spec.resources.memory)
    return found


def _volumes(order: Order) -> tuple[list[Json], list[Json]]:
    """The pod's volumes, and where its container holds them."""
    volumes: list[Json] = []
    held: list[Json] = []
    for number, mount in enumerate(order.mounts):
        name = f"mount-{number}"
        volumes.append({"name": name, **_source(mount)})
        held.append({"name": name, "mountPath": mount.target, "readOnly": mount.read_only})
    if order.spec.resources.shm is not None:
        volumes.append({"name": SHM, "emptyDir": _memory(order.spec.resources.shm)})
        held.append({"name": SHM, "mountPath": "/dev/shm"})  # noqa: S108 - in the sandbox
    files = sorted(name for name, ref in order.spec.secrets.items() if ref.delivery == "file")
    if files:
        items = [{"key": name, "path": name} for name in files]
        # Readable for whichever user the image runs as; nobody else is in there.
        volumes.append(
            {"name": SECRETS, "secret": {"secretName": order.name, "items": items, "defaultMode": 0o444}}
        )
        held.append({"name": SECRETS, "mountPath": SECRETS_DIR, "readOnly": True})
    return volumes, held


def _source(mount: Mount) -> Json:
    match mount.kind:
        case MountKind.BIND:
            return {"hostPath": {"path": mount.source}}
        case MountKind.VOLUME:
            return {"persistentVolumeClaim": {"claimName": mount.source}}
        case MountKind.TMPFS:
            return {"emptyDir": _memory(mount.size)}


def _memory(size: int | None) -> Json:
    return {"medium": "Memory", **({} if size is None else {"sizeLimit": str(size)})}


def _pod_security(order: Order) -> Json:
    spec = order.spec
    unconfined = spec.security.seccomp == "unconfined"
    made: Json = {"seccompProfile": {"type": "Unconfined" if unconfined else "RuntimeDefault"}}
    if spec.security.user is not None:
        user, group = numbers(spec.security.user)
        made |= {"runAsUser": user, "runAsNonRoot": user != 0}
        if group is not None:
            made["runAsGroup"] = group
        if any(mount.kind is MountKind.VOLUME for mount in order.mounts):  # whose files would be root's
            made |= {"fsGroup": user if group is None else group, "fsGroupChangePolicy": "OnRootMismatch"}
    return made


def numbers(user: str) -> tuple[int, int | None]:
    """Of `user` or `user:group`. Raises ValueError for a name: a cluster does not look into the image."""
    shape = _USER.fullmatch(user)
    if shape is None:
        raise ValueError(user)
    return int(shape[1]), int(shape[2]) if shape[2] else None


def _security(spec: SandboxSpec) -> Json:
    security = spec.security
    dropped = ("ALL",) if security.cap_drop is None else security.cap_drop
    capabilities: Json = {"drop": sorted(dropped)}
    if security.cap_add:
        capabilities["add"] = sorted(security.cap_add)
    return {
        "allowPrivilegeEscalation": security.no_new_privileges is False,
        "capabilities": capabilities,
        "readOnlyRootFilesystem": bool(security.read_only_root),
    }


def readiness_probe(spec: SandboxSpec) -> Json | None:
    """What the kubelet asks; None where it cannot ask that, and where nothing is to be asked."""
    readiness = spec.readiness
    question = _question(spec, readiness)
    if question is None:
        return None
    return {
        **question,
        "periodSeconds": max(1, round(readiness.interval or 1)),
        "timeoutSeconds": _PROBE_TIMEOUT,
        "successThreshold": readiness.successes,
        "failureThreshold": 3,
    }


def _question(spec: SandboxSpec, readiness: Readiness) -> Json | None:
    match readiness.kind:
        case ProbeKind.HTTP:
            if not 200 <= readiness.expect < 400:  # which is all that a kubelet takes for well
                return None
            return {"httpGet": {"path": readiness.path, "port": _port(spec, readiness), "scheme": "HTTP"}}
        case ProbeKind.TCP:
            return {"tcpSocket": {"port": _port(spec, readiness)}}
        case ProbeKind.EXEC:
            return {"exec": {"command": [literal(word) for word in readiness.command]}}
        case ProbeKind.NONE:
            return None


def _port(spec: SandboxSpec, readiness: Readiness) -> int:
    ports = published(spec)
    wanted = readiness.port or "http"
    return next((port.container for port in ports if port.name == wanted), HTTP_PORT)


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
