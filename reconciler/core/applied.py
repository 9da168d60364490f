"""The configuration as it was last applied: what a correction goes back to. Pure.

An edit that waits for its apply is no drift, and must never be carried out by a correction; so what is declared now is held
against the records, and where both differ the record wins.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.core.lifecycle import ignores
from reconciler.core.moves import moved_state
from reconciler.core.references import has_reference
from reconciler.core.restore import Unrestorable, restored
from reconciler.model.desired import Address, Desired, DesiredSandbox, FlatSpec, Scalar
from reconciler.model.state import SandboxRecord, State

NOT_APPLIED = "declared, and not applied yet"
_NUL = json.dumps("\x00")[1:-1]  # as references stand in what is kept as JSON text


class Applied(Struct, kw_only=True):
    """`desired` declares what was last applied, of what can be seen and made again. `pending` are addresses at which an
    apply has something to do, each with what; `lost` those that cannot be made again as they were, each with why; `unseen`
    those that are on a backend which cannot be looked at, or need one that is."""

    desired: Desired
    pending: dict[Address, str] = field(default_factory=dict)
    lost: dict[Address, str] = field(default_factory=dict)
    unseen: frozenset[Address] = frozenset()


def as_applied(desired: Desired, state: State | None, *, unseen: Collection[str] = ()) -> Applied:
    """What a correction may go back to. `unseen` are the names of backends that cannot be looked at: what lives there, or
    needs what does, is left out, for nothing is known of it."""
    records = {} if state is None else state.sandboxes
    made = Applied(desired=desired)
    kept: dict[Address, DesiredSandbox] = {}
    _note_moves(desired, state, made)
    flats: dict[int, FlatSpec] = {}
    for address, wanted in desired.sandboxes.items():
        record = records.get(address)
        if record is None:
            made.pending.setdefault(address, NOT_APPLIED)
            continue
        flat = flats.setdefault(id(wanted.spec), wanted.spec.canonical())
        sandbox = _as_recorded(wanted, flat, record, made)
        if sandbox is not None:
            kept[address] = sandbox
    for address in records:
        if address not in desired.sandboxes:
            made.pending.setdefault(address, "no longer declared, and not destroyed yet")
    made.unseen = _unseen(kept, records, frozenset(unseen))
    seen = {address: _within(wanted, kept) for address, wanted in kept.items() if address not in made.unseen}
    made.desired = replace(desired, sandboxes=seen, moved=(), removed=(), imports={})
    return made


def _note_moves(desired: Desired, state: State | None, made: Applied) -> None:
    _, moves = moved_state(state, desired.moved)
    for move in moves:
        made.pending[move.target] = f"moves here from {move.source}"
        made.pending[move.source] = f"moves to {move.target}"


def _as_recorded(
    wanted: DesiredSandbox, flat: FlatSpec, record: SandboxRecord, made: Applied
) -> DesiredSandbox | None:
    """The sandbox as its record says; None when that cannot be made again."""
    edited = [path for path in sorted({*flat, *record.spec}) if _edited(path, flat, record.spec, wanted)]
    rollout = wanted.rollout and replace(wanted.rollout, auto_revert=False, canary=0)
    if record.backend == wanted.backend and not edited:
        return replace(wanted, rollout=rollout) if wanted.rollout else wanted
    moved = record.backend != wanted.backend
    what = ", ".join(edited[:3]) + (", …" if len(edited) > 3 else "") if edited else ""
    made.pending[wanted.address] = f"declared on {wanted.backend} now" if moved else f"{what} changed"
    try:
        spec = restored(record.spec, wanted.spec)
    except Unrestorable as lost:
        made.lost[wanted.address] = str(lost)
        return None
    return replace(wanted, backend=record.backend, spec=spec, references=(), rollout=rollout)


def _edited(path: str, wanted: FlatSpec, applied: FlatSpec, sandbox: DesiredSandbox) -> bool:
    """Whether the configuration says otherwise now. What refers to another sandbox follows that one, whatever it was."""
    if wanted.get(path) == applied.get(path) or ignores(sandbox.lifecycle.ignore_changes, path):
        return False
    return not (path in applied and _refers(wanted.get(path)))


def _refers(value: Scalar) -> bool:
    return isinstance(value, str) and (has_reference(value) or _NUL in value)


def _unseen(
    kept: Mapping[Address, DesiredSandbox], records: Mapping[Address, SandboxRecord], blind: frozenset[str]
) -> frozenset[Address]:
    """What lives where nobody can look, and all that needs it, directly or not."""
    if not blind:
        return frozenset()
    found = {address for address, record in records.items() if record.backend in blind}
    needers: dict[Address, set[Address]] = {}
    for address, wanted in kept.items():
        for needed in (*wanted.depends_on, *wanted.references, *wanted.lifecycle.replace_triggered_by):
            needers.setdefault(needed, set()).add(address)
    todo = list(found)
    while todo:
        for address in needers.get(todo.pop(), ()):
            if address not in found:
                found.add(address)
                todo.append(address)
    return frozenset(found)


def _within(wanted: DesiredSandbox, kept: Mapping[Address, DesiredSandbox]) -> DesiredSandbox:
    """Without needs that are not there: what waits for its first apply holds up no correction."""
    needs = tuple(address for address in wanted.depends_on if address in kept)
    triggers = tuple(address for address in wanted.lifecycle.replace_triggered_by if address in kept)
    if needs == wanted.depends_on and triggers == wanted.lifecycle.replace_triggered_by:
        return wanted
    lifecycle = replace(wanted.lifecycle, replace_triggered_by=triggers)
    return replace(wanted, depends_on=needs, lifecycle=lifecycle)
