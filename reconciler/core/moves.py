"""`moved`: records that get another address while their objects stay. Pure.

A move is made once, when what it speaks of is recorded under the old address and nothing under the new one. After that
the entry means nothing to the state; it still tells whose an object is whose labels could not be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from reconciler.errors import Refused
from reconciler.model.address import Address, covers
from reconciler.model.desired import Desired
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
        for source in sorted(address for address in records if _speaks_of(move, address)):
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
        if _speaks_of(move, address):
            address = _target(move, address)
    return address


def _speaks_of(move: Move, address: Address) -> bool:
    """A whole group moves only as a group: towards one address it is one that moves."""
    return address == move.source or ("[" not in move.target and covers(move.source, address))


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


def misses(moves: Iterable[Moved], desired: Desired) -> Iterator[str]:
    """What is wrong with moves to an address that is not declared, though others of its group are: the object would be
    destroyed where it was meant to be kept. One that leaves a smaller group behind, or is removed on purpose, is fine."""
    forms = {address.partition("[")[0]: "[" in address for address in desired.sandboxes}
    for way in moves:
        group = way.target.partition("[")[0]
        if way.target in desired.sandboxes or any(covers(r.source, way.target) for r in desired.removed):
            continue
        if group in forms and forms[group] != ("[" in way.target):
            there = ", ".join(sorted(a for a in desired.sandboxes if a.partition("[")[0] == group)[:3])
            place = f"{way.position.short}: " if way.position else ""
            yield f"{place}{way.source} cannot move to {way.target}: that is not declared, only {there} {'are' if ',' in there else 'is'}"


def _place(move: Move) -> str:
    return f"{move.position.short}: " if move.position else ""
