"""From a specification to the arguments of `container run`. Reads of the disk only whether a mount is a directory.

What is not declared gets the hardened default: loopback, no capabilities, an init. What the command would take for
something else, such as a comma in a path or `=` in a label, is refused with a reason, never passed on.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from reconciler.backends.apple.command import Environment
from reconciler.backends.containers import (
    HTTP_PORT,
    PREFIX,
    SECRETS_DIR,
    free_labels,
    labels_of,
    ports_to_publish,
)
from reconciler.errors import Permanent
from reconciler.model.desired import Mount, MountKind, NetworkMode, Port, SandboxSpec

INSTANCE = f"{PREFIX}instance"  # label: tells two containers of one name apart, as the engine does not
IMAGE = f"{PREFIX}image"  # label: the image as it was named; the engine shows it in a longer form
PORTS = f"{PREFIX}ports"  # label: JSON, name → [container port, whether we chose the host's]
ENVIRONMENT = f"{PREFIX}environment"  # label: JSON, the declared names that are no secrets

NO_NETWORK = "none"
MIB = 1024 * 1024
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,62}")


class Order(Struct, frozen=True, kw_only=True):
    """A container to be made. `secrets` is the host's directory with the secret files, None when there are none;
    `secret_environment` are values that the user wants in the environment."""

    name: str
    sandbox_id: str
    instance: str
    spec: SandboxSpec
    image: str
    bind: str
    mounts: tuple[Mount, ...]
    thread_id: str | None = None
    secrets: str | None = None
    secret_environment: Mapping[str, str] = field(default_factory=dict)

    def environment(self) -> Environment:
        files = {
            f"{name}_FILE": f"{SECRETS_DIR}/{name}"
            for name, ref in self.spec.secrets.items()
            if ref.delivery == "file"
        }
        declared = {**files, **self.spec.environment}
        values = [value for value in self.spec.environment.values() if len(value) > 3]
        return Environment(
            variables={**declared, **self.secret_environment},
            hidden=(*values, *self.secret_environment.values()),
        )

    def ports(self) -> tuple[Port, ...]:
        """The ports to publish; none where there is no network to publish them on."""
        if self.spec.network.mode is NetworkMode.ISOLATED:
            return ()
        return ports_to_publish(self.spec, self.bind)


def check(order: Order) -> None:
    """Raises Permanent for what the command cannot be given as it is meant."""
    if not _NAME.fullmatch(order.name):
        raise Permanent(
            f"{order.name!r} cannot be a container's name", hint="use a `prefix` of at most 11 characters"
        )
    if not order.image or order.image.startswith("-"):
        raise Permanent(f"{order.image!r} cannot be an image")
    labels = order.spec.labels
    foreign = sorted(set(labels) - set(free_labels(labels)))
    if foreign:
        raise Permanent(f"labels {', '.join(foreign)} are this tool's own", hint="use other names")
    for name, value in labels.items():
        if "=" in name or "=" in value:
            raise Permanent(f"label {name} holds `=`, which `container` cannot take", hint="leave it out")
    entrypoint = order.spec.entrypoint
    if entrypoint is not None and (not entrypoint or not entrypoint[0]):
        raise Permanent("an empty entrypoint is not possible here", hint="name the program to start")


def words(order: Order, hosts: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """The arguments before those of the environment, and those after: the image and its command. `hosts` are the
    chosen host ports by name. Raises Permanent for what cannot be passed on."""
    check(order)
    spec = order.spec
    made = ["-d", "--name", order.name, "--progress", "none"]
    for port in order.ports():
        made += ["-p", _published(port, hosts[port.name])]
    for label, value in _labels(order).items():
        made += ["-l", f"{label}={value}"]
    for mount in order.mounts:
        made += _mount(mount)
    if order.secrets is not None:
        made += _mount(Mount(source=order.secrets, target=SECRETS_DIR, read_only=True))
    made += _limits(spec) + _security(spec)
    if spec.network.mode is NetworkMode.ISOLATED:
        made += ["--network", NO_NETWORK]
    elif spec.network.name is not None:
        made += ["--network", spec.network.name]
    if spec.runtime is not None:
        made += ["--runtime", spec.runtime]
    command = list(spec.command or ())
    if spec.entrypoint is not None:
        made += ["--entrypoint", spec.entrypoint[0]]
        command = [*spec.entrypoint[1:], *command]
    return made, [order.image, *command]


def _published(port: Port, host: int) -> str:
    bind = f"[{port.bind}]" if ":" in port.bind else port.bind
    return f"{bind}:{host}:{port.container}"


def _labels(order: Order) -> dict[str, str]:
    ours = labels_of(order.sandbox_id, order.spec.owner, order.thread_id)
    ours |= {
        INSTANCE: order.instance,
        IMAGE: order.image,
        PORTS: json.dumps({port.name: [port.container, port.host is None] for port in order.ports()}),
        ENVIRONMENT: json.dumps(sorted(order.spec.environment)),
    }
    return {**order.spec.labels, **{name: encoded(value) for name, value in ours.items()}}


def encoded(value: str) -> str:
    """A label's value without the character that the command splits labels at."""
    return value.replace("%", "%25").replace("=", "%3D")


