"""Replicas that change in the same way become one block, so that a fleet of a thousand reads like a fleet of one.

Nothing is left out: steps that differ in anything a reader would decide on stay apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from reconciler.cli.views.style import ELLIPSIS, harmless
from reconciler.cli.views.values import is_secret, show_value
from reconciler.model.address import is_index
from reconciler.model.desired import Scalar
from reconciler.model.plan import Action, FieldChange, Step
from reconciler.model.position import Position

_INSTANCE = r'(?s)(?P<group>[^\[]+)\[(?P<key>\d+|".*")\]'
_SAMPLES = 3


class Row(Struct, frozen=True, kw_only=True):
    """One field of a block, its values ready to be shown. `before` is empty for what is only being set."""

    path: str
    before: str
    after: str
    forces_replacement: bool = False
    outside: bool = False
    place: str = ""


class Block(Struct, frozen=True, kw_only=True):
    """Steps that are the same but for their address. `rows` holds config changes, `drift` what changed outside."""

    title: str
    steps: tuple[Step, ...]
    rows: tuple[Row, ...] = ()
    drift: tuple[Row, ...] = ()

    @property
    def step(self) -> Step:
        return self.steps[0]


def blocks(steps: Iterable[Step]) -> list[Block]:
    """The steps in their own order, each with those that are the same."""
    grouped: dict[tuple[object, ...], list[Step]] = {}
    for step in steps:
        grouped.setdefault(_signature(step), []).append(step)
    return [_block(tuple(same)) for same in grouped.values()]


def together(addresses: Sequence[str]) -> str:
    """`researcher[0..2] (3×)` for the addresses of one group; one address alone as it is."""
    return named(addresses) + (f" ({len(addresses)}×)" if len(addresses) > 1 else "")


def named(addresses: Sequence[str]) -> str:
    """The same without the count: `researcher[0..2]`."""
    if len(addresses) == 1:
        return harmless(addresses[0])
    group, _ = split(addresses[0])
    return harmless(f"{group}[{_keys([split(address)[1] for address in addresses])}]")


def split(address: str) -> tuple[str, str]:
    """`researcher[0]` as (`researcher`, `0`); the key is empty for a sandbox that has no instances."""
    match = re.fullmatch(_INSTANCE, address)
    return (address, "") if match is None else (match["group"], match["key"])


def _keys(keys: Sequence[str]) -> str:
    if not all(map(is_index, keys)):
        return ",".join(sorted(keys))
    runs: list[list[int]] = []
    for number in sorted(map(int, keys)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}..{run[-1]}" for run in runs)


def needs(step: Step) -> tuple[str, ...]:
    """The keys of the steps that it waits for, without those of its own rollout: their order is told with the waves."""
    if not step.wave:
        return step.needs
    group, _ = split(step.address)
    return tuple(key for key in step.needs if split(key.partition("#")[0])[0] != group)


def _signature(step: Step) -> tuple[object, ...]:
    group, key = split(step.address)
    what = (step.action, step.create_first, step.backend, step.reason, step.detail)
    asks = (step.rungs, step.passed_over, step.needed_by, bool(step.wave), needs(step))
    head = (*what, step.cost, step.unchanged, *asks, group)
    if not key:
        return (*head, step.key)
    fields = tuple((c.path, c.forces_replacement, c.outside, c.sensitive, c.position) for c in _changes(step))
    if step.action is Action.CREATE:  # replicas that are new may differ in values: `${replica.index}`
        return (*head, step.key == step.address, fields)
    return (
        *head,
        step.key == step.address,
        fields,
        tuple((_typed(c.before), _typed(c.after)) for c in step.changes),
    )


def _typed(value: Scalar) -> tuple[type, Scalar]:
    return (type(value), value)  # 1, 1.0 and True are equal, and are not the same change


def _changes(step: Step) -> tuple[FieldChange, ...]:
    """What a step changes; for a create without changes of its own, everything it declares."""
    if step.changes or step.action is not Action.CREATE:
        return step.changes
    return tuple(
        FieldChange(
            path=path, before=None, after=value, sensitive=is_secret(path), position=_position(step, path)
        )
        for path, value in sorted(step.spec.items())
    )


def _position(step: Step, path: str) -> Position | None:
    return None if step.desired is None else step.desired.at(path)


def _block(steps: tuple[Step, ...]) -> Block:
    every = [_changes(step) for step in steps]
    rows = [_row(same, steps[0].action) for same in zip(*every, strict=True)]
    return Block(
        title=together([step.address for step in steps]),
        steps=steps,
        rows=tuple(row for row in rows if not row.outside),
        drift=tuple(row for row in rows if row.outside),
    )


def rows_of(changes: Iterable[FieldChange]) -> list[Row]:
    """Each change as a row of its own."""
    return [_row((change,), Action.UPDATE) for change in changes]


def _row(changes: tuple[FieldChange, ...], action: Action) -> Row:
    first = changes[0]
    shown = dict.fromkeys(show_value(first.path, c.after, sensitive=c.sensitive) for c in changes)
    after = " | ".join(list(shown)[:_SAMPLES]) + (f" | {ELLIPSIS}" if len(shown) > _SAMPLES else "")
    fresh = action is Action.CREATE and first.before is None
    return Row(
        path=harmless(first.path),
        before="" if fresh else show_value(first.path, first.before, sensitive=first.sensitive),
        after=after,
        forces_replacement=first.forces_replacement,
        outside=first.outside,
        place=harmless(first.position.short) if first.position else "",
    )
