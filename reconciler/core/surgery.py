"""Edits of the records alone: another address for what is recorded, and letting go of it. No object is touched.

A move takes along what other records say about the address. What is let go is noted in `State.released`: its object
carries our labels for ever, and must not be taken for an orphan.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from reconciler.core.select import recorded_labels, select
from reconciler.errors import NotFound, ReconcilerError, Refused
from reconciler.model.desired import Address, address_order
from reconciler.model.state import SandboxRecord, State

# As the configuration takes them: a name; a number or a quoted key in brackets.
_ADDRESS = re.compile(
    r"""[A-Za-z0-9_-]+(?:\[(?:(?:0|[1-9][0-9]{0,8})|"[^\x00-\x1f\x7f"'\\\[\]{}|*?]{1,64}")\])?"""
)
_MOST_TOLD = 10


def moves(state: State, source: str, target: str) -> dict[Address, Address]:
    """From where to where records go, in the order of their addresses: one of them, or, when both are names of groups, each of
    the group under its own key.

    Raises NotFound when nothing is recorded as `source`, Refused when something is as `target`, and ReconcilerError for
    what can be no address."""
    for address in (source, target):
        if (
            address not in state.sandboxes
        ):  # what is recorded under a name that can be none must get away from there
            _check(address)
    found = _of(state, source, target)
    if source == target:
        raise ReconcilerError(f"{source} is to be moved to itself", hint="name another target")
    taken = [to for to in found.values() if to in state.sandboxes]
    if taken:
        raise Refused(
            f"{_told(taken)} {'is' if len(taken) == 1 else 'are'} recorded already, so nothing can be moved there",
            hint="choose another target; to let go of what is recorded there, `reconciler state rm` it first",
        )
    return found


def move(state: State, source: str, target: str) -> State:
    """The state after those moves: the records as they are, under their new addresses, and named by these in the
    dependencies and triggers of others. Raises what `moves` raises."""
    renamed = moves(state, source, target)
    records = (_renamed(record, renamed) for record in state.sandboxes.values())
    return replace(state, sandboxes={record.address: record for record in records})


def chosen(state: State, patterns: Sequence[str]) -> tuple[Address, ...]:
    """The recorded addresses that the patterns mean, sorted: addresses, names of groups, globs, `label:key=value`.
    Raises NotFound for a pattern that means none."""
    labels = {address: recorded_labels(record) for address, record in state.sandboxes.items()}
    found: set[Address] = set()
    for pattern in patterns:
        matching = select([pattern], state.sandboxes, labels)
        if not matching:
            raise _nothing(state, pattern)
        found.update(matching)
    return tuple(sorted(found, key=address_order))


def forget(state: State, patterns: Sequence[str]) -> State:
    """The state without these records; their objects are noted as released, and no other record names their addresses
    any more. Raises what `chosen` raises."""
    gone = frozenset(chosen(state, patterns))
    kept = (record for address, record in state.sandboxes.items() if address not in gone)
    left = {(state.sandboxes[a].backend, state.sandboxes[a].sandbox_id): a for a in gone}
    return replace(
        state,
        sandboxes={record.address: _without(record, gone) for record in kept},
        released={**state.released, **left},
    )


def _check(address: str) -> None:
    if _ADDRESS.fullmatch(address) is None:
        raise ReconcilerError(
            f"{address!r} can be no address",
            hint='addresses look like researcher, researcher[0] and region["eu"]; in a shell, quote them',
        )


def _of(state: State, source: str, target: str) -> dict[Address, Address]:
    if source in state.sandboxes:
        return {Address(source): Address(target)}
    replicas = sorted((a for a in state.sandboxes if a.startswith(source + "[")), key=address_order)
    if not replicas:
        raise _nothing(state, source)
    if "[" in target:
        raise ReconcilerError(
            f"{source} is a group of {len(replicas)}, and {target} is one address",
            hint="move a group to the name of a group, or one address of it: "
            f"reconciler state mv {_quoted(replicas[0])} {_quoted(target)}",
        )
    return {address: Address(target + address.removeprefix(source)) for address in replicas}


def _renamed(record: SandboxRecord, renamed: Mapping[Address, Address]) -> SandboxRecord:
    triggers = {a: was for a, was in record.triggers.items() if a not in renamed}
    triggers |= {renamed[a]: was for a, was in record.triggers.items() if a in renamed}
    return replace(
        record,
        address=renamed.get(record.address, record.address),
        depends_on=tuple(dict.fromkeys(renamed.get(a, a) for a in record.depends_on)),
        triggers=triggers,
    )


def _without(record: SandboxRecord, gone: frozenset[Address]) -> SandboxRecord:
    return replace(
        record,
        depends_on=tuple(a for a in record.depends_on if a not in gone),
        triggers={a: was for a, was in record.triggers.items() if a not in gone},
    )


def _nothing(state: State, name: str) -> NotFound:
    known = sorted(state.sandboxes, key=address_order)
    import difflib  # only who mistyped something pays for it

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    elif known:
        hint = f"there is: {_told(known)}"
    else:
        hint = "nothing is recorded; `reconciler apply` and `reconciler import` make records"
    return NotFound(f"nothing is recorded as {name}", hint=hint)


def _told(addresses: Iterable[Address]) -> str:
    listed = list(addresses)
    more = f" and {len(listed) - _MOST_TOLD} more" if len(listed) > _MOST_TOLD else ""
    return ", ".join(listed[:_MOST_TOLD]) + more


def _quoted(address: str) -> str:
    return f"'{address}'" if "[" in address else address
