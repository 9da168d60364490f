"""From a specification to the Engine API's body of a new container, and of an update. Pure.

What is not declared gets the hardened default: loopback, no capabilities, no new privileges, an init, a limit on
processes, the engine's own seccomp profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from reconciler.backends.containers import HTTP_PORT, PREFIX, labels_of, ports_to_publish
from reconciler.errors import Permanent
from reconciler.model.desired import Mount, MountKind, NetworkMode, Port, Resources, SandboxSpec

PORTS = f"{PREFIX}ports"  # label: name=container port[@address[#host port]] of each published one, comma separated
NETWORK = f"{PREFIX}network"  # label: what it was attached to at the beginning
DEFAULT_PIDS = 4096  # bounds a fork bomb, and leaves room for a browser's threads
NO_NETWORK = "none"

Json = dict[str, Any]


class Order(Struct, frozen=True, kw_only=True):
    """A container to be made. `secret_environment` are values that the user wants in the environment; `secret_mount`
    is the engine's description of the mount that holds the others; `default_network` what `network: open` means."""

    sandbox_id: str
    spec: SandboxSpec
    image: str
    bind: str
    mounts: tuple[Mount, ...]
    thread_id: str | None = None
    secret_environment: Mapping[str, str] = field(default_factory=dict)
    secret_mount: Json | None = None
    seccomp: str | None = None  # the profile's text


def published(spec: SandboxSpec, bind: str) -> tuple[Port, ...]:
    """The ports to publish; none where there is no network to publish them on."""
    return () if spec.network.mode is NetworkMode.ISOLATED else ports_to_publish(spec, bind)


def body(order: Order) -> Json:
    """The body of `POST /containers/create`."""
    spec = order.spec
    ports = published(spec, order.bind)
    labels = {
        **spec.labels,
        **labels_of(order.sandbox_id, spec.owner, order.thread_id),
        PORTS: ",".join(_label(port, ports) for port in ports),
        NETWORK: network_of(spec),
    }
    made: Json = {
        "Image": order.image,
        "Labels": labels,
        "Env": [f"{name}={value}" for name, value in _environment(order).items()],
        "ExposedPorts": {f"{port.container}/tcp": {} for port in ports},
        "HostConfig": _host_config(order, ports),
    }
    if spec.command is not None:
        made["Cmd"] = list(spec.command)
    if spec.entrypoint is not None:
        made["Entrypoint"] = list(spec.entrypoint)
    if spec.security.user is not None:
        made["User"] = spec.security.user
    return made


def _label(port: Port, ports: tuple[Port, ...]) -> str:
    """What tells two names of one container port apart is said of those alone."""
    text = f"{port.name}={port.container}"
    if sum(other.container == port.container for other in ports) == 1:
        return text
    return f"{text}@{port.bind}" + ("" if port.host is None else f"#{port.host}")


def network_of(spec: SandboxSpec) -> str:
    """The engine's word for the network of a specification."""
    if spec.network.mode is NetworkMode.ISOLATED:
        return NO_NETWORK
    return spec.network.name or "bridge"


def _environment(order: Order) -> dict[str, str]:
    files = {
        f"{name}_FILE": f"/run/secrets/{name}"
        for name, ref in order.spec.secrets.items()
        if ref.delivery == "file"
    }
    return {**files, **order.spec.environment, **order.secret_environment}


def _host_config(order: Order, ports: tuple[Port, ...]) -> Json:
    spec, security = order.spec, order.spec.security
    mounts = [_mount(mount) for mount in order.mounts]
    config: Json = {
        "NetworkMode": network_of(spec),
        "PortBindings": _bindings(ports),
        "Mounts": [*mounts, *([order.secret_mount] if order.secret_mount else [])],
        "CapDrop": list(("ALL",) if security.cap_drop is None else security.cap_drop),
        "CapAdd": list(security.cap_add or ()),
        "SecurityOpt": _security_options(order),
        "ReadonlyRootfs": bool(security.read_only_root),
        "Init": security.init is not False,
        **limits(spec.resources, spec.restart),
    }
    if spec.resources.shm is not None:
        config["ShmSize"] = spec.resources.shm
    if spec.runtime is not None:
        config["Runtime"] = spec.runtime
    return config


