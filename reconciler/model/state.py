"""What we last meant, per address: what listings and labels cannot hold. Never holds a secret's value."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.model.desired import Address, FlatSpec
from reconciler.model.observed import SandboxInfo

FORMAT = "1.0"


class Status(StrEnum):
    """PENDING: a create was intended and its outcome is not known. CREATED: it exists, readiness not yet known.
    READY: it answered. TAINTED: it exists but never answered, or its update failed half way. DESTROYING: a destroy
    was intended and its outcome is not known."""

    PENDING = "pending"
    CREATED = "created"
    READY = "ready"
    TAINTED = "tainted"
    DESTROYING = "destroying"


class SandboxRecord(Struct, frozen=True, kw_only=True):
    """`spec` is the canonical form (secrets as keyed digests) that `spec_hash` was made of. Times in seconds since
    the epoch. `depends_on` is kept so that removed sandboxes can still be destroyed in order. `imported`: others made
    it, it carries no labels of ours, and it is ours because it is recorded. `protected`: no plan destroys or replaces it,
    whatever its labels say. `triggers` are what the addresses of `replace_triggered_by` were when it was made. `healthy` is
    the last specification it was ready with, while it is not ready."""

    address: Address
    sandbox_id: str
    backend: str
    generation: int
    spec: FlatSpec = field(default_factory=dict)
    spec_hash: str = ""
    info: SandboxInfo | None = None
    status: Status = Status.PENDING
    depends_on: tuple[Address, ...] = ()
    created_at: float = 0.0
    updated_at: float = 0.0
    error: str = ""
    imported: bool = False
    protected: bool = False
    triggers: Mapping[Address, str] = field(default_factory=dict)
    healthy: FlatSpec | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "sandbox_id": self.sandbox_id,
            "backend": self.backend,
            "generation": self.generation,
            "status": str(self.status),
            "spec_hash": self.spec_hash,
            "spec": dict(self.spec),
            "info": None if self.info is None else self.info.to_dict(),
            "depends_on": list(self.depends_on),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "error": self.error,
            **({"imported": True} if self.imported else {}),
            **({"protected": True} if self.protected else {}),
            **({"triggers": dict(self.triggers)} if self.triggers else {}),
            **({} if self.healthy is None else {"healthy": dict(self.healthy)}),
        }

    @classmethod
    def from_dict(cls, address: str, data: Mapping[str, Any]) -> SandboxRecord:
        """Raises KeyError, TypeError or ValueError on anything that `to_dict` did not write."""
        return cls(
            address=Address(address),
            sandbox_id=data["sandbox_id"],
            backend=data["backend"],
            generation=int(data["generation"]),
            status=Status(data["status"]),
            spec_hash=data["spec_hash"],
            spec=dict(data["spec"]),
            info=None if data["info"] is None else SandboxInfo.from_dict(data["info"]),
            depends_on=tuple(Address(a) for a in data.get("depends_on", ())),
            created_at=float(data["created_at"]),
            updated_at=float(data["updated_at"]),
            error=data.get("error", ""),
            imported=bool(data.get("imported", False)),
            protected=bool(data.get("protected", False)),
            triggers={Address(a): str(was) for a, was in data.get("triggers", {}).items()},
            healthy=dict(data["healthy"]) if "healthy" in data else None,
        )


class Migrated(Struct, frozen=True, kw_only=True):
    """Said of a state that lives in another store since: `to` is which, for people and the same from everywhere, `at` when,
    in seconds since the epoch."""

    to: str
    at: float


class State(Struct, frozen=True, kw_only=True):
    """`serial` grows by one with each snapshot written; `lineage` is drawn once and never changes; `backends`
    remembers how to reach what was created, so that a sandbox whose backend left the YAML can still be found. `released`
    are objects that were let go: (backend, sandbox id) to the address they had. They carry our labels for ever, and are
    nobody's all the same. `migrated` marks what a migration left behind: whole, and nothing to work with any more."""

    stack: str
    lineage: str
    serial: int = 0
    sandboxes: Mapping[Address, SandboxRecord] = field(default_factory=dict)
    backends: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # name -> {"type": …, "options": …}
    outputs: Mapping[str, str] = field(default_factory=dict)  # sensitive ones are never stored
    released: Mapping[tuple[str, str], Address] = field(default_factory=dict)
    updated_at: float = 0.0
    migrated: Migrated | None = None

    def with_record(self, record: SandboxRecord) -> State:
        return replace(self, sandboxes={**self.sandboxes, record.address: record})

    def without(self, address: Address) -> State:
        return replace(self, sandboxes={a: r for a, r in self.sandboxes.items() if a != address})

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "stack": self.stack,
            "serial": self.serial,
            "lineage": self.lineage,
            "updated_at": self.updated_at,
            "backends": {name: dict(value) for name, value in sorted(self.backends.items())},
            "outputs": dict(sorted(self.outputs.items())),
            "sandboxes": {a: r.to_dict() for a, r in sorted(self.sandboxes.items())},
            **({"released": _released(self.released)} if self.released else {}),
            **({"migrated": {"to": self.migrated.to, "at": self.migrated.at}} if self.migrated else {}),
        }

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], records: Mapping[Address, SandboxRecord] | None = None
    ) -> State:
        """Raises KeyError, TypeError or ValueError on anything that `to_dict` did not write. The caller has
        checked `format`, and may have made the `records` already."""
        if records is None:
            records = {Address(a): SandboxRecord.from_dict(a, r) for a, r in data["sandboxes"].items()}
        migrated = data.get("migrated")
        return cls(
            stack=data["stack"],
            lineage=data["lineage"],
            serial=int(data["serial"]),
            updated_at=float(data["updated_at"]),
            backends={name: dict(value) for name, value in data["backends"].items()},
            outputs=dict(data.get("outputs", {})),
            sandboxes=records,
            released={
                (str(entry["backend"]), str(entry["sandbox_id"])): Address(entry["address"])
                for entry in data.get("released", ())
            },
            migrated=migrated and Migrated(to=str(migrated["to"]), at=float(migrated["at"])),
        )


def _released(released: Mapping[tuple[str, str], Address]) -> list[dict[str, str]]:
    return [
        {"backend": backend, "sandbox_id": sandbox_id, "address": address}
        for (backend, sandbox_id), address in sorted(released.items())
    ]
