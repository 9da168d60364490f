"""What is to be made of one sandbox on a cluster, and the names that its objects share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from reconciler.backends.containers import (
    LOOPBACK,
    PREFIX,
    ports_to_publish,
)
from reconciler.model.desired import (
    Mount,
    NetworkMode,
    Port,
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