def decoded(value: str) -> str:
    return value.replace("%3D", "=").replace("%25", "%")


def _mount(mount: Mount) -> list[str]:
    """`--mount` splits at commas and `=` and takes directories only, `-v` splits at colons and takes files too."""
    match mount.kind:
        case MountKind.TMPFS:
            return _tmpfs(mount)
        case MountKind.VOLUME:
            return _colons(mount)
        case MountKind.BIND:
            return _bind(mount)


def _bind(mount: Mount) -> list[str]:
    if not os.path.exists(mount.source):
        raise Permanent(f"mount source {mount.source} is not there", hint="create it, or fix the path")
    if os.path.isdir(mount.source) and not _splits(",=", mount):
        read_only = ",readonly" if mount.read_only else ""
        return ["--mount", f"type=bind,source={mount.source},target={mount.target}{read_only}"]
    return _colons(mount)


def _colons(mount: Mount) -> list[str]:
    if _splits(":", mount):
        reason = (
            "beside `,` or `=`" if _splits(",=", mount) else "in the path of a file or the target of a volume"
        )
        raise Permanent(
            f"`container` cannot mount {mount.source} on {mount.target}: it takes no `:` {reason}",
            hint="rename it, or mount the directory that holds it",
        )
    return ["-v", f"{mount.source}:{mount.target}{':ro' if mount.read_only else ''}"]


def _tmpfs(mount: Mount) -> list[str]:
    if mount.size is None and not mount.read_only:
        return ["--tmpfs", mount.target]
    if _splits(",=", mount):
        raise Permanent(
            f"`container` takes no `,` or `=` in the target {mount.target}", hint="use another path"
        )
    size = "" if mount.size is None else f",size={_mebibytes(mount.size, f'size of {mount.target}')}M"
    return ["--mount", f"type=tmpfs,target={mount.target}{size}{',readonly' if mount.read_only else ''}"]


def _splits(characters: str, mount: Mount) -> bool:
    return any(character in mount.source + mount.target for character in characters)


def _limits(spec: SandboxSpec) -> list[str]:
    resources, made = spec.resources, list[str]()
    if resources.cpu is not None:
        if resources.cpu != int(resources.cpu) or resources.cpu < 1:
            raise Permanent(
                f"cpu: {resources.cpu:g} is not possible here: a virtual machine has whole processors",
                hint="use 1 or more, without a fraction",
            )
        made += ["-c", str(int(resources.cpu))]
    if resources.memory is not None:
        made += ["-m", f"{_mebibytes(resources.memory, 'memory')}M"]
    if resources.shm is not None:
        made += ["--shm-size", f"{_mebibytes(resources.shm, 'shm')}M"]
    return made


def _mebibytes(size: int, what: str) -> int:
    """The engine counts in whole MiB and would round quietly."""
    if size % MIB or size < MIB:
        raise Permanent(f"{what} of {size} bytes is not possible here", hint="use whole MiB, such as 512Mi")
    return size // MIB


def _security(spec: SandboxSpec) -> list[str]:
    security, made = spec.security, list[str]()
    for capability in ("ALL",) if security.cap_drop is None else security.cap_drop:
        made += ["--cap-drop", capability]
    for capability in security.cap_add or ():
        made += ["--cap-add", capability]
    if security.read_only_root:
        made.append("--read-only")
    if security.init is not False:
        made.append("--init")
    if security.user is not None:
        made += ["-u", security.user]
    return made


def chosen(ports: Sequence[Port], taken: Mapping[str, int]) -> dict[str, int]:
    """The host port of each, by name: the declared one, else the one that was found free."""
    return {port.name: taken[port.name] if port.host is None else port.host for port in ports}


__all__ = ["HTTP_PORT", "INSTANCE", "Order", "chosen", "decoded", "encoded", "words"]
