"""What the user wants: one `SandboxSpec` per sandbox, its canonical form and its fingerprint.

Must never hold a secret where it could be printed or stored: values sit in `Secret`, which shows itself masked and
is left out of the canonical form; what is compared and kept is the keyed digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cached_property

from msgspec import Struct, field

from reconciler.model.address import Address as Address
from reconciler.model.address import SandboxId as SandboxId
from reconciler.model.address import address_order as address_order
from reconciler.model.lifecycle import DriftPolicy, Move, Policy, Removal, Rollout
from reconciler.model.lifecycle import Lifecycle as Lifecycle
from reconciler.model.position import Block, Position
from reconciler.model.sha256 import sha256

Scalar = str | int | float | bool | None
FlatSpec = Mapping[str, Scalar]  # canonical form: "environment.LOG_LEVEL" -> "info", sorted by path
LABEL_PREFIX = "sandbox-reconciler/"  # of every label of ours on an object; nobody else's begins with it


class Secret:
    """A value that never prints itself. `reveal()` is the only way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(•••)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret is never pickled")


class SecretRef(Struct, frozen=True, kw_only=True):
    """A secret by reference. `source` is for people ("env API_TOKEN"); `digest` is keyed, "" until resolved."""

    source: str
    kind: str  # env | file | command | value
    target: tuple[str, ...]  # the variable's name, the path, the argv; empty for value
    digest: str = ""
    delivery: str = "file"  # file: the path is in NAME_FILE; environment: in NAME itself, only when asked for
    value: Secret | None = None  # hides itself, and is no part of what makes two references equal

    def _compared(self) -> tuple[object, ...]:
        return (self.source, self.kind, self.target, self.digest, self.delivery)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretRef) and other._compared() == self._compared()

    def __hash__(self) -> int:
        return hash(self._compared())


class Port(Struct, frozen=True, kw_only=True):
    """A port to publish. `host` None lets the backend choose a free one, which is read back."""

    name: str
    container: int
    host: int | None = None
    bind: str = "127.0.0.1"


class MountKind(StrEnum):
    """BIND is a path of the host, VOLUME a named volume of the engine, TMPFS memory of its own."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"


class Mount(Struct, frozen=True, kw_only=True):
    """`source` is absolute by the time it is here for a bind, the volume's name for a volume, "" for a tmpfs.
    `size` bounds a tmpfs, in bytes."""

    source: str = ""
    target: str
    read_only: bool = False
    kind: MountKind = MountKind.BIND
    size: int | None = None


class Resources(Struct, frozen=True, kw_only=True):
    """None means not declared. `cpu` in cores, `memory` and `shm` in bytes, `pids` a count."""

    cpu: float | None = None
    memory: int | None = None
    pids: int | None = None
    shm: int | None = None


class NetworkMode(StrEnum):
    OPEN = "open"
    ISOLATED = "isolated"
    ALLOWLIST = "allowlist"


class Network(Struct, frozen=True, kw_only=True):
    """`name` is a network that the engine has already."""

    mode: NetworkMode | None = None
    name: str | None = None
    allow: tuple[str, ...] = ()


class Security(Struct, frozen=True, kw_only=True):
    """None means not declared: the backend's own hardened default holds."""

    read_only_root: bool | None = None
    cap_drop: tuple[str, ...] | None = None
    cap_add: tuple[str, ...] | None = None
    init: bool | None = None
    no_new_privileges: bool | None = None
    seccomp: str | None = None  # default | unconfined | PATH#sha256:DIGEST, 12 hex digits over the file
    user: str | None = None


class ProbeKind(StrEnum):
    HTTP = "http"
    TCP = "tcp"
    EXEC = "exec"
    NONE = "none"


