"""Rollouts: in which waves the changes of a group go through its sandboxes. Pure.

What does not serve goes first, for changing it takes nothing down; then those that serve, never more at a time than may be
away. The scheduler opens a wave when the one before is healthy, and none after a bad one. So at no moment is more of a
group away than `max_unavailable`, unless more of it was away to begin with: then nothing that serves is touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.core.order import with_dependents
from reconciler.model.desired import Address, DesiredSandbox
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.lifecycle import Rollout
from reconciler.model.observed import Phase
from reconciler.model.plan import Action, Reason, Step, Waves

_FIRST = (Action.CREATE, Action.REPAIR, Action.ADOPT)  # they put up again what is away


class Rolled(Struct):
    """The steps with their waves, and what there is to say. `held` are addresses whose steps have to wait for a later
    run."""

    steps: tuple[Step, ...] = ()
    rollouts: tuple[Waves, ...] = ()
    held: tuple[Address, ...] = ()
    diagnostics: list[Diagnostic] = field(default_factory=list)


def roll_out(
    steps: Sequence[Step],
    wanted: Mapping[Address, DesiredSandbox],
    *,
    serving: Collection[Address],
    known: Collection[Address],
    begun: Collection[Address] = (),
) -> Rolled:
    """Waves for the steps of each group that declares a rollout and has something to change. `serving` are the addresses
    that run and have answered before; `known` those that are recorded or there, for nobody misses the others; `begun`
    those that an earlier run began to change and nobody has seen healthy since: what it left is this rollout's to end."""
    members: dict[str, list[DesiredSandbox]] = defaultdict(list)
    for sandbox in wanted.values():
        if sandbox.rollout is not None:
            members[sandbox.group].append(sandbox)
    held: set[str] = set()
    told: dict[str, Diagnostic] = {}
    while True:  # what one group holds back may be what another one waits for, or counts on
        going = [step for step in steps if step.key not in held]
        turns = [
            _turn(group, members[group], own, serving, known)
            for group, own in sorted(_taking_part(going, members).items())
            if any(step.address in begun or _changes(step) for step in own)
        ]
        for turn in turns:
            if turn.held:
                told[turn.group] = _held_back(turn)
        more = with_dependents(held.union(*(turn.held for turn in turns)), steps)
        if more == held:
            return _rolled(steps, going, turns, list(told.values()))
        held = more


def _rolled(
    steps: Iterable[Step], going: Iterable[Step], turns: Iterable[_Turn], told: list[Diagnostic]
) -> Rolled:
    rollouts = tuple(_waves(turn) for turn in turns)
    wave_of = {
        key: number for rollout in rollouts for number, keys in enumerate(rollout.waves, 1) for key in keys
    }
    taken = tuple(replace(step, wave=wave_of[step.key]) if step.key in wave_of else step for step in going)
    left = {step.address for step in steps} - {step.address for step in taken}
    return Rolled(steps=taken, rollouts=rollouts, held=tuple(sorted(left)), diagnostics=told)


def _taking_part(steps: Iterable[Step], groups: Collection[str]) -> Mapping[str, list[Step]]:
    own: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        if step.desired is not None and step.desired.group in groups and _takes_part(step):
            own[step.desired.group].append(step)
    return own


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


class _Turn(Struct, frozen=True, kw_only=True):
    """One group's steps: of those that are away, and of those that serve. `away` are away and not part of the run."""

    group: str
    members: Sequence[DesiredSandbox]
    rollout: Rollout
    away: Sequence[Address]
    down: Sequence[Step]
    up: Sequence[Step]

    @property
    def at_once(self) -> int:
        return self.rollout.at_once(len(self.members))

    @property
    def room(self) -> int:
        return self.at_once - len(self.away)

    @property
    def held(self) -> frozenset[str]:
        """What must not be taken down, for as many as may be away are already."""
        return frozenset(step.key for step in self.up) if self.room < 1 else frozenset()


def _turn(
    group: str,
    members: Sequence[DesiredSandbox],
    steps: Sequence[Step],
    serving: Collection[Address],
    known: Collection[Address],
) -> _Turn:
    going = {step.address for step in steps}
    missed = [s.address for s in members if s.address in known and s.address not in serving]
    return _Turn(
        group=group,
        members=members,
        rollout=next(sandbox.rollout for sandbox in members if sandbox.rollout is not None),
        away=[address for address in missed if address not in going],
        down=sorted((step for step in steps if step.address not in serving), key=_risk),
        up=[step for step in steps if step.address in serving],
    )


def _waves(turn: _Turn) -> Waves:
    rollout = turn.rollout
    ordered = _after_needs([*turn.down, *turn.up])
    return Waves(
        group=turn.group,
        waves=tuple(_cut([step.key for step in ordered], max(1, turn.room), rollout)),
        size=len(turn.members),
        at_once=turn.at_once,
        min_healthy=rollout.min_healthy,
        canary=rollout.canary > 0,
        auto_revert=rollout.auto_revert,
    )


def _risk(step: Step) -> int:
    """How likely it takes down what serves though nobody knows: not where nothing runs, or where it is only waited for;
    hardly where it was waited for in vain."""
    seen = step.current
    if seen is None or seen.phase.is_dead or seen.phase is Phase.PAUSED or step.action is Action.ADOPT:
        return 0
    return 1 if step.action is Action.REPAIR else 2


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


def _held_back(turn: _Turn) -> Diagnostic:
    away = turn.away
    return Diagnostic(
        severity=Severity.WARNING,
        code="rollout-held",
        summary=f"the rollout of {turn.group} waits: {', '.join(away[:5])} {'is' if len(away) == 1 else 'are'} away "
        f"already and not part of this run, and at most {turn.at_once} may be",
        fix="bring them back first, or select them as well",
        position=turn.members[0].at("rollout"),
    )
