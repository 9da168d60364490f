"""Which step waits for which: creation along dependencies, destruction against them, fixed ports one owner at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from msgspec.structs import replace

from reconciler.core.succession import goes_ahead, waits
from reconciler.model.desired import Address, DesiredSandbox, FlatSpec, address_order
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.plan import Action, Reason, Step, Waves
from reconciler.model.state import SandboxRecord


def topological(sandboxes: Mapping[Address, DesiredSandbox]) -> list[Address]:
    """Dependencies first, otherwise by address. What is left in a cycle (validation refuses those) comes last."""
    if not any(wanted.depends_on for wanted in sandboxes.values()):
        return sorted(sandboxes)
    import heapq  # who has no dependencies does without

    waiting = {
        address: sum(need in sandboxes for need in set(wanted.depends_on)) if wanted.depends_on else 0
        for address, wanted in sandboxes.items()
    }
    dependents: dict[Address, list[Address]] = defaultdict(list)
    for address, wanted in sandboxes.items():
        for need in set(wanted.depends_on):
            dependents[need].append(address)
    ready = sorted(address for address, count in waiting.items() if count == 0)
    ordered: list[Address] = []
    while ready:
        address = heapq.heappop(ready)
        ordered.append(address)
        for dependent in dependents.get(address, ()):
            waiting[dependent] -= 1
            if waiting[dependent] == 0:
                heapq.heappush(ready, dependent)
    if len(ordered) < len(sandboxes):
        ordered += sorted(set(sandboxes) - set(ordered))
    return ordered


def link(steps: Iterable[Step], records: Mapping[Address, SandboxRecord]) -> tuple[Step, ...]:
    """The steps with their `needs`, destroys first, then by address. What waits for its successor comes after it. Who frees
    a port goes before who needs it, even before those that depended on it, where these wait for who needs the port: without
    it nobody could ever go on."""
    steps = tuple(steps)
    successors = {step.address: step.key for step in steps if goes_ahead(step, records)}

    def early(step: Step) -> bool:
        return step.action is Action.DESTROY and not waits(step, successors)

    ordered = sorted(steps, key=lambda step: (not early(step), address_order(step.address), step.key))
    keys: dict[Address, list[Step]] = defaultdict(list)
    for step in ordered:
        keys[step.address].append(step)
    holders = _port_holders(ordered, records)
    dependents = _recorded_dependents(ordered, records)
    needs = {step.key: _needs(step, keys, dependents, successors) for step in ordered}
    for step in ordered:
        if step.action not in (Action.DESTROY, Action.FORGET):
            for port in _fixed_ports(step.spec):
                for holder in holders.get((step.backend, port), ()):
                    if holder != step.key:
                        needs[holder] = {key for key in needs[holder] if not _reaches(needs, key, step.key)}
                        needs[step.key].add(holder)
    return tuple(replace(step, needs=tuple(sorted(needs[step.key]))) for step in ordered)


def circular(steps: Iterable[Step], rollouts: Iterable[Waves]) -> tuple[Diagnostic, ...]:
    """A refusal when waves and dependencies wait for each other, so that nothing of a rollout could ever begin."""
    needs: dict[str, set[str]] = {step.key: set(step.needs) for step in steps}
    gates: dict[str, str] = {}
    for rollout in rollouts:
        before = ""
        for number, wave in enumerate(rollout.waves):
            gate = f"\x00{rollout.group}\x00{number}"
            gates[gate] = rollout.group
            for key in wave if before else ():
                needs[key].add(before)
            needs[gate] = set(wave)
            before = gate
    stuck = _not_sorted(needs)
    if not stuck:
        return ()
    groups = sorted({gates[key] for key in stuck if key in gates})
    return (
        Diagnostic(
            severity=Severity.ERROR,
            code="rollout-circle",
            summary=f"the waves of {' and '.join(groups)} wait for each other through `depends_on`",
            fix="give the group that others depend on a rollout of its own with `--target`, then the rest",
        ),
    )


def _not_sorted(needs: Mapping[str, set[str]]) -> set[str]:
    """What is in a circle, or behind one."""
    open_needs = {key: {need for need in own if need in needs} for key, own in needs.items()}
    dependents: dict[str, list[str]] = defaultdict(list)
    for key, own in open_needs.items():
        for need in own:
            dependents[need].append(key)
    todo = [key for key, own in open_needs.items() if not own]
    left = set(needs)
    while todo:
        key = todo.pop()
        left.discard(key)
        for dependent in dependents.get(key, ()):
            open_needs[dependent].discard(key)
            if not open_needs[dependent]:
                todo.append(dependent)
    return left


def _reaches(needs: Mapping[str, set[str]], start: str, goal: str) -> bool:
    """Whether `start` is `goal` or waits for it, directly or not: adding the reverse would be a circle."""
    if start == goal:
        return True
    seen, todo = {start}, [start]
    while todo:
        for key in needs.get(todo.pop(), ()):
            if key == goal:
                return True
            if key not in seen:
                seen.add(key)
                todo.append(key)
    return False


def _needs(
    step: Step,
    keys: Mapping[Address, Sequence[Step]],
    dependents: Mapping[Address, list[str]],
    successors: Mapping[Address, str],
) -> set[str]:
    if step.action in (Action.DESTROY, Action.FORGET):
        if (
            step.reason is Reason.SUPERSEDED and step.action is Action.FORGET
        ):  # until then, it says whose that is
            return {other.key for other in keys[step.address] if other.reason is not Reason.SUPERSEDED}
        if step.reason is Reason.SUPERSEDED:
            return {successors[step.address]} if waits(step, successors) else set()
        return set(dependents.get(step.address, ())) - {step.key}
    needs: set[str] = set()
    if step.desired is not None:
        for address in step.desired.depends_on:
            needs.update(
                other.key
                for other in keys.get(address, ())
                if other.action not in (Action.DESTROY, Action.FORGET)
            )
    needs.update(
        other.key
        for other in keys[step.address]
        if other is not step and other.reason is Reason.SUPERSEDED and not waits(other, successors)
    )
    return needs - {step.key}


def _recorded_dependents(
    steps: Iterable[Step], records: Mapping[Address, SandboxRecord]
) -> Mapping[Address, list[str]]:
    """For each address, the steps of those that depended on it when they were made: they go before it."""
    dependents: dict[Address, list[str]] = defaultdict(list)
    for step in steps:
        record = records.get(step.address)
        if record is not None and step.reason is not Reason.SUPERSEDED:
            for need in record.depends_on:
                dependents[need].append(step.key)
    return dependents


def _port_holders(
    steps: Iterable[Step], records: Mapping[Address, SandboxRecord]
) -> Mapping[tuple[str, object], list[str]]:
    """Fixed host ports that a plain destroy frees, and which step frees them."""
    holders: dict[tuple[str, object], list[str]] = defaultdict(list)
    for step in steps:
        record = records.get(step.address)
        gone = step.action is Action.DESTROY and step.reason is not Reason.SUPERSEDED
        if gone and record is not None:
            for port in _fixed_ports(record.spec):
                holders[(record.backend, port)].append(step.key)
    return holders


def _fixed_ports(spec: FlatSpec) -> Iterator[object]:
    for path, value in spec.items():
        if path.startswith("ports.") and path.endswith(".host") and value != "auto":
            yield value


def with_dependents(keys: Collection[str], steps: Iterable[Step]) -> set[str]:
    """These and all that cannot go on without one of them."""
    dependents: dict[str, list[str]] = defaultdict(list)
    for step in steps:
        for key in step.needs:
            dependents[key].append(step.key)
    found, todo = set(keys), list(keys)
    while todo:
        for key in dependents.get(todo.pop(), ()):
            if key not in found:
                found.add(key)
                todo.append(key)
    return found
