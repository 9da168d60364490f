"""When one object takes another's place at an address: which of them goes first, and what that costs. Pure.

With `replace: create_first` something that answers is kept until its successor answers. Never more than two objects
have to live for that: a successor that never answered is not kept while the one before it still runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from reconciler.model.desired import Address, DesiredSandbox
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.plan import Action, Step
from reconciler.model.state import SandboxRecord, Status


def comes_first(
    action: Action,
    wanted: DesiredSandbox,
    record: SandboxRecord | None,
    current: ObservedSandbox | None,
    leftovers: Iterable[ObservedSandbox],
) -> bool:
    """Whether `current` stays until the new one is ready. One without labels of ours cannot: once the state speaks of
    the new one, a run that is killed would leave an object behind that nobody knows is ours."""
    if action is not Action.REPLACE or not wanted.lifecycle.create_first:
        return False
    if current is None or current.owner is None:
        return False
    unproven = _is_of(record, current) and record is not None and record.status is not Status.READY
    return not (unproven and stands_in(leftovers))


def stands_in(leftovers: Iterable[ObservedSandbox]) -> bool:
    """Whether one that was left over runs still."""
    return any(map(_may_serve, leftovers))


def waits(leftover: Step, successors: Mapping[Address, str]) -> bool:
    """Whether the destroy of a leftover waits for the step of its address that is among `successors`. What does not
    run serves nobody, and goes at once."""
    seen = leftover.current
    return leftover.address in successors and seen is not None and _may_serve(seen)


def goes_ahead(step: Step, records: Mapping[Address, SandboxRecord]) -> bool:
    """Whether leftovers of this step's address that run stay until it is done: declared so, unless the object that
    counts has answered before and runs all the while, so that nobody needs them any more."""
    wanted, current, record = step.desired, step.current, records.get(step.address)
    if wanted is None or not wanted.lifecycle.create_first:
        return False
    if current is None or record is None or not _is_of(record, current):
        return True
    stays = step.create_first or step.action in (Action.UPDATE, Action.ADOPT)
    answered = record.status is Status.READY and _may_serve(current)
    return not (stays and answered)


RECORDED_ONLY = "recorded only: the backend cannot enforce it, so the sandbox stays as it is"


def cost(
    action: Action,
    wanted: DesiredSandbox,
    leftovers: Iterable[ObservedSandbox],
    *,
    create_first: bool,
    create_cost: str,
    tried_first: bool = False,
) -> str:
    """What a step costs, for people; `create_cost` is the backend's word for a create, "" when it has none. `tried_first`:
    cheaper repairs come before."""
    also = f", {create_cost}" if create_cost else ""
    match action:
        case Action.CREATE:
            return create_cost
        case Action.UPDATE:
            return "in place, no restart"
        case Action.REPLACE if create_first:
            return f"new one first, no downtime{also}"
        case Action.REPLACE | Action.REPAIR if wanted.lifecycle.create_first and stands_in(leftovers):
            return f"the one before it stays until the new one is ready{also}"
        case Action.REPAIR if tried_first:
            return "down until it answers again; what it holds is kept if that helps"
        case Action.REPLACE if wanted.lifecycle.create_first:
            return "down until the new one is ready: it carries no labels of ours, so it has to go first"
        case Action.REPLACE | Action.REPAIR:
            return f"down until the new one is ready{also}"
        case _:
            return ""


def _may_serve(seen: ObservedSandbox) -> bool:
    return not seen.phase.is_dead and seen.phase not in (Phase.PAUSED, Phase.TERMINATING)


def _is_of(record: SandboxRecord | None, seen: ObservedSandbox) -> bool:
    return record is not None and (record.backend, record.sandbox_id) == (seen.backend, seen.info.sandbox_id)
