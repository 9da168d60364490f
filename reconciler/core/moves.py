"""`moved`: records that get another address while their objects stay. Pure.

A move is made once, when what it speaks of is recorded under the old address and nothing under the new one. After that
the entry means nothing to the state; it still tells whose an object is whose labels could not be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from reconciler.errors import Refused
from reconciler.model.address import Address, covers
from reconciler.model.lifecycle import Move
from reconciler.model.plan import Moved
from reconciler.model.state import SandboxRecord, State


def moved_state(state: State | None, moves: Sequence[Move]) -> tuple[State | None, tuple[Moved, ...]]:
    """The state with its records renamed, and what was renamed, in the entries' order. Entries that follow each other make
    one way. Raises Refused when both addresses of an entry are recorded: nobody can say which of the objects is meant."""
    if state is None or not moves:
        return state, ()
    records = dict(state.sandboxes)
    ways: dict[Address, Moved] = {}  # by where it ends
    for move in moves:
        for source in sorted(address for address in records if covers(move.source, address)):
            target = _target(move, source)
            if target in records:
                raise Refused(
                    f"{_place(move)}{source} cannot move to {target}: both are recorded",
                    hint="destroy or forget one of them first, or remove the entry from `moved`",
                )
            records[target] = replace(records.pop(source), address=target)
            before = ways.pop(source, None)
            begin = source if before is None else before.source
            ways[target] = Moved(source=begin, target=target, position=move.position)
    if not ways:
        return state, ()
    names = {way.source: way.target for way in ways.values()}
    records = {address: _following(record, names) for address, record in sorted(records.items())}
    return replace(state, sandboxes=records), tuple(sorted(ways.values(), key=lambda way: way.target))


def renamed(address: Address, moves: Iterable[Move]) -> Address:
    """Where an address that only labels speak of has gone."""
    for move in moves:
        if covers(move.source, address):
            address = _target(move, address)
    return address


def _target(move: Move, source: Address) -> Address:
    """A group's move keeps the keys of its members."""
    if "[" in move.target or move.source == source:
        return Address(move.target)
    return Address(move.target + source.removeprefix(move.source))


def _following(record: SandboxRecord, names: Mapping[Address, Address]) -> SandboxRecord:
    """What it names moves with those it names."""
    if names.keys().isdisjoint({*record.depends_on, *record.triggers}):
        return record
    return replace(
        record,
        depends_on=tuple(names.get(address, address) for address in record.depends_on),
        triggers={names.get(address, address): was for address, was in record.triggers.items()},
    )


def _place(move: Move) -> str:
    return f"{move.position.short}: " if move.position else ""
