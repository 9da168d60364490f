"""Which sandboxes a listing does not show well enough to compare: those that declare a field which can change outside
and which the listing leaves out. Pure; asks no backend.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Address, Desired, DesiredSandbox, FlatSpec, SandboxSpec
from reconciler.model.observed import ObservedSandbox
from reconciler.model.state import SandboxRecord, State


def wants_closer_look(
    listed: Iterable[ObservedSandbox], state: State | None, desired: Desired, capabilities: Capabilities
) -> tuple[str, ...]:
    """The ids, in the listing's order, of what runs, or could run again, on one backend for this stack, is still declared, and has a field
    of `capabilities.unlisted` declared or recorded, or is declared otherwise than recorded: what it is like already
    need not be made. Without a record of that very object, of all. Empty when the listing leaves nothing out.
    `backend` of each sandbox is set."""
    if not capabilities.unlisted:
        return ()
    records = {} if state is None else state.sandboxes
    by_id = {(record.backend, record.sandbox_id): record for record in records.values()}
    declares = _Declares(capabilities.unlisted)
    wanted: list[str] = []
    for seen in listed:
        record = by_id.get((seen.backend, seen.info.sandbox_id))
        address = _address(seen, record, state, desired.stack)
        declared = None if address is None else desired.sandboxes.get(address)
        if declared is None or (seen.phase.is_dead and not capabilities.restarts):
            continue  # what is made anew need not be known
        if (
            record is None
            or _touches(record.spec, capabilities.unlisted)
            or declares(declared.spec)
            or declares.otherwise(declared, record)
        ):
            wanted.append(seen.info.sandbox_id)
    return tuple(wanted)


def _address(
    seen: ObservedSandbox, record: SandboxRecord | None, state: State | None, stack: str
) -> Address | None:
    """Whose it is in this stack, by its labels or, where it carries none, by the record; None for strangers."""
    owner = seen.owner
    ours = owner is None or (owner.stack == stack and (state is None or owner.lineage == state.lineage))
    if record is not None and ours:
        return record.address
    return owner.address if owner is not None and ours else None


def _touches(paths: Iterable[str], prefixes: tuple[str, ...]) -> bool:
    return any(path == prefix or path.startswith(prefix + ".") for path in paths for prefix in prefixes)


class _Declares:
    """What specs declare, found out once per spec object, which replicas share."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self._prefixes = prefixes
        self._known: dict[int, tuple[FlatSpec, bool]] = {}

    def __call__(self, spec: SandboxSpec) -> bool:
        """Whether it declares such a field."""
        return self._of(spec)[1]

    def otherwise(self, wanted: DesiredSandbox, record: SandboxRecord) -> bool:
        """Whether it is not what was recorded. What refers to others is not known yet."""
        return not wanted.references and self._of(wanted.spec)[0] != record.spec

    def _of(self, spec: SandboxSpec) -> tuple[FlatSpec, bool]:
        found = self._known.get(id(spec))
        if found is None:
            flat = spec.canonical()
            found = self._known[id(spec)] = (flat, _touches(flat, self._prefixes))
        return found
