"""A snapshot's records, checked and made in one go by msgspec, which takes a fifth of the time that a check in words does.

Accepts nothing that `snapshot` would refuse. What is wrong with what it does not accept, `snapshot` says.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

from msgspec import Meta, Struct, ValidationError, convert, field

from reconciler.model.desired import Address
from reconciler.model.observed import SandboxInfo
from reconciler.model.state import SandboxRecord, Status

_Name = Annotated[str, Meta(min_length=1)]
_Count = Annotated[int, Meta(ge=0)]
_Port = Annotated[int, Meta(ge=0, le=65535)]
_Number = Annotated[float, Meta(gt=-1e300, lt=1e300)]
_Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
_Flat = dict[str, str | int | _Finite | bool | None]


class _Info(Struct, forbid_unknown_fields=True):
    sandbox_id: _Name
    sandbox_url: str
    container_name: str | None
    container_id: str | None
    created_at: _Number
    ports: dict[str, _Port] = field(default_factory=dict)


class _Record(Struct, forbid_unknown_fields=True):
    sandbox_id: _Name
    backend: _Name
    generation: _Count
    status: Status
    spec_hash: str
    spec: _Flat
    info: _Info | None
    depends_on: tuple[_Name, ...]
    created_at: _Number
    updated_at: _Number
    error: str
    imported: bool = False
    protected: bool = False
    triggers: dict[str, str] = field(default_factory=dict)
    healthy: _Flat = field(default_factory=dict)


def records_of(data: Any) -> dict[Address, SandboxRecord] | None:
    """The records of a snapshot's `sandboxes`; None where something about them is wrong, or may be."""
    try:
        found = convert(data, dict[_Name, _Record])
    except (ValidationError, OverflowError):  # an integer beyond all floats where one is expected
        return None
    return {
        Address(address): SandboxRecord(
            address=Address(address),
            sandbox_id=record.sandbox_id,
            backend=record.backend,
            generation=record.generation,
            status=record.status,
            spec_hash=record.spec_hash,
            spec=record.spec,
            info=None if record.info is None else _info(record.info),
            depends_on=tuple(map(Address, record.depends_on)),
            created_at=record.created_at,
            updated_at=record.updated_at,
            error=record.error,
            imported=record.imported,
            protected=record.protected,
            triggers={Address(name): was for name, was in record.triggers.items()},
            healthy=record.healthy if "healthy" in data[address] else None,
        )
        for address, record in found.items()
    }


def _info(found: _Info) -> SandboxInfo:
    return SandboxInfo(
        sandbox_id=found.sandbox_id,
        sandbox_url=found.sandbox_url,
        container_name=found.container_name,
        container_id=found.container_id,
        created_at=found.created_at,
        ports=found.ports,
    )
