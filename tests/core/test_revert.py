"""What a failed rollout is taken back to, and what stays as it is."""

from __future__ import annotations

import random
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.core.calls import Answer, Call
from reconciler.core.planner import make_plan
from reconciler.core.revert import reversal, reverting
from reconciler.model.desired import Address, Desired, SandboxSpec, SecretRef
from reconciler.model.lifecycle import Rollout
from reconciler.model.observed import Observed
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Action, Reason, Rung
from tests.sim.world import NEVER, World
from tests.support.build import desired, options, record, seen, state, wanted

BACK = Rollout(auto_revert=True)


def group(image: str, size: int = 3, rollout: Rollout = BACK, **fields: Any) -> Desired:
    return desired(*(wanted(f"g[{i}]", image=image, rollout=rollout, **fields) for i in range(size)))


class Sick(World):
    """Where nothing answers that has the image `bad`, or gets the label `bad`."""

    def _create(self, call: Call, spec: SandboxSpec) -> Answer:
        answer = super()._create(call, spec)
        if spec.image == "bad":
            self.things[call.step.sandbox_id].ready_at = NEVER
        return answer

    def _update(self, call: Call, spec: SandboxSpec) -> Answer:
        answer = super()._update(call, spec)
        if spec.labels.get("tier") == "bad":
            self.things[call.step.sandbox_id].ready_at = NEVER
        return answer


def sick() -> Sick:
    return Sick(random.Random(0), now=1.0)


def images(world: World) -> list[object]:
    return sorted(thing.flat["image"] for thing in world.things.values())


@pytest.mark.parametrize(
    "rollout",
    [
        pytest.param(BACK, id="one at a time"),
        pytest.param(replace(BACK, max_unavailable=2), id="two at a time"),
        pytest.param(replace(BACK, canary=1, max_unavailable=3), id="after a canary"),
    ],
)
@pytest.mark.parametrize("create_first", [False, True])
def test_it_ends_in_what_was_healthy(rollout: Rollout, create_first: bool) -> None:
    world = sick()
    state, _ = world.apply(group("one", rollout=rollout, create_first=create_first), None)
    state, run = world.apply(group("bad", rollout=rollout, create_first=create_first), state)
    assert run.back is not None
    assert all(result.status is StepStatus.DONE for result in run.back.results)
    assert {s.reason for s in run.back.plan.steps} <= {Reason.REVERTED, Reason.SUPERSEDED}
    assert images(world) == ["one"] * 3
    assert all(world.serves(Address(f"g[{i}]")) for i in range(3))
    assert {record.status for record in state.sandboxes.values()} == {"ready"}
    _, plan = world.plan(group("one", rollout=rollout, create_first=create_first), state)
    assert plan.empty


def test_without_auto_revert_it_stays_as_it_failed() -> None:
    world = sick()
    state, _ = world.apply(group("one", rollout=Rollout()), None)
    state, run = world.apply(group("bad", rollout=Rollout()), state)
    assert run.back is None
    assert images(world) == ["bad", "one", "one"]


@pytest.mark.no_cover
@pytest.mark.parametrize("create_first", [False, True])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("crash", range(12))
def test_after_a_run_that_was_killed_it_ends_in_what_was_healthy_before(
    crash: int, size: int, create_first: bool
) -> None:
    world = sick()
    state, _ = world.apply(group("one", size, create_first=create_first), None)
    state, _ = world.apply(group("bad", size, create_first=create_first), state, crash_after=crash)
    world.pass_time(world.now + 100)
    world.excused.clear()
    state, run = world.apply(group("bad", size, create_first=create_first), state)
    assert run.back is not None
    assert images(world) == ["one"] * size
    assert all(world.serves(Address(f"g[{i}]")) for i in range(size))


@pytest.mark.parametrize("crash", [None, *range(4)])
def test_an_update_that_failed_is_taken_back_as_well(crash: int | None) -> None:
    world = sick()
    state, _ = world.apply(group("one", labels={"tier": "good"}), None)
    changed = group("one", labels={"tier": "bad"})
    state, run = world.apply(changed, state, crash_after=crash)
    if crash is not None:
        world.pass_time(world.now + 100)
        world.excused.clear()
        state, run = world.apply(changed, state)
    assert run.back is not None
    assert [thing.flat["labels.tier"] for thing in world.things.values()] == ["good"] * 3
    assert all(world.serves(Address(f"g[{i}]")) for i in range(3))


def test_what_is_protected_is_not_taken_down_to_take_a_rollout_back() -> None:
    step = next(
        iter(
            make_plan(
                desired(wanted("a", image="two")),
                state(record(wanted("a", image="one"))),
                Observed(sandboxes=(seen(wanted("a", image="one")),)),
                options(),
            ).steps
        )
    )
    assert reverting([replace(step, protected=True)]) == ()
    broken = replace(step, action=Action.REPAIR, rungs=(Rung.RESTART,), protected=True)
    assert reverting([broken]) == (broken,), "it is restarted at most"
    [taken_back] = reverting([replace(broken, protected=False)])
    assert (taken_back.action, taken_back.reason, taken_back.rungs) == (Action.REPLACE, Reason.REVERTED, ())


def secret(digest: str) -> dict[str, SecretRef]:
    return {"TOKEN": SecretRef(source="env TOKEN", kind="env", target=("TOKEN",), digest=digest)}


def test_a_secret_that_has_another_value_now_is_told_and_nothing_is_made_up() -> None:
    world = sick()
    state, _ = world.apply(group("one", secrets=secret("d1")), None)
    before = state
    changed = group("bad", secrets=secret("d2"))
    state, run = world.apply(changed, state)
    assert run.back is None
    back = reversal(run.plan, run.results, before, changed)
    assert back is not None
    assert back.selection.targets == ()
    [told] = back.diagnostics
    assert told.code == "revert-impossible"
    assert "TOKEN" in told.summary
    assert "d1" not in told.summary + told.fix
