"""What is recorded under an address that goes, but is not there, goes with it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.core.planner import make_plan
from reconciler.model.lifecycle import Removal
from reconciler.model.observed import Observed
from reconciler.model.plan import Action, Reason
from reconciler.model.state import Status
from tests.support.build import desired, options, record, seen, state, wanted

A = wanted("a")


@pytest.mark.parametrize("destroy", [True, False])
def test_the_record_of_a_successor_that_never_came_is_forgotten_after_the_old_one(destroy: bool) -> None:
    known = state(record(A, generation=2, status=Status.PENDING))
    made = make_plan(desired(wanted("b")), known, Observed(sandboxes=(seen(A),)), options(destroy=destroy))
    old, record_alone = (step for step in made.steps if step.address == "a")
    assert (old.action, old.generation, old.needs) == (Action.DESTROY, 1, ())
    assert (record_alone.action, record_alone.reason) == (Action.FORGET, Reason.SUPERSEDED)
    assert (record_alone.generation, record_alone.needs) == (2, ("a",))


def test_what_is_recorded_and_there_is_destroyed_and_nothing_else() -> None:
    made = make_plan(desired(), state(record(A)), Observed(sandboxes=(seen(A),)), options(destroy=True))
    assert [(step.action, step.key) for step in made.steps] == [(Action.DESTROY, "a")]


def test_letting_go_of_the_old_one_forgets_the_successor_as_well() -> None:
    known = state(record(A, generation=2, status=Status.PENDING))
    config = replace(desired(wanted("b")), removed=(Removal(source="a", destroy=False),))
    made = make_plan(config, known, Observed(sandboxes=(seen(A),)), options())
    told = [(step.action, step.reason) for step in made.steps if step.address == "a"]
    assert told == [(Action.FORGET, Reason.LET_GO), (Action.FORGET, Reason.SUPERSEDED)]
