"""The specification of a sandbox's pod. Pure.

What is not declared gets the hardened default: no capabilities, no new privileges, the runtime's own seccomp profile, no
token of a service account, no addresses of other services in the environment.
"""

from __future__ import annotations

import re

from reconciler.backends.containers import (
    HTTP_PORT,
    SECRETS_DIR,
)
from reconciler.backends.kubernetes.order import (
    CONTAINER,
    SECRETS,
    SHM,
    Json,
    Order,
    published,
)
from reconciler.backends.kubernetes.quantities import of_cores
from reconciler.model.desired import (
    Mount,
    MountKind,
    ProbeKind,
    Readiness,
    SandboxSpec,
)

_PULL = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}
_RESTART = {"no": "Never", "on-failure": "OnFailure", "always": "Always", "unless-stopped": "Always"}
_USER = re.compile(r"(0|[1-9][0-9]{0,9})(?::(0|[1-9][0-9]{0,9}))?", re.ASCII)
_PROBE_TIMEOUT = 5  # seconds, as for a probe from here


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
