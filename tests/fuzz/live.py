"""A scenario from its beginning to its end: every operation, the rules after each, and in the end the proof that it
converges as soon as nothing fails any more."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.lifecycle import ignores
from reconciler.errors import ReconcilerError
from reconciler.model.desired import ProbeKind
from reconciler.model.lifecycle import Policy
from reconciler.model.observed import Phase
from reconciler.model.plan import Action, Plan
from reconciler.model.state import Status
from tests.fuzz.rules import RULES, Happening, Moment, Rule
from tests.fuzz.scenario import Apply, Declare, Group, LetGo, Operation, Passes, Scenario
from tests.fuzz.world import Key, World

PATIENCE = 4  # plain applies within which everything is as declared
_NOTHING_RAISES = "nothing raises but what is meant"
_CONVERGES = "it converges when nothing fails any more"


class Broken(Struct, frozen=True, kw_only=True):
    """Which rule did not hold, after which operation (counted from 0; None is the end), and how."""

    rule: str
    after: int | None
    how: str

    def __str__(self) -> str:
        when = "in the end" if self.after is None else f"after operation {self.after}"
        return f"{self.rule}: not so {when}\n{self.how}"


class _Breaks(Exception):
    def __init__(self, broken: Broken) -> None:
        super().__init__(str(broken))
        self.broken = broken


class Tally(Struct):
    """What happened in a scenario, for the table of survivals."""

    operations: int = 0
    refused: int = 0
    killed: int = 0
    incomplete: int = 0
    slow: int = 0  # scenarios that needed more than two applies in the end


def live(scenario: Scenario, rules: Sequence[Rule] = RULES, tally: Tally | None = None) -> Broken | None:
    """What broke, None when all of it held. The same scenario always ends the same."""
    tally = tally or Tally()
    world = World(scenario)
    try:
        for number, operation in enumerate(scenario.operations):
            _step(world, number, operation, rules, tally)
        _settle(world, rules, tally)
    except _Breaks as broke:
        return broke.broken
    finally:
        world.close()
    return None


def hold(scenario: Scenario, rules: Sequence[Rule] = RULES) -> None:
    """Live it, and insist: for a scenario that was pasted as a test."""
    broken = live(scenario, rules)
    assert broken is None, str(broken)


def _step(
    world: World, number: int | None, operation: Operation, rules: Sequence[Rule], tally: Tally
) -> Happening:
    tally.operations += 1
    before = Moment.of(world)
    try:
        ending = world.do(operation)
        plan = _planned(world)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        how = f"{type(error).__name__}: {error} ({frame.filename.rpartition('/')[2]}, in {frame.name})"
        raise _Breaks(Broken(rule=_NOTHING_RAISES, after=number, how=how)) from error
    tally.refused += ending.refused is not None
    tally.killed += ending.killed
    tally.incomplete += not ending.complete
    now = Happening(operation, ending, before, Moment.of(world), plan, world)
    for rule in rules:
        how = rule.check(now)
        if how:
            raise _Breaks(Broken(rule=rule.name, after=number, how=how))
    return now


def _planned(world: World) -> Plan | None:
    try:
        return world.plan()
    except ReconcilerError:
        return None


def _settle(world: World, rules: Sequence[Rule], tally: Tally) -> None:
    """Outages end. What is refused on purpose is mended as the refusals say; then plain applies make everything so."""
    if not world.config.groups:
        return
    _step(world, None, Passes(), rules, tally)
    _free_ports(world)
    _mend(world, rules, tally)
    now = _applied(world, rules, tally)
    if _wants_each_others_ports(now):
        groups = tuple(replace(group, port=None) for group in world.config.groups)
        _step(world, None, Declare(config=replace(world.config, groups=groups)), rules, tally)
        now = _applied(world, rules, tally)
    if now.plan is None or not now.plan.empty:
        text = now.plan.text() if now.plan else "the plan is refused"
        results = "\n".join(map(str, now.ending.report.results)) if now.ending.report else ""
        raise _unsettled(f"after {PATIENCE} applies: {text}\n{results}")
    how = _differs(world)
    if how:
        raise _unsettled(how)


def _applied(world: World, rules: Sequence[Rule], tally: Tally) -> Happening:
    """Plain applies until there is nothing left to do, or patience ends; the last of them."""
    for count in range(1, PATIENCE + 1):
        tally.slow += count == 3
        now = _step(world, None, Apply(), rules, tally)
        if now.ending.refused is not None:
            raise _unsettled(f"refused: {now.ending.refused}")
        if now.plan is not None and now.plan.empty:
            break
    return now


def _wants_each_others_ports(now: Happening) -> bool:
    """A fixed port cannot pass from a sandbox that is to be replaced to one that it waits for: a replacement is one step, and
    only another port helps."""
    results = now.ending.report.results if now.ending.report else ()
    return any(result.error.startswith("port ") for result in results)


def _unsettled(how: str) -> _Breaks:
    return _Breaks(Broken(rule=_CONVERGES, after=None, how=how))


def _mend(world: World, rules: Sequence[Rule], tally: Tally) -> None:
    """What stands in the way on purpose goes: limits, protections, imports and moves that cannot be made, objects of others
    under our names."""
    plan = _planned(world)
    if plan is not None and not plan.refusals and not _is_stuck(plan):
        return
    config = world.config
    config = replace(
        config,
        groups=tuple(replace(group, protected=False) for group in config.groups),
        policy=Policy(),
        moved=(),
        imports=(),
    )
    for name, identity in _of_others(world):
        world.backends[name].backend.remove(identity)
    _step(world, None, Declare(config=config), rules, tally)
    for address in _strays(world):
        _step(world, None, LetGo(address=address), rules, tally)
    kept = _protected_for_good(world, config.groups)
    if kept:
        _step(world, None, Declare(config=replace(config, groups=kept)), rules, tally)
        _step(world, None, Apply(), rules, tally)
        _step(world, None, Declare(config=config), rules, tally)


def _of_others(world: World) -> list[Key]:
    return sorted(set(world.live()) - set(world.ours(world.state())))


def _free_ports(world: World) -> None:
    """What was let go may hold a port that is wanted again, and only who let it go can do something about that."""
    live = world.live()
    for name, identity in _of_others(world):
        if any(path.startswith("ports.") for path in live[name, identity].attributes or {}):
            world.backends[name].backend.remove(identity)


def _strays(world: World) -> list[str]:
    """What is recorded under an address that no configuration could declare beside the others: `a` beside `a[0]`."""
    state = world.state()
    recorded = [address for address, record in state.sandboxes.items() if record.protected] if state else []
    known = {*recorded, *world.config.desired().sandboxes}
    replicas = {address.partition("[")[0] for address in known if "[" in address}
    single = {address for address in world.config.desired().sandboxes if "[" not in address}
    return [a for a in recorded if (a in replicas and a not in single) or a.partition("[")[0] in single - {a}]


def _protected_for_good(world: World, groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """The groups, with those whose protection outlived their declaration declared again without it; () when there are
    none."""
    plan = _planned(world)
    steps = [step for step in plan.steps if step.protected and step.desired is None] if plan else []
    found = {group.name: group for group in groups}
    for step in steps:
        name, _, key = step.address.partition("[")
        replicas = int(key.rstrip("]")) + 1 if key else None
        group = found.get(name, Group(name=name, replicas=replicas, backend=step.backend))
        most = None if replicas is None else max(replicas, group.replicas or 0)
        found[name] = replace(group, replicas=most)
    return tuple(found.values()) if steps else ()


def _is_stuck(plan: Plan) -> bool:
    """Something is broken, and protected, so that it may only be restarted or waited for."""
    told = any(diagnostic.code == "protected-broken" for diagnostic in plan.diagnostics)
    return told or any(step.protected and step.action is Action.REPAIR for step in plan.steps)


def _differs(world: World) -> str:
    """What there is against what is declared, to the last field."""
    state, desired = world.state(), world.config.desired()
    assert state is not None
    ours = world.ours(state)
    if sorted(ours.values()) != sorted(desired.sandboxes):
        return f"there is {sorted(ours.values())}, declared is {sorted(desired.sandboxes)}"
    if sorted(state.sandboxes) != sorted(desired.sandboxes):
        return f"recorded is {sorted(state.sandboxes)}, declared is {sorted(desired.sandboxes)}"
    live = world.live()
    for key, address in sorted(ours.items()):
        record, wanted, seen = state.sandboxes[address], desired.sandboxes[address], live[key]
        if (record.backend, record.sandbox_id) != key:
            return f"{address} is {key}, recorded is {record.sandbox_id} on {record.backend}"
        runs = (
            (Phase.READY,)
            if wanted.spec.readiness.kind is not ProbeKind.NONE
            else (Phase.READY, Phase.STARTING)
        )
        if record.status is not Status.READY or seen.phase not in runs:
            return f"{address} is recorded as {record.status}, and is {seen.phase}"
        if key[0] != wanted.backend:
            return f"{address} is on {key[0]}, declared is {wanted.backend}"
        patterns = wanted.lifecycle.ignore_changes
        for path, value in wanted.spec.canonical().items():
            lives = (seen.attributes or {}).get(path)
            if path.startswith("environment.PEER") or ignores(patterns, path):
                continue
            if lives != value:
                return f"{address}: {path} is {lives!r}, declared is {value!r}"
            if record.spec.get(path) != value:
                return f"{address}: {path} is recorded as {record.spec.get(path)!r}, declared is {value!r}"
    return ""
