"""A group that grows and changes in one run rolls out in that run: what is new was never there to be missed."""

from __future__ import annotations

from reconciler.core.planner import make_plan
from reconciler.model.lifecycle import Lifecycle, Rollout
from reconciler.model.observed import Observed
from reconciler.model.plan import Action, Plan
from tests.support.build import desired, options, record, seen, state, wanted


def grown(*, protected: bool = False) -> Plan:
    """`s[0]` runs with image one; declared are `s[0]` and `s[1]` with image two."""
    was = wanted("s[0]", image="one")
    now = [
        wanted(
            f"s[{i}]",
            image="two",
            rollout=Rollout(),
            lifecycle=Lifecycle(prevent_destroy=protected and i == 0),
        )
        for i in range(2)
    ]
    return make_plan(desired(*now), state(record(was)), Observed(sandboxes=(seen(was),)), options())


def test_what_is_new_does_not_hold_up_the_rest() -> None:
    made = grown()
    assert {(step.address, step.action, step.wave) for step in made.steps} == {
        ("s[0]", Action.REPLACE, 1),
        ("s[1]", Action.CREATE, 0),
    }
    assert not made.left_out
    assert not made.diagnostics


def test_a_refusal_is_told_at_once_and_not_after_it_has_grown() -> None:
    assert [refusal.code for refusal in grown(protected=True).refusals] == ["protected"]
