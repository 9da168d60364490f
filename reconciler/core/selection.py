"""What of a plan was asked for: `--target` and `--exclude`, with what the selected steps need. Pure.

Selecting only ever leaves steps out: what remains is part of the whole plan, and each step still follows all it needs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from reconciler.core.order import with_dependents
from reconciler.core.select import matches
from reconciler.errors import NotFound
from reconciler.model.desired import Address
from reconciler.model.plan import Selection, Step

Labels = Mapping[Address, Mapping[str, str]]


def check_patterns(selection: Selection, known: Collection[Address], labels: Labels) -> None:
    """Raises NotFound for a pattern that means nothing: a typing error must not plan the rest, or nothing, in silence."""
    for option, patterns in (
        ("--target", selection.targets),
        ("--exclude", selection.excludes),
        ("--replace", selection.replace),
    ):
        for pattern in patterns:
            if not any(matches(pattern, address, labels.get(address, {})) for address in known):
                there = ", ".join(sorted(known)[:10]) or "nothing"
                raise NotFound(
                    f"{option} {pattern} matches nothing",
                    hint=f"use an address, a group, a glob or label:key=value; there is: {there}",
                )


def meant(patterns: Sequence[str], address: Address, labels: Labels) -> bool:
    return any(matches(pattern, address, labels.get(address, {})) for pattern in patterns)


def selected(
    steps: Sequence[Step], selection: Selection, labels: Labels
) -> tuple[tuple[Step, ...], tuple[Address, ...]]:
    """The steps to do, in their order, those that are only needed marked with what needs them; and the addresses left
    out. `steps` are linked."""
    if not selection.partial:
        return tuple(steps), ()
    by_key = {step.key: step for step in steps}
    excluded = {step.key for step in steps if meant(selection.excludes, step.address, labels)}
    banned = with_dependents(excluded, steps)
    asked = [
        step
        for step in steps
        if step.key not in banned
        and (not selection.targets or meant(selection.targets, step.address, labels))
    ]
    needed = _with_needs(asked, by_key)  # none of it is banned, or what needs it would be as well
    chosen = tuple(replace(step, needed_by=needed[step.key]) for step in steps if step.key in needed)
    left = {step.address for step in steps} - {step.address for step in chosen}
    return chosen, tuple(sorted(left))


def _with_needs(asked: Iterable[Step], by_key: Mapping[str, Step]) -> dict[str, str]:
    """The keys of these steps and of all they need, each with the address that needed it first, "" for what was asked."""
    found = {step.key: "" for step in asked}
    todo = list(found)
    while todo:
        step = by_key[todo.pop()]
        for key in step.needs:
            if key in by_key and key not in found:
                found[key] = str(step.address)
                todo.append(key)
    return found