def _bindings(ports: tuple[Port, ...]) -> Json:
    """Port 0 lets the engine choose."""
    bindings: dict[str, list[Json]] = {}
    for port in ports:
        entry = {"HostIp": port.bind, "HostPort": "0" if port.host is None else str(port.host)}
        bindings.setdefault(f"{port.container}/tcp", []).append(entry)
    return bindings


def _security_options(order: Order) -> list[str]:
    options = [] if order.spec.security.no_new_privileges is False else ["no-new-privileges"]
    match order.spec.security.seccomp:
        case None | "default":
            pass
        case "unconfined":
            options.append("seccomp=unconfined")
        case _:
            if order.seccomp is None:
                raise Permanent("a seccomp profile was named, but its text is not at hand")
            options.append(f"seccomp={order.seccomp}")
    return options


def _mount(mount: Mount) -> Json:
    made: Json = {"Type": str(mount.kind), "Target": mount.target, "ReadOnly": mount.read_only}
    if mount.kind is not MountKind.TMPFS:
        made["Source"] = mount.source
    elif mount.size is not None:
        made["TmpfsOptions"] = {"SizeBytes": mount.size}
    return made


def limits(resources: Resources, restart: str | None) -> Json:
    """What both a create and an update understand. 0 is "no limit" for a create and "as it is" for an update."""
    return {
        "NanoCpus": 0 if resources.cpu is None else round(resources.cpu * 1_000_000_000),
        "Memory": resources.memory or 0,
        "MemorySwap": resources.memory
        or 0,  # equal: no swap, or the limit would hold only half of what it says
        "PidsLimit": DEFAULT_PIDS if resources.pids is None else resources.pids,
        "RestartPolicy": restart_policy(restart),
    }


def restart_policy(restart: str | None) -> Json:
    name, _, count = (restart or "no").partition(":")
    return {"Name": name, "MaximumRetryCount": int(count or 0)}


def update_body(spec: SandboxSpec, live: Mapping[str, Any], machine: Mapping[str, Any]) -> Json:
    """The body of an update that brings the live HostConfig to the specification's limits; {} when it is there.

    `machine` is what the engine says of itself. A limit that is not declared any more is lifted by setting it to all
    the machine has (NCPU, MemTotal): an update takes 0 for "as it is" and has no word for "none".
    """
    wanted = limits(spec.resources, spec.restart)
    changed: Json = {}
    for key, everything in (
        ("NanoCpus", _processors(machine)),
        ("Memory", int(machine.get("MemTotal") or 0)),
    ):
        now, goal = live.get(key) or 0, wanted[key]
        goal = goal or (everything if now else 0)
        if goal and goal != now:
            changed[key] = goal
    if "Memory" in changed:
        changed["MemorySwap"] = changed["Memory"]
    if wanted["PidsLimit"] != (live.get("PidsLimit") or 0):
        changed["PidsLimit"] = wanted["PidsLimit"]
    if restart_text(live.get("RestartPolicy")) != restart_text(wanted["RestartPolicy"]):
        changed["RestartPolicy"] = wanted["RestartPolicy"]
    return changed


def _processors(machine: Mapping[str, Any]) -> int:
    return int(machine.get("NCPU") or 0) * 1_000_000_000


def restart_text(policy: Mapping[str, Any] | None) -> str:
    """The engine's restart policy in the words of the YAML."""
    name = (policy or {}).get("Name") or "no"
    count = (policy or {}).get("MaximumRetryCount") or 0
    return f"{name}:{count}" if name == "on-failure" and count else name


__all__ = [
    "HTTP_PORT",
    "NETWORK",
    "NO_NETWORK",
    "PORTS",
    "Order",
    "body",
    "limits",
    "network_of",
    "published",
]
