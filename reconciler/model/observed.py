"""What is there: `SandboxInfo` (the seed's shape), one `ObservedSandbox` per live object, and whether a look was
complete. An incomplete look is data too: nothing may ever be decided from what it does not show."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from reconciler.model.desired import FlatSpec, Owner, Scalar


class SandboxInfo(Struct):
    """Connection details of one sandbox. Field names and the dict form are the seed's contract.

    `created_at` is seconds since the epoch; an unknown age is 0.0, never "now". `ports` is ours: published port
    by name, as the host sees it.
    """

    sandbox_id: str
    sandbox_url: str
    container_name: str | None = None
    container_id: str | None = None
    created_at: float = 0.0
    ports: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "sandbox_id": self.sandbox_id,
            "sandbox_url": self.sandbox_url,
            "container_name": self.container_name,
            "container_id": self.container_id,
            "created_at": self.created_at,
        }
        if self.ports:
            data["ports"] = dict(self.ports)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SandboxInfo:
        """Accepts the older key `base_url` and a missing `created_at`. Raises KeyError without id or URL."""
        return cls(
            sandbox_id=data["sandbox_id"],
            sandbox_url=data["sandbox_url"] if "sandbox_url" in data else data["base_url"],
            container_name=data.get("container_name"),
            container_id=data.get("container_id"),
            created_at=float(data.get("created_at") or 0.0),
            ports=dict(data.get("ports") or {}),
        )


class Phase(StrEnum):
    """STARTING means up, not known to answer yet: a listing does not probe. TERMINATING means that somebody removes it: it may
    run a while, and nothing keeps it."""

    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"
    TERMINATING = "terminating"
    UNKNOWN = "unknown"

    @property
    def is_dead(self) -> bool:
        """Definitely not running any more; UNKNOWN is not dead."""
        return self in (Phase.STOPPED, Phase.FAILED)


class Astray(Struct, frozen=True, kw_only=True):
    """Something about an object that is not as its backend made it, though no declared field speaks of it: its name,
    its networks, that it is paused. `in_place`: the backend's `update` puts it back."""

    path: str
    live: Scalar
    meant: Scalar
    in_place: bool = True


class ObservedSandbox(Struct, frozen=True, kw_only=True):
    """One live (or dead but still present) object.

    `owner` None means it carries no labels of ours, or the backend cannot carry any. `attributes` are the live
    values of the fields the backend can read back, by canonical path; None when it can read none. `detail` says
    for people what the phase does not ("exit code 137"); `reach` a command that reaches it, where it has no URL of its own.
    """

    info: SandboxInfo
    backend: str = ""
    phase: Phase = Phase.STARTING
    owner: Owner | None = None
    attributes: FlatSpec | None = None
    detail: str = ""
    reach: str = ""
    astray: tuple[Astray, ...] = ()


class Usage(Struct, frozen=True, kw_only=True):
    """What a sandbox takes right now. `cpu_seconds` is all the time it has computed so far, read at `at` (seconds of
    any steady clock): two of them make a rate. `memory` in bytes. `cores` is the rate where the backend knows it by itself."""

    cpu_seconds: float
    memory: int
    at: float
    cores: float | None = None


class Observed(Struct, frozen=True, kw_only=True):
    """One look at every backend. A backend named in `failures` was not listed, or only in part; what it holds is
    unknown, not absent."""

    sandboxes: tuple[ObservedSandbox, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return not self.failures
