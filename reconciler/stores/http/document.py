"""The document that the server keeps: a snapshot as it is, or a sealed one with what servers look at beside it in clear.

A state of Terraform's has `serial` and `lineage` at its top, and servers count on them: GitLab files a version under its
serial, and refuses what has none. So a sealed snapshot stands in `{"serial":…,"lineage":…,"state":{"sealed":…}}`.
Servers may write the JSON anew; what is sealed in it is put back into its form before it is opened.

Must never believe what stands beside a sealed snapshot before the same was found in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from msgspec import Struct

from reconciler.errors import StateCorrupt
from reconciler.model.state import State
from reconciler.stores import snapshot
from reconciler.stores.sealing import SNAPSHOT, Sealer, as_sealed, is_sealed

_KEYS = {"serial", "lineage", "state"}


class _Wrapped(Struct, frozen=True, kw_only=True):
    """A sealed snapshot, and what stands beside it: anything, for anybody may have put it there."""

    serial: object
    lineage: object
    message: bytes


def encode(state: State, sealer: Sealer) -> bytes:
    """What to send. Raises StoreError for a state that cannot be stored, and where the key cannot be had."""
    data = sealer.seal(SNAPSHOT, snapshot.encode(state))
    if not is_sealed(data):
        return data
    lineage = json.dumps(state.lineage).encode()
    return b'{"serial":%d,"lineage":%s,"state":%s}' % (state.serial, lineage, data)


def decode(data: bytes, sealer: Sealer, *, place: str, hint: str) -> State:
    """The state, of whatever stack. Raises StateCorrupt, StateTooNew, and StoreError where no key fits."""
    wrapped = _wrapped(data)
    message = data if wrapped is None else wrapped.message
    clear = sealer.open(SNAPSHOT, message, place=place, hint=hint)
    state = snapshot.decode(clear, place=place, hint=hint)
    if wrapped is not None and (wrapped.serial, wrapped.lineage) != (state.serial, state.lineage):
        raise StateCorrupt(
            f"{place} holds serial {state.serial} of lineage {state.lineage}, but beside it stands another: "
            "it was changed, or put in the place of that one",
            hint=hint,
        )
    return state


def unsealed(data: bytes, sealer: Sealer, *, place: str) -> bytes:
    """The snapshot in a document that was fetched past the store; in clear as it is."""
    wrapped = _wrapped(data)
    return sealer.unsealed(data if wrapped is None else wrapped.message, place=place)


def is_encrypted(data: bytes) -> bool:
    return _wrapped(data) is not None


def _wrapped(data: bytes) -> _Wrapped | None:
    """None for anything that is no sealed snapshot; what else it is shows when it is decoded."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    inner = document.get("state") if isinstance(document, Mapping) and document.keys() == _KEYS else None
    if not isinstance(inner, Mapping) or "sealed" not in inner:
        return None
    return _Wrapped(serial=document["serial"], lineage=document["lineage"], message=as_sealed(inner))
