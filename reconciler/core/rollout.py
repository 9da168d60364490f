"""Rollouts: in which waves the changes of a group go through its sandboxes. Pure.

What does not serve goes first, for changing it takes nothing down; then those that serve, never more at a time than may be
away. The scheduler opens a wave when the one before is healthy, and none after a bad one. So at no moment is more of a
group away than `max_unavailable`, unless more of it was away to begin with: then nothing that serves is touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconciler.model.desired import Address, DesiredSandbox
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.lifecycle import Rollout
from reconciler.model.plan import Action, Reason, Step, Waves

_FIRST = (Action.CREATE, Action.REPAIR, Action.ADOPT)  # they put up again what is away


@dataclass(slots=True)
class Rolled:
    """The steps with their waves, and what there is to say. `held` are addresses whose steps have to wait for a later
    run."""

    steps: tuple[Step, ...] = ()
    rollouts: tuple[Waves, ...] = ()
    held: tuple[Address, ...] = ()
    diagnostics: list[Diagnostic] = field(default_factory=list)


def roll_out(
    steps: Sequence[Step], wanted: Mapping[Address, DesiredSandbox], serving: Collection[Address]
) -> Rolled:
    """Waves for the steps of each group that declares a rollout and has something to change. `serving` are the addresses
    that run and have answered before."""
    members: dict[str, list[DesiredSandbox]] = defaultdict(list)
    own: dict[str, list[Step]] = defaultdict(list)
    for sandbox in wanted.values():
        if sandbox.rollout is not None:
            members[sandbox.group].append(sandbox)
    for step in steps:
        if step.desired is not None and step.desired.group in members and _takes_part(step):
            own[step.desired.group].append(step)
    new = {step.address for step in steps if step.reason is Reason.NEW}
    rolled = Rolled()
    wave_of: dict[str, int] = {}
    made: list[Waves] = []
    held: set[str] = set()
    for group in sorted(own):
        if any(_changes(step) for step in own[group]):
            there = [sandbox for sandbox in members[group] if sandbox.address not in new]
            waves = _of_group(group, members[group], there, own[group], serving, rolled.diagnostics, held)
            if waves.waves:
                made.append(waves)
            wave_of |= {key: number for number, keys in enumerate(waves.waves, 1) for key in keys}
    rolled.rollouts = tuple(made)
    held = _with_dependents(held, steps)
    rolled.steps = tuple(
        replace(step, wave=wave_of.get(step.key, 0)) if step.key in wave_of else step
        for step in steps
        if step.key not in held
    )
    rolled.held = tuple(sorted({step.address for step in steps if step.key in held}))
    return rolled


def _takes_part(step: Step) -> bool:
    """New ones do not: they were never there to be missed."""
    return step.action in (Action.REPLACE, Action.UPDATE, *_FIRST) and step.reason is not Reason.NEW


def _changes(step: Step) -> bool:
    """Whether the step brings something new, as opposed to putting back what was."""
    if step.action is Action.UPDATE:
        return step.reason is Reason.CONFIG_CHANGED and any(
            not change.path.startswith("lifecycle.") for change in step.changes
        )
    return step.action is Action.REPLACE or (step.action is Action.REPAIR and bool(step.changes))


def _of_group(
    group: str,
    members: Sequence[DesiredSandbox],
    there: Sequence[DesiredSandbox],
    steps: Sequence[Step],
    serving: Collection[Address],
    diagnostics: list[Diagnostic],
    held: set[str],
) -> Waves:
    """`there` are the members that were there before."""
    rollout = next(sandbox.rollout for sandbox in members if sandbox.rollout is not None)
    at_once = rollout.at_once(len(members))
    going = {step.address for step in steps}
    away = [s.address for s in there if s.address not in serving and s.address not in going]
    up = [step for step in steps if step.address in serving]
    down = [step for step in steps if step.address not in serving]
    room = at_once - len(away)
    if up and room < 1:
        held.update(step.key for step in up)
        diagnostics.append(_held_back(group, members[0], away, at_once))
        up, room = [], 1
    ordered = _after_needs([*down, *up])
    return Waves(
        group=group,
        waves=tuple(_cut([step.key for step in ordered], max(1, room), rollout)),
        size=len(members),
        at_once=at_once,
        min_healthy=rollout.min_healthy,
        canary=rollout.canary > 0,
        auto_revert=rollout.auto_revert,
    )


def _after_needs(steps: Sequence[Step]) -> list[Step]:
    """In the given order, except that what needs another one of them comes after it."""
    by_key = {step.key: step for step in steps}
    if not any(key in by_key for step in steps for key in step.needs):
        return list(steps)
    ordered: dict[str, Step] = {}

    def put(step: Step) -> None:
        for key in step.needs:
            if key in by_key and key not in ordered:
                put(by_key[key])
        ordered.setdefault(step.key, step)

    for step in steps:
        put(step)
    return list(ordered.values())


def _cut(keys: Sequence[str], size: int, rollout: Rollout) -> Iterator[tuple[str, ...]]:
    canary = min(rollout.canary, len(keys))
    begin = 0
    while begin < canary:
        end = min(begin + size, canary)
        yield tuple(keys[begin:end])
        begin = end
    for start in range(begin, len(keys), size):
        yield tuple(keys[start : start + size])


def _with_dependents(held: set[str], steps: Sequence[Step]) -> set[str]:
    """What needs a held step is held as well. Steps need only steps, so this ends."""
    found = set(held)
    grew = bool(found)
    while grew:
        more = {step.key for step in steps if step.key not in found and not found.isdisjoint(step.needs)}
        found |= more
        grew = bool(more)
    return found


def _held_back(group: str, member: DesiredSandbox, away: Sequence[Address], at_once: int) -> Diagnostic:
    return Diagnostic(
        severity=Severity.WARNING,
        code="rollout-held",
        summary=f"the rollout of {group} waits: {', '.join(away[:5])} {'is' if len(away) == 1 else 'are'} away already "
        f"and not part of this run, and at most {at_once} may be",
        fix="bring them back first, or select them as well",
        position=member.at("rollout"),
    )