class Readiness(Struct, frozen=True, kw_only=True):
    """How the engine learns that a sandbox answers. Durations in seconds. Not part of the fingerprint: changing
    how we look changes nothing on the object.

    `interval` None polls adaptively (a few ms at first, growing to 250 ms).
    """

    kind: ProbeKind = ProbeKind.HTTP
    path: str = "/v1/sandbox"
    port: str | None = None  # a port's name; None means the sandbox's own URL
    command: tuple[str, ...] = ()
    expect: int = 200
    successes: int = 1
    interval: float | None = None
    timeout: float = 60.0


class Owner(Struct, frozen=True, kw_only=True):
    """Written on every object we create, as labels: what makes it ours and what it was made from. `protected`: it was
    declared with `prevent_destroy` when it was made, so that the protection outlives the declaration and the state."""

    stack: str
    lineage: str
    address: Address
    generation: int
    spec_hash: str
    protected: bool = False


_NO_NETWORK, _NO_SECURITY = Network(), Security()  # nothing of them declared
_PLAIN = ("image", "runtime", "restart", "thread_id")
_RESOURCES = ("cpu", "memory", "pids", "shm")
_SECURITY = ("read_only_root", "no_new_privileges", "seccomp", "user", "init")


class SandboxSpec(Struct, frozen=True, kw_only=True, dict=True):
    """One sandbox as it should be. None and empty mean not declared, and what is not declared is never compared.

    `owner` travels with the spec into `SandboxBackend.create`, and so does `lifetime`, the seconds it may live, for a backend
    whose engine can end it by itself. Like `readiness` and `unsupported_warn` they are not part of the canonical form.
    """

    image: str | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    mounts: tuple[Mount, ...] = ()
    resources: Resources = Resources()
    network: Network = _NO_NETWORK
    security: Security = _NO_SECURITY
    runtime: str | None = None
    restart: str | None = None  # no | on-failure[:N] | always | unless-stopped
    thread_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    readiness: Readiness = Readiness()
    unsupported_warn: bool = False
    owner: Owner | None = None
    lifetime: float | None = None

    def canonical(self) -> FlatSpec:
        """The declared fields only, flat, sorted by path; secrets as keyed digests. Same meaning, same mapping; made once
        and shared by all who ask, so not to be changed."""
        return self._canonical

    @cached_property
    def _canonical(self) -> FlatSpec:
        flat: dict[str, Scalar] = {}
        _put_all(flat, "", self, _PLAIN)
        if self.command is not None:
            flat["command"] = _listed(self.command, ascii_only=False)
        if self.entrypoint is not None:
            flat["entrypoint"] = _listed(self.entrypoint, ascii_only=False)
        for key, value in self.environment.items():
            flat[f"environment.{key}"] = value
        for key, value in self.labels.items():
            flat[f"labels.{key}"] = value
        for name, ref in self.secrets.items():
            flat[f"secrets.{name}"] = ref.digest
            _put(flat, f"secrets.{name}.as", None if ref.delivery == "file" else ref.delivery)
        for port in self.ports:
            _put(flat, f"ports.{port.name}.container", port.container)
            _put(flat, f"ports.{port.name}.host", "auto" if port.host is None else port.host)
            _put(flat, f"ports.{port.name}.bind", port.bind)
        for mount in self.mounts:
            _put(flat, f"mounts.{mount.target}.source", mount.source or None)
            _put(
                flat, f"mounts.{mount.target}.type", None if mount.kind is MountKind.BIND else str(mount.kind)
            )
            _put(flat, f"mounts.{mount.target}.size", mount.size)
            _put(flat, f"mounts.{mount.target}.read_only", mount.read_only)
        _put_all(flat, "resources.", self.resources, _RESOURCES)
        if self.network is not _NO_NETWORK:
            _put_network(flat, self.network)
        if self.security is not _NO_SECURITY:
            _put_security(flat, self.security)
        return dict(sorted(flat.items()))


def _put(flat: dict[str, Scalar], path: str, value: Scalar) -> None:
    if value is not None:
        flat[path] = value


