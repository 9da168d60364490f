"""Rollouts, reverts, refreshing and planning without a look, on a real backend in memory with real threads."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.backends.memory import MemoryBackend, Thing
from reconciler.core.fold import fold_all
from reconciler.engine.stop import StopRequest
from reconciler.errors import Permanent, Refused, Unavailable
from reconciler.model.desired import Address, Desired, Readiness, Resources, Secret, SecretRef
from reconciler.model.event import Planned, Remark
from reconciler.model.lifecycle import Move, Policy, Removal, Rollout
from reconciler.model.observed import Phase
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Action, Reason
from reconciler.model.state import State, Status
from tests.support.build import desired, wanted
from tests.support.running import WRITES, Stack

SOON = Readiness(timeout=0.05, interval=0.01)
BACK = Rollout(auto_revert=True)


class Sickly(MemoryBackend):
    """Where what has the image `bad` never becomes ready."""

    def _make(self, *args: Any) -> Thing:
        thing = super()._make(*args)
        if thing.flat.get("image") == "bad":
            thing.ready_at = math.inf
        return thing


def group(image: str, size: int = 3, rollout: Rollout | None = BACK, **fields: Any) -> Desired:
    return desired(
        *(wanted(f"g[{i}]", image=image, rollout=rollout, readiness=SOON, **fields) for i in range(size))
    )


def running(config: Desired) -> Stack:
    stack = Stack(config, kind=Sickly)
    stack.apply()
    stack.clear()
    return stack


def images(stack: Stack) -> list[object]:
    return sorted((seen.attributes or {})["image"] for seen in stack.memory.observe())


def known(stack: Stack) -> State:
    state = stack.store.read()
    assert state is not None
    return state


# -- taking back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("create_first", [False, True])
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_rollout_that_fails_ends_in_what_was_healthy(create_first: bool, at_once: int) -> None:
    rollout = Rollout(auto_revert=True, max_unavailable=at_once)
    stack = running(group("one", rollout=rollout, create_first=create_first))
    stack.desired = group("bad", rollout=rollout, create_first=create_first)
    report = stack.apply()
    assert [result.status for result in report.results] == (
        [StepStatus.FAILED] * at_once + [StepStatus.SKIPPED] * (3 - at_once)
    )
    assert report.reverts
    assert all(result.status is StepStatus.DONE for result in report.reverts)
    assert images(stack) == ["one"] * 3
    assert {record.status for record in known(stack).sandboxes.values()} == {Status.READY}
    plans = [event.plan for event in stack.events if isinstance(event, Planned)]
    assert {step.reason for step in plans[1].steps} <= {Reason.REVERTED, Reason.SUPERSEDED}
    stack.desired = group("one", rollout=rollout, create_first=create_first)
    assert stack.plan().empty


@pytest.mark.parametrize("verb", ["create", "destroy", "look", "probe"])
@pytest.mark.parametrize("number", [1, 2])
def test_an_interrupted_rollout_is_taken_back_to_what_was_healthy_before_it(verb: str, number: int) -> None:
    """The first run is stopped in the middle, of the rollout or of taking it back; the second one fails."""
    stack = running(group("one"))
    stack.desired = group("bad")
    stop = StopRequest()
    stack.backend.fault = lambda name, n: stop.request() if (name, n) == (verb, number) else None  # type: ignore[func-returns-value]
    assert stack.apply(stop=stop).interrupted
    stack.backend.fault = lambda name, n: None
    assert stack.apply().reverts
    assert images(stack) == ["one"] * 3
    assert all(seen.phase is Phase.READY for seen in stack.memory.observe())


def test_nothing_is_taken_back_after_the_run_was_stopped() -> None:
    stack = running(group("one"))
    stack.desired = group("bad")
    stop = StopRequest()
    stack.backend.fault = lambda name, n: stop.request() if name == "probe" else None  # type: ignore[func-returns-value]
    report = stack.apply(stop=stop)
    assert report.interrupted
    assert report.reverts == ()
    assert images(stack) == ["bad", "one", "one"]


def secret(value: str, digest: str) -> dict[str, SecretRef]:
    return {"T": SecretRef(source="env T", kind="env", target=("T",), digest=digest, value=Secret(value))}


def test_a_secret_that_changed_meanwhile_is_told_by_name_only() -> None:
    stack = running(group("one", secrets=secret("first-value", "d1")))
    stack.desired = group("bad", secrets=secret("second-value", "d2"))
    report = stack.apply()
    assert report.reverts == ()
    assert images(stack) == ["bad", "one", "one"]
    remarks = [event.diagnostic for event in stack.events if isinstance(event, Remark)]
    [told] = [remark for remark in remarks if remark.code == "revert-impossible"]
    assert "the value of T is another one now" in told.summary
    assert "value" not in told.summary.replace("the value of T", "")


def test_a_look_that_fails_before_it_is_taken_back_is_told_and_loses_nothing() -> None:
    stack = running(group("one"))
    stack.desired = group("bad")
    stack.backend.fault = lambda verb, n: (
        Unavailable("engine is down") if (verb, n) == ("observe", 2) else None
    )
    report = stack.apply()
    assert report.reverts == ()
    [told] = [
        e.diagnostic for e in stack.events if isinstance(e, Remark) and "taken back" in e.diagnostic.summary
    ]
    assert "engine is down" in told.summary
    assert known(stack).sandboxes[Address("g[0]")].healthy == wanted("g[0]", image="one").spec.canonical()
    stack.backend.fault = lambda verb, n: None
    assert stack.apply().reverts
    assert images(stack) == ["one"] * 3


def test_the_lock_is_held_until_what_failed_is_taken_back() -> None:
    stack = running(group("one"))
    stack.desired = group("bad")
    stack.apply()
    writes = [line for line in stack.log if line in ("create", "destroy", "snapshot")]
    assert writes[-1] == "snapshot"
    assert known(stack).serial > 1


# -- what was planned on -----------------------------------------------------------------------------------------------


def test_a_plan_without_a_refresh_looks_at_nothing() -> None:
    stack = running(group("one"))
    stack.desired = group("two")
    plan = stack.plan(refresh=False)
    assert [step.action for step in plan.steps] == [Action.REPLACE] * 3
    assert stack.backend.calls == []


def test_an_apply_without_a_refresh_looks_at_each_object_right_before_it_acts() -> None:
    stack = running(group("one"))
    stack.desired = group("two")
    report = stack.apply(refresh=False)
    assert all(result.status is StepStatus.DONE for result in report.results)
    assert stack.backend.count("observe") == 0
    assert stack.log.index("look") < stack.log.index("destroy")
    assert stack.plan().empty
    assert stack.plan(refresh=False).empty


@pytest.mark.parametrize(
    ("vandalism", "ending"),
    [
        pytest.param("replaced by others", StepStatus.STALE, id="another object is not touched"),
        pytest.param("gone", StepStatus.DONE, id="what is gone is made again"),
    ],
)
def test_a_stale_state_touches_nothing_it_does_not_know(vandalism: str, ending: StepStatus) -> None:
    stack = running(group("one", size=1))
    [thing] = stack.memory._world._things.values()
    if vandalism == "gone":
        stack.memory.remove(thing.sandbox_id)
    else:
        thing.instance = "another"
    stack.desired = group("two", size=1)
    report = stack.apply(refresh=False)
    assert [result.status for result in report.results] == [ending]
    assert images(stack) == (["two"] if vandalism == "gone" else ["one"])


def test_without_a_state_there_is_nothing_to_plan_on_but_a_look() -> None:
    """Otherwise all that lives would be taken to be absent, and made a second time."""
    stack = Stack(group("one"), kind=Sickly)
    with pytest.raises(Refused, match="no state"):
        stack.plan(refresh=False)
    with pytest.raises(Refused, match="no state"):
        stack.apply(refresh=False)
    assert stack.backend.calls == []


def drifted() -> Stack:
    """One is gone, one was given more memory, one died, one is as it was."""
    stack = running(group("one", 4, resources=Resources(memory=1)))
    first, second, third, _ = (known(stack).sandboxes[Address(f"g[{i}]")].sandbox_id for i in range(4))
    stack.memory.remove(first)
    stack.memory.alter(second, "resources.memory", 2)
    stack.memory.kill(third)
    return stack


def test_refreshing_writes_the_state_and_calls_no_verb_that_writes() -> None:
    stack = drifted()
    report = stack.apply(refresh_only=True)
    assert [(step.action, step.address) for step in report.plan.steps] == [
        (Action.FORGET, "g[0]"),
        (Action.ADOPT, "g[1]"),
    ]
    assert stack.backend.count(*WRITES, "restart") == 0
    assert known(stack).sandboxes[Address("g[1]")].spec["resources.memory"] == 2
    assert stack.plan(refresh_only=True).empty
    after = stack.plan()
    [change] = [change for step in after.steps if step.address == "g[1]" for change in step.changes]
    assert (change.before, change.after, change.outside) == (2, 1, False)


def test_a_refresh_waits_for_nobody_and_leaves_every_verdict_as_it_was() -> None:
    """Guards against a look that taints what does not answer just then, and against taking a rollout back by it."""
    stack = running(group("one", 2, resources=Resources(memory=1)))
    there = known(stack).sandboxes[Address("g[0]")].sandbox_id
    stack.memory.alter(there, "resources.memory", 2)
    stack.memory.alter(there, "image", "bad")
    stack.backend.fault = lambda verb, _: (
        Unavailable("nobody may be asked") if verb in ("probe", "is_alive") else None
    )
    report = stack.apply(refresh_only=True)
    assert [result.status for result in report.results] == [StepStatus.DONE]
    assert report.plan.rollouts == ()
    assert report.reverts == ()
    record = known(stack).sandboxes[Address("g[0]")]
    assert (record.status, record.spec["resources.memory"]) == (Status.READY, 2)


def test_nothing_refuses_a_refresh() -> None:
    stack = drifted()
    stack.desired = Desired(
        stack=stack.desired.stack,
        sandboxes={},
        backends=stack.desired.backends,
        policy=Policy(max_destroy=0, max_drift_percent=0.0),
    )
    report = stack.apply(refresh_only=True)
    assert [(step.action, step.address) for step in report.plan.steps] == [(Action.FORGET, "g[0]")]


# -- moves and removals ------------------------------------------------------------------------------------------------


def renamed(config: Desired, *moves: Move, removed: tuple[Removal, ...] = ()) -> Desired:
    return Desired(
        stack=config.stack,
        sandboxes=config.sandboxes,
        backends=config.backends,
        moved=moves,
        removed=removed,
    )


def test_a_move_is_written_before_anything_is_done_and_makes_nothing_anew() -> None:
    stack = running(desired(wanted("a", image="one")))
    before = stack.ids()
    stack.desired = renamed(desired(wanted("b", image="one")), Move(source="a", target="b"))
    report = stack.apply()
    assert [(move.source, move.target) for move in report.plan.moves] == [("a", "b")]
    assert stack.log.index("snapshot") < stack.log.index("update")
    assert stack.ids() == before
    assert stack.backend.count("create", "destroy") == 0
    assert stack.apply().plan.empty
    assert sorted(known(stack).sandboxes) == ["b"]


def test_a_move_that_was_declined_writes_nothing() -> None:
    stack = running(desired(wanted("a", image="one")))
    stack.desired = renamed(desired(wanted("b", image="one")), Move(source="a", target="b"))
    assert stack.apply(yes=False).declined
    assert sorted(known(stack).sandboxes) == ["a"]
    assert "snapshot" not in stack.log


def test_what_was_not_let_go_in_the_end_is_ours_still() -> None:
    """Guards against letting go of what the run never came to."""
    both = desired(wanted("w", depends_on=["db"]), wanted("db"))
    stack = running(both)
    stack.desired = replace(desired(wanted("other")), removed=(Removal(source="db", destroy=False),))
    stack.backend.fault = lambda verb, _: Permanent("no") if verb == "destroy" else None
    report = stack.apply()
    statuses = {result.address: str(result.status) for result in report.results}
    assert (statuses["w"], statuses["db"]) == ("failed", "skipped")
    assert Address("db") in known(stack).sandboxes
    assert known(stack).released == {}


def test_what_was_let_go_survives_a_lost_snapshot() -> None:
    """Only the journal knows of it then, and folding that again is what keeps it from being an orphan."""
    stack = running(desired(wanted("a"), wanted("b")))
    before = known(stack)
    stack.store.entries.clear()
    stack.desired = renamed(desired(wanted("b")), removed=(Removal(source="a", destroy=False),))
    stack.apply()
    folded = fold_all(before, stack.store.entries)
    assert list(folded.released.values()) == ["a"]
    assert sorted(folded.sandboxes) == ["b"]
    stack.desired = desired(wanted("b"))
    assert stack.apply().plan.empty
    assert len(stack.ids()) == 2
