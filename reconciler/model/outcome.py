"""What was intended and what came of it: the two kinds of journal entries, and the result of a whole step.

The journal is the truth between two snapshots: an `Intent` is on disk before the backend is asked, its `Outcome`
right after. `core.fold` turns state plus entries into state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from reconciler.model.desired import Address, FlatSpec
from reconciler.model.observed import SandboxInfo


class Operation(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    ADOPT = "adopt"
    READY = "ready"  # the verdict on readiness after a create, update or adopt
    DESTROY = "destroy"
    FORGET = "forget"
    SEE = "see"  # recorded as it is, whatever its status
    RELEASE = "release"  # it is let go: an intent alone, for nothing is done to the object


class Intent(Struct, frozen=True, kw_only=True):
    """`operation` is about to be done to `sandbox_id`. `spec` is canonical: digests, never secrets. `imported`: the
    object was made by others and is taken over with this. `protected` and `triggers` as in a record. None of the three is
    written when it says nothing."""

    at: float
    operation: Operation
    address: Address
    sandbox_id: str
    backend: str
    generation: int
    spec: FlatSpec = field(default_factory=dict)
    spec_hash: str = ""
    depends_on: tuple[Address, ...] = ()
    imported: bool = False
    protected: bool = False
    triggers: Mapping[Address, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "intent",
            "at": self.at,
            "operation": str(self.operation),
            "address": self.address,
            "sandbox_id": self.sandbox_id,
            "backend": self.backend,
            "generation": self.generation,
            "spec": dict(self.spec),
            "spec_hash": self.spec_hash,
            "depends_on": list(self.depends_on),
            **({"imported": True} if self.imported else {}),
            **({"protected": True} if self.protected else {}),
            **({"triggers": dict(self.triggers)} if self.triggers else {}),
        }


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of an intent. `error` is empty when it worked."""

    at: float
    operation: Operation
    address: Address
    sandbox_id: str
    info: SandboxInfo | None = None
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "outcome",
            "at": self.at,
            "operation": str(self.operation),
            "address": self.address,
            "sandbox_id": self.sandbox_id,
            "info": None if self.info is None else self.info.to_dict(),
            "error": self.error,
        }


Entry = Intent | Outcome


def entry_from_dict(data: Mapping[str, Any]) -> Entry:
    """Raises KeyError, TypeError or ValueError on anything that `to_dict` did not write."""
    operation, address = Operation(data["operation"]), Address(data["address"])
    if data["kind"] == "intent":
        return Intent(
            at=float(data["at"]),
            operation=operation,
            address=address,
            sandbox_id=data["sandbox_id"],
            backend=data["backend"],
            generation=int(data["generation"]),
            spec=dict(data["spec"]),
            spec_hash=data["spec_hash"],
            depends_on=tuple(Address(a) for a in data["depends_on"]),
            imported=bool(data.get("imported", False)),
            protected=bool(data.get("protected", False)),
            triggers={Address(a): str(was) for a, was in data.get("triggers", {}).items()},
        )
    if data["kind"] == "outcome":
        return Outcome(
            at=float(data["at"]),
            operation=operation,
            address=address,
            sandbox_id=data["sandbox_id"],
            info=None if data["info"] is None else SandboxInfo.from_dict(data["info"]),
            error=data["error"],
        )
    raise ValueError(f"unknown journal entry kind {data['kind']!r}")


class StepStatus(StrEnum):
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # something it needs failed
    STALE = "stale"  # the object moved since the plan
    INTERRUPTED = (
        "interrupted"  # the run was stopped while it waited for readiness: done, but nobody knows how well
    )
    NOT_STARTED = "not started"  # the run was stopped first


class StepResult(Struct, frozen=True, kw_only=True):
    """How one step of the plan ended. Every step of a run ends in exactly one of these. `log_tail` holds the last
    lines of a sandbox that did not become ready; `seconds` is from first call to verdict. `ready` is the verdict on
    readiness: True it answered (or need not), False it never did, None nobody knows. `tried` are the cheaper rungs of a repair
    and what came of each ("restarted: it ended again (exit code 1)")."""

    address: Address
    action: str
    status: StepStatus
    error: str = ""
    hint: str = ""
    info: SandboxInfo | None = None
    ready: bool | None = None
    seconds: float = 0.0
    attempts: int = 1
    log_tail: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
