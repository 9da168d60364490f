"""A backend whose labels are fixed at creation, from apply to apply."""

from __future__ import annotations

import pytest

from reconciler.core.identity import label_hash
from reconciler.engine.explain import why
from reconciler.errors import Refused
from reconciler.model.desired import DesiredSandbox, Resources, fingerprint
from reconciler.model.plan import Action
from tests.support.build import desired, wanted
from tests.support.running import EngineLike, Stack


def sandbox(memory: int, image: str = "one") -> DesiredSandbox:
    return wanted("a", image=image, resources=Resources(memory=memory))


def stack(memory: int = 1) -> Stack:
    made = Stack(desired(sandbox(memory)), kind=EngineLike)
    made.apply()
    return made


def label(made: Stack) -> str:
    [seen] = made.memory.observe()
    assert seen.owner is not None
    return seen.owner.spec_hash


def test_a_change_in_place_leaves_the_label_and_the_second_plan_empty() -> None:
    made = stack()
    before, ids = label(made), made.ids()
    made.desired = desired(sandbox(2))
    report = made.apply()
    assert [step.action for step in report.plan.steps] == [Action.UPDATE]
    assert [str(result.status) for result in report.results] == ["done"]
    assert (label(made), made.ids()) == (before, ids)
    assert made.plan().empty
    state = made.store.read()
    assert state is not None
    [record] = state.sandboxes.values()
    assert record.spec_hash == fingerprint(sandbox(2).spec.canonical())
    assert before == label_hash(sandbox(2).spec.canonical(), EngineLike.capabilities) != record.spec_hash


def test_with_the_state_lost_it_is_adopted_as_it_lives() -> None:
    made = stack()
    made.desired = desired(sandbox(2))
    made.apply()
    made.store = type(made.store)(made.desired.stack, made.log)
    assert [step.action for step in made.apply().plan.steps] == [Action.ADOPT]
    assert made.plan().empty


def test_with_the_state_lost_a_difference_in_place_is_an_update_with_its_field() -> None:
    made = stack()
    made.store = type(made.store)(made.desired.stack, made.log)
    made.desired = desired(sandbox(2))
    [step] = made.plan().steps
    assert step.action is Action.UPDATE
    assert [(c.path, c.before, c.after) for c in step.changes] == [("resources.memory", 1, 2)]
    # without a state nothing is changed, only adopted
    with pytest.raises(Refused, match="there is no state"):
        made.apply()


def test_a_change_of_what_is_fixed_replaces_it() -> None:
    made = stack()
    before = label(made)
    made.desired = desired(sandbox(1, image="two"))
    assert [step.action for step in made.apply().plan.steps] == [Action.REPLACE]
    assert label(made) != before
    assert made.plan().empty


def test_why_says_what_the_label_covers() -> None:
    made = stack()
    told = "\n".join(line for section in why(made.context(), "a").sections for line in section.lines)
    assert f"the fields that are fixed at creation {label(made)[:12]}" in told
