"""What must hold after every operation, also after one that failed. A rule answers what is wrong, "" when nothing is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema_rs

from reconciler.core.moves import moved_state
from reconciler.errors import Refused
from reconciler.model.desired import Address
from reconciler.model.observed import ObservedSandbox
from reconciler.model.plan import Plan, Reason
from reconciler.model.state import State
from tests.fuzz.scenario import HUSH, STACK, Apply, Declare, Happens, Operation
from tests.fuzz.stores import as_json
from tests.fuzz.world import Ending, Key, World

_SCHEMA = jsonschema_rs.validator_for(
    (Path(__file__).parents[2] / "schemas" / "state.v1.schema.json").read_text()
)


@dataclass(frozen=True, slots=True)
class Moment:
    """All there is between two operations. `ours` are the objects of this stack, by what they count for."""

    state: State | None
    live: Mapping[Key, ObservedSandbox]
    ours: Mapping[Key, Address]

    @classmethod
    def of(cls, world: World) -> Moment:
        state = world.state()
        return cls(state, world.live(), world.ours(state))


@dataclass(frozen=True, slots=True)
class Happening:
    """One operation, with the world before and after it, and what would be planned next. `plan` None: it was refused."""

    operation: Operation
    ending: Ending
    before: Moment
    after: Moment
    plan: Plan | None
    world: World = field(repr=False)


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    check: Callable[[Happening], str]


def _state_is_valid(now: Happening) -> str:
    return "" if now.after.state is None else state_error(now.after.state)


def state_error(state: State) -> str:
    """What is wrong with it by its schema, "" when nothing is."""
    error = next(_SCHEMA.iter_errors(as_json(state)), None)
    if error is not None:
        return f"the schema says: {error.message}"
    return "" if State.from_dict(as_json(state)) == state else "it is not the same when it is read back"


def _serial_grows(now: Happening) -> str:
    before, after = now.before.state, now.after.state
    if before is None:
        return ""
    if after is None:
        return "the state is gone"
    if after.lineage != before.lineage:
        return f"lineage {before.lineage} became {after.lineage}"
    return "" if after.serial >= before.serial else f"serial {before.serial} became {after.serial}"


def _ids_are_unique(now: Happening) -> str:
    state = now.after.state
    ids = Counter((r.backend, r.sandbox_id) for r in state.sandboxes.values()) if state else Counter()
    return ", ".join(f"{key} is recorded {count} times" for key, count in ids.items() if count > 1)


def _records_know_their_address(now: Happening) -> str:
    state = now.after.state
    return (
        ", ".join(f"{a} says {r.address}" for a, r in state.sandboxes.items() if r.address != a)
        if state
        else ""
    )


def _never_too_many(now: Happening) -> str:
    """One object per address, two where a new one comes first; and as many more as a backend lied about."""
    if not isinstance(now.operation, Apply):
        return ""
    counts, lies = Counter(now.after.ours.values()), now.world.lies()
    before = Counter(now.before.ours.values())
    return ", ".join(
        f"{address} has {count}"
        for address, count in sorted(counts.items())
        if count > max(before[address], 1 + (address in now.world.may_be_two) + lies[address])
    )


def _all_is_known(now: Happening) -> str:
    """What is ours is recorded, or the next plan speaks of it: nothing is ever lost sight of."""
    state, plan = now.after.state, now.plan
    if state is None or plan is None:
        return ""
    known = {(r.backend, r.sandbox_id) for r in state.sandboxes.values()}
    known |= {(s.current.backend, s.current.info.sandbox_id) for s in plan.steps if s.current is not None}
    told = {
        info.sandbox_id for info in plan.infos.values()
    }  # what is broken and protected has no step, but a remark
    known |= {key for key in now.after.ours if key[1] in told}
    return ", ".join(f"{key} is ours, and nobody knows" for key in now.after.ours if key not in known)


def _others_are_untouched(now: Happening) -> str:
    """What is not ours, or was let go, stays exactly as it was, unless an import names it."""
    if not isinstance(now.operation, Apply):
        return ""
    imported = {name for _, name in now.world.config.imports}
    return ", ".join(
        f"{key} was {seen} and is {now.after.live.get(key)}"
        for key, seen in now.before.live.items()
        if key not in now.before.ours and key[1] not in imported and not _was_unfinished(now, key)
        if now.after.live.get(key) != seen and _is_known_not_ours(now, key, seen)
    )


def _is_known_not_ours(now: Happening, key: Key, seen: ObservedSandbox) -> bool:
    """Without a state, the labels of this stack alone make an object ours."""
    if now.before.state is not None:
        return True
    return seen.owner is None or seen.owner.stack != STACK


def _was_unfinished(now: Happening, key: Key) -> bool:
    """What carries no labels is ours from the intent on."""
    state = now.after.state
    return state is not None and any(
        (r.backend, r.sandbox_id) == key and now.before.live[key].owner is None
        for r in state.sandboxes.values()
    )


def _protected_stay(now: Happening) -> str:
    """What is recorded and protected is there afterwards, the very same object, unless a listing left it out."""
    if now.before.state is None or not isinstance(now.operation, Apply):
        return ""
    lies = now.world.lies()
    return ", ".join(
        f"{address} is protected, and gone"
        for address, key in _protected(now.world, now.before.state)
        if key in now.before.ours and not _same(now, key) and not lies[now.before.ours[key]]
    )


def _protected(world: World, state: State) -> Iterator[tuple[Address, Key]]:
    """What is declared counts, for where a record is now, or will have moved to."""
    desired = world.config.desired()
    try:
        moved = moved_state(state, desired.moved)[0] or state
    except Refused:
        moved = state
    for address, record in moved.sandboxes.items():
        declared = desired.sandboxes.get(address)
        if address in desired.policy.protected or (
            declared.lifecycle.prevent_destroy
            if declared and declared.lifecycle.prevent_destroy is not None
            else record.protected
        ):
            yield address, (record.backend, record.sandbox_id)


def _same(now: Happening, key: Key) -> bool:
    before, after = now.before.live.get(key), now.after.live.get(key)
    return before is None or (after is not None and after.info.container_id == before.info.container_id)


def _lock_is_free(now: Happening) -> str:
    held = now.world.store.lock_info()
    if held is None or held == now.world.left_locked:
        return ""
    return f"{held.holder} holds the lock"


def _secrets_are_nowhere(now: Happening) -> str:
    if HUSH in now.world.place.texts():
        return "a secret is in the state or its journal"
    return "a secret is in an event" if HUSH in repr(now.world.events) else ""


def _each_step_ends_once(now: Happening) -> str:
    report = now.ending.report
    if report is None or report.declined:
        return ""
    wanted, ended = len(report.plan.steps), len(report.results)
    return "" if wanted == ended else f"{wanted} steps, {ended} results"


def _a_complete_apply_is_the_end(now: Happening) -> str:
    """Right after one in which nothing went wrong there is nothing left to do, except that what was restarted under a new
    address gets its labels in the next run, and that what lies hid may be found once more."""
    operation, ending, plan = now.operation, now.ending, now.plan
    if not isinstance(operation, Apply) or not operation.whole or not (ending.calm and ending.complete):
        return ""
    lies = now.world.lies()
    done = (
        plan is not None
        and not plan.moves
        and all(
            s.reason is Reason.MOVED or (s.reason is Reason.FOUND and lies[s.address]) for s in plan.steps
        )
    )
    return "" if done else _text(plan)


def _a_complete_destroy_leaves_nothing(now: Happening) -> str:
    operation, ending = now.operation, now.ending
    if not isinstance(operation, Apply) or not operation.destroy or not (ending.calm and ending.complete):
        return ""
    if operation.targets or operation.excludes or not operation.refresh:
        return ""
    left = sorted(now.after.state.sandboxes) if now.after.state else []
    there = sorted(now.after.ours)
    return "" if not left and not there else f"recorded: {left}; there: {there}"


def _looking_changes_nothing(now: Happening) -> str:
    after = Moment.of(now.world)
    if (after.state, after.live) == (now.after.state, now.after.live):
        return ""
    return "a plan changed something"


def _only_what_is_asked_for(now: Happening) -> str:
    """An operation that does not act leaves every object as it is."""
    if isinstance(now.operation, (Declare, Happens)) or not isinstance(now.operation, Apply):
        return ""
    if not now.operation.refresh_only:
        return ""
    return "" if now.before.live == now.after.live else "a sandbox changed, and only looking was asked for"


RULES = (
    Rule("the state is valid", _state_is_valid),
    Rule("the serial grows and the lineage stays", _serial_grows),
    Rule("every object is recorded once", _ids_are_unique),
    Rule("a record knows its address", _records_know_their_address),
    Rule("an address never has too many objects", _never_too_many),
    Rule("nothing of ours is lost sight of", _all_is_known),
    Rule("what is not ours stays as it is", _others_are_untouched),
    Rule("what is protected stays", _protected_stay),
    Rule("the lock is given back", _lock_is_free),
    Rule("secrets are nowhere at rest", _secrets_are_nowhere),
    Rule("every step ends once", _each_step_ends_once),
    Rule("a complete apply is the end of it", _a_complete_apply_is_the_end),
    Rule("a complete destroy leaves nothing", _a_complete_destroy_leaves_nothing),
    Rule("a plan changes nothing", _looking_changes_nothing),
    Rule("only looking touches no sandbox", _only_what_is_asked_for),
)


def _text(plan: Plan | None) -> str:
    """A plan as text that is the same on every run."""
    return "it is refused" if plan is None else re.sub(r"[0-9a-f]{12,}", "…", plan.text())
