"""What must hold after a run that was killed, or whose disk was full, and one plain apply: live is what is declared, exactly,
and the state says so.

Everything is checked before anything is reported: a broken guarantee is told whole.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from reconciler.cli.exit_codes import ExitCode
from reconciler.core.identity import sandbox_id
from reconciler.model.observed import ObservedSandbox
from reconciler.model.state import State, Status
from tests.crash.operations import APPLY, PROTECTED, Operation, accompanied, operation_body
from tests.crash.runs import Ended
from tests.crash.worlds import Live, World
from tests.fuzz.rules import state_error

_FAILED = (ExitCode.ERROR, ExitCode.INCOMPLETE)


class Before(Struct, frozen=True, kw_only=True):
    """What there was when the killed run began: `ids` are those with our labels, by address, `released` was let go."""

    live: Live
    ids: dict[str, str]
    released: frozenset[str]

    @classmethod
    def of(cls, world: World) -> Before:
        """With a mark in the workspace of each."""
        live, state = world.live(), world.store.read()
        ids = {
            str(seen.owner.address): name
            for name, seen in live.items()
            if seen.owner is not None and seen.owner.stack == world.stack
        }
        if not world.labels and state is not None:
            ids = {str(address): record.sandbox_id for address, record in state.sandboxes.items()}
        for name in ids.values():
            world.mark(name)
        released = frozenset(name for _, name in state.released) if state else frozenset[str]()
        return cls(live=live, ids=ids, released=released)


def mend(world: World, operation: Operation) -> list[str]:
    """The one plain apply, and all that is wrong after it."""
    world.declare(operation_body(world, operation, afterwards=True))
    ended = world.run(*APPLY)
    if ended.code != 0 or "Traceback" in ended.out:
        return [f"the plain apply ended with {ended.code}:\n{ended.out}"]
    return []


_REASONS = "|".join(re.escape(os.strerror(number)) for number in (errno.ENOSPC, errno.EIO))
_CAUSE = re.compile(rf"cannot [a-z ]+ \S+: ({_REASONS})")
_NEXT_STEP = re.compile("free some space|check the (disk|file system)")


def untold(operation: Operation, ended: Ended) -> list[str]:
    """What a run did not say that its disk refused something: it ends as documented, and where it did not do all that it
    should, it names the file, the reason and the next step."""
    told = " ".join(ended.out.split())
    if any(word in told for word in ("Traceback", "internal error", "this is a bug")):
        return [f"it ended with {ended.code}, as bugs do:\n{ended.out}"]
    if ended.code in operation.code:
        return []
    if ended.code not in _FAILED or not _CAUSE.search(told) or not _NEXT_STEP.search(told):
        return [f"it ended with {ended.code}, and told no file, reason and next step:\n{ended.out}"]
    return []


def wrong(world: World, operation: Operation, before: Before) -> list[str]:
    state, live = world.state(), world.live()
    found = [
        *_state(world, state),
        *_exactly(world, operation, state, live),
        *_bystanders(world, operation, before, state, live),
        *_kept(world, operation, before, state, live),
    ]
    found += world.astray()
    plan = world.plan()
    if not plan.empty:
        found.append(f"the next plan is not empty:\n{plan.text()}")
    held = world.lock()
    if held is not None:
        found.append(f"{held.holder} holds the lock")
    found += [f"{path} is left over" for path in world.leftovers()]
    return found


def _state(world: World, state: State) -> Iterator[str]:
    error = state_error(state)
    if error:
        yield f"the state is not valid: {error}"
    if len({version.lineage for version in world.store.history()}) > 1:
        yield "the lineage changed"


def _exactly(world: World, operation: Operation, state: State, live: Live) -> Iterator[str]:
    """No orphan, no duplicate, nothing missing, and each as it is recorded."""
    desired = world.desired()
    if sorted(state.sandboxes) != sorted(desired.sandboxes):
        yield f"recorded is {sorted(state.sandboxes)}, declared is {sorted(desired.sandboxes)}"
    recorded = {record.sandbox_id: address for address, record in state.sandboxes.items()}
    counts: Counter[str] = Counter()
    for name, seen in live.items():
        if name in recorded:
            counts[recorded[name]] += 1
        elif _is_ours(world, operation, state, seen) and not _is_released(state, name):
            yield f"{name} is an orphan: it carries our labels, for {seen.owner and seen.owner.address}"
    for address in desired.sandboxes:
        if counts[address] != 1:
            yield f"{address} is there {counts[address]} times"
    for address, record in state.sandboxes.items():
        seen = live.get(record.sandbox_id)
        if seen is None:
            yield f"{address} is recorded as {record.sandbox_id}, which is not there"
            continue
        if record.status is not Status.READY or seen.phase.is_dead:
            yield f"{address} is recorded as {record.status}, and is {seen.phase}"
        if record.info is None or world.identity(record.info) != world.identity(seen.info):
            yield f"{address} is recorded with another object than there is"
        yield from _labels(world, operation, record.generation, seen, str(address))


def _labels(
    world: World, operation: Operation, generation: int, seen: ObservedSandbox, address: str
) -> Iterator[str]:
    owner = seen.owner
    if not world.labels:
        return
    if owner is None:
        if seen.info.sandbox_id not in operation.adopts:
            yield f"{address} carries no labels"
        return
    if owner.generation != generation:
        yield f"{address} is recorded as generation {generation}, and labelled {owner.generation}"
    was = {new: old for old, new in operation.moved.items()}.get(address, address)
    if owner.address != address and (world.relabels or owner.address != was):
        yield f"{address} is labelled {owner.address}"
    names = {sandbox_id(world.stack, a, generation) for a in (address, was)}  # type: ignore[arg-type]
    if not operation.renames and seen.info.sandbox_id not in {*names, *operation.adopts}:
        yield f"{address} has the id {seen.info.sandbox_id} of another generation"


def _is_ours(world: World, operation: Operation, state: State, seen: ObservedSandbox) -> bool:
    if not world.labels:
        return world.is_mine(seen) and seen.info.sandbox_id not in operation.adopts
    return seen.owner is not None and (seen.owner.stack, seen.owner.lineage) == (world.stack, state.lineage)


def _is_released(state: State, name: str) -> bool:
    return name in {sandbox_id for _, sandbox_id in state.released}


def _bystanders(
    world: World, operation: Operation, before: Before, state: State, live: Live
) -> Iterator[str]:
    """What is not ours, or was let go, or is protected, is exactly what it was."""
    for name, seen in before.live.items():
        mine = world.is_mine(seen)
        if name in operation.adopts or (mine and name not in before.released):
            continue
        if live.get(name) != seen:
            yield f"{name} was {seen}, and is {live.get(name)}"
    for address in operation.let_go:
        name = before.ids[address]
        if name not in live or not _is_released(state, name):
            yield f"{address} ({name}) was let go, and is not there, or not noted as that"


def _kept(world: World, operation: Operation, before: Before, state: State, live: Live) -> Iterator[str]:
    addresses = {*operation.kept, *({PROTECTED} if accompanied(world, operation) else ())}
    for address in sorted(addresses):
        name = before.ids[address]
        record = state.sandboxes.get(operation.moved.get(address, address))  # type: ignore[call-overload]
        if record is None or record.sandbox_id != name:
            yield f"{address} was {name}, and is recorded as {record and record.sandbox_id}"
        elif name not in live or world.identity(live[name].info) != world.identity(before.live[name].info):
            yield f"{address} is another object than before"
        elif not world.is_marked(name):
            yield f"{address} lost what was in its workspace"
    for name in operation.adopts:
        if name not in live or world.identity(live[name].info) != world.identity(before.live[name].info):
            yield f"{name} was to be taken over, and is another object than before"