def _listed(words: Sequence[str], *, ascii_only: bool = True) -> str:
    import json  # most specifications list nothing

    return json.dumps(list(words), ensure_ascii=ascii_only)


def _put_network(flat: dict[str, Scalar], network: Network) -> None:
    _put(flat, "network.mode", None if network.mode is None else str(network.mode))
    _put(flat, "network.name", network.name)
    if network.allow:
        flat["network.allow"] = _listed(sorted(network.allow))


def _put_security(flat: dict[str, Scalar], security: Security) -> None:
    _put_all(flat, "security.", security, _SECURITY)
    for name in ("cap_drop", "cap_add"):
        capabilities = getattr(security, name)
        if capabilities is not None:
            flat[f"security.{name}"] = _listed(sorted(capabilities))


def _put_all(flat: dict[str, Scalar], prefix: str, holder: object, names: tuple[str, ...]) -> None:
    for name in names:
        value = getattr(holder, name)
        if value is not None:
            flat[prefix + name] = value


def fingerprint(flat: FlatSpec) -> str:
    """32 hex digits (128 bits of SHA-256) over the canonical form; fits a label value anywhere."""
    import json

    text = json.dumps(dict(flat), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:32]


class DesiredSandbox(Struct, frozen=True, kw_only=True):
    """A sandbox of the configuration, expanded. `group` is the name in the YAML that it came from.

    `where` maps field paths (as in the canonical form, or a prefix of them) to YAML positions and is shared by all
    replicas of a group. `references` are the addresses whose live values appear in `environment` or `command` as
    `${sandbox.ADDRESS.url|id|ports.NAME}`; they are filled in by `core.references` when known.
    """

    address: Address
    group: str
    backend: str
    spec: SandboxSpec
    position: Position
    where: Mapping[str, Position] = field(default_factory=dict)
    depends_on: tuple[Address, ...] = ()
    references: tuple[Address, ...] = ()
    lifecycle: Lifecycle = Lifecycle()
    rollout: Rollout | None = None  # None: all replicas at once
    drift: DriftPolicy = DriftPolicy.CORRECT

    def at(self, path: str) -> Position:
        """The closest known position of a field: its own, else its parent's, else the sandbox's."""
        while path:
            if path in self.where:
                return self.where[path]
            path = path.rpartition(".")[0]
        return self.position


class BackendConfig(Struct, frozen=True, kw_only=True):
    """An entry of `backends:`. `options` are the constructor's keyword arguments."""

    name: str
    type: str
    options: Mapping[str, object] = field(default_factory=dict)
    position: Position | None = None


class StoreConfig(Struct, frozen=True, kw_only=True):
    type: str = "file"
    options: Mapping[str, object] = field(default_factory=dict)


class Output(Struct, frozen=True, kw_only=True):
    """`value` may hold `${sandbox.…}` references; `sensitive` ones are masked wherever they are printed."""

    name: str
    value: str
    position: Position
    sensitive: bool = False


class Import(Struct, frozen=True, kw_only=True):
    """A running sandbox that others made, to be taken over under an address. `id` is the engine's name for it.
    `position` None: it was named on the command line."""

    id: str
    position: Position | None = None


class Desired(Struct, frozen=True, kw_only=True):
    """The whole configuration, expanded. `sandboxes` is sorted by address. `moved` is in the order in which the moves
    follow each other. `blocks` are the templates and the defaults, where positions may lie: `position.origin`."""

    stack: str
    sandboxes: Mapping[Address, DesiredSandbox]
    backends: Mapping[str, BackendConfig]
    store: StoreConfig = StoreConfig()
    outputs: Mapping[str, Output] = field(default_factory=dict)
    imports: Mapping[Address, Import] = field(default_factory=dict)
    moved: tuple[Move, ...] = ()
    removed: tuple[Removal, ...] = ()
    policy: Policy = Policy()
    blocks: tuple[Block, ...] = ()
    directory: str = "."  # absolute; what relative paths are relative to
    files: tuple[str, ...] = ()
