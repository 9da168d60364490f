"""Taking over what others made: which entries of `imports` still mean something, whether their objects may be taken,
and what can be told of how those were made. Pure.

An object without labels of ours is never ours by its name or its looks: only because an entry names it, or because
the state recorded it as imported. Must never let through what carries the labels of another stack or lineage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.core.diff import agrees
from reconciler.core.identity import is_ours
from reconciler.errors import NotFound, Refused
from reconciler.model.desired import Address, Desired, FlatSpec, Import, Scalar
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.observed import Observed, ObservedSandbox, Phase
from reconciler.model.state import SandboxRecord

Key = tuple[str, str]
"""(backend, sandbox id)"""

_MAPS = ("environment", "labels", "mounts", "ports")  # a backend that shows one of them shows them all
_SHORT_ID = 12  # digits by which engines abbreviate their own ids


class Takeovers(Struct):
    """`targets` are the objects to take over, each with the address it gets."""

    targets: dict[Key, Address] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def pending(desired: Desired, records: Mapping[Address, SandboxRecord]) -> Iterator[tuple[Address, Import]]:
    """The entries whose address is not recorded yet, sorted. What is recorded was imported, or made, already."""
    for address, entry in sorted(desired.imports.items()):
        if address not in records and address in desired.sandboxes:
            yield address, entry


def takeovers(
    desired: Desired,
    records: Mapping[Address, SandboxRecord],
    observed: Observed,
    lineage: str,
    released: Collection[Key] = (),
) -> Takeovers:
    """What the pending entries mean for what is there. What was let go (`released`) may be taken back. Raises Refused for an object that may not be taken over,
    NotFound for one that is not there; each names every such entry."""
    found = Takeovers()
    refused: list[str] = []
    absent: list[str] = []
    sandboxes = tuple(_as_seen(seen, released) for seen in observed.sandboxes) if desired.imports else ()
    there = {seen.owner.address for seen in sandboxes if seen.owner and is_ours(seen, desired.stack, lineage)}
    recorded = {(record.backend, record.sandbox_id): record.address for record in records.values()}
    for address, entry in pending(desired, records):
        backend = desired.sandboxes[address].backend
        seen = _find(sandboxes, backend, entry.id)
        if seen is not None and _is_this(seen, address, desired.stack, lineage):
            found.diagnostics.append(_needless(address, entry, "carries this stack's labels already"))
        elif seen is not None:
            why = _objection(seen, entry, desired.stack, lineage, recorded)
            if why:
                refused.append(f"{_place(entry)}{address} cannot import {entry.id!r} on {backend!r}: {why}")
            elif address in there:
                found.diagnostics.append(
                    _needless(address, entry, f"is not needed: {address} is there already")
                )
            else:
                found.targets[backend, entry.id] = address
        elif address in there:
            found.diagnostics.append(_needless(address, entry, f"is not needed: {address} is there already"))
        else:
            absent.append(
                f"{_place(entry)}{address} cannot import {entry.id!r}: nothing of that name is there on backend "
                f"{backend!r}"
            )
    if refused:
        raise Refused(
            "\n".join([*refused, *absent]),
            hint="correct or remove these imports; without one, a new sandbox is made",
        )
    if absent:
        raise NotFound(
            "\n".join(absent), hint="correct the id, or remove the import to have a new one created"
        )
    return found


def is_the_recorded(record: SandboxRecord, seen: ObservedSandbox) -> bool:
    """Whether an unlabelled object is the very one that was recorded: others may have made another one under the
    name of what we took over, and that is theirs."""
    before = record.info.container_id if record.info else None
    now = seen.info.container_id
    return not record.imported or before is None or now is None or before == now


def applied(wanted: FlatSpec, seen: ObservedSandbox) -> tuple[dict[str, Scalar], tuple[str, ...]]:
    """The declared fields as they hold on the live object, None for those it does not have; and the paths that
    cannot be read back, which are taken as declared."""
    live = seen.attributes or {}
    shown = {path.partition(".")[0] for path in live}
    values: dict[str, Scalar] = {}
    unread: list[str] = []
    for path, value in wanted.items():
        if path in live:
            values[path] = value if agrees(live[path], value) else live[path]
        elif (head := path.partition(".")[0]) in _MAPS and head in shown:
            values[path] = None
        else:
            values[path] = value
            unread.append(path)
    return values, tuple(unread)


def unread_note(address: Address, sandbox_id: str, unread: Iterable[str]) -> Diagnostic:
    """What nobody can check about an object that is taken over."""
    return Diagnostic(
        severity=Severity.NOTE,
        code="import-unread",
        summary=f"{address}: {', '.join(unread)} of {sandbox_id} cannot be read back, and is taken to be as declared",
        fix="if it is not, replace the sandbox after the import",
    )


def is_told_here(remark: Diagnostic) -> bool:
    """Whether a remark of a plan is about an import."""
    return remark.code.startswith("import-")


def _find(sandboxes: Iterable[ObservedSandbox], backend: str, name: str) -> ObservedSandbox | None:
    """By its id, else by another name that the engine has for it."""
    others = None
    for seen in sandboxes:
        if seen.backend != backend:
            continue
        if seen.info.sandbox_id == name:
            return seen
        hexadecimal = seen.info.container_id or ""
        if name == seen.info.container_name or (len(name) >= _SHORT_ID and hexadecimal.startswith(name)):
            others = seen
    return others


def _as_seen(seen: ObservedSandbox, released: Collection[Key]) -> ObservedSandbox:
    """The labels of what was let go mean nothing any more."""
    return replace(seen, owner=None) if (seen.backend, seen.info.sandbox_id) in released else seen


def _is_this(seen: ObservedSandbox, address: Address, stack: str, lineage: str) -> bool:
    return is_ours(seen, stack, lineage) and seen.owner is not None and seen.owner.address == address


def _objection(
    seen: ObservedSandbox, entry: Import, stack: str, lineage: str, recorded: Mapping[Key, Address]
) -> str:
    """Why it may not be taken over; "" when it may."""
    owner, name = seen.owner, seen.info.sandbox_id
    if owner is not None and is_ours(seen, stack, lineage):
        return f"it is {owner.address} of this very stack"
    if owner is not None:
        return f"it belongs to stack {owner.stack!r}, lineage {owner.lineage}"
    if (seen.backend, name) in recorded:
        return f"it is recorded as {recorded[seen.backend, name]}"
    if name != entry.id:
        return f"the backend calls it {name!r}; say that"
    if seen.phase is Phase.TERMINATING:
        return "somebody is removing it"
    if seen.phase.is_dead or seen.phase is Phase.PAUSED:
        return f"it does not run ({seen.detail or seen.phase}); start it first"
    return ""


def _needless(address: Address, entry: Import, why: str) -> Diagnostic:
    return Diagnostic(
        severity=Severity.NOTE,
        code="import-needless",
        summary=f"the import of {entry.id!r} as {address} {why}",
        fix="remove it from `imports`" if entry.position else "",
        position=entry.position,
    )


def _place(entry: Import) -> str:
    return f"{entry.position.short}: " if entry.position else ""
