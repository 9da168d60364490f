"""Selecting leaves out and never adds; asking for replacements adds only those; refreshing only writes the state."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.core.planner import make_plan
from reconciler.core.select import matches
from reconciler.core.selection import check_patterns
from reconciler.errors import NotFound
from reconciler.model.desired import Address, Desired, Lifecycle
from reconciler.model.observed import Observed
from reconciler.model.plan import Action, Plan, Reason, Selection, Step
from reconciler.model.state import State
from tests.core.life_cycles import PATTERNS, THOROUGH, life_cycles, pasts, planned, worlds
from tests.sim.world import Thing
from tests.support.build import desired, options, record, seen, state, wanted

some = st.lists(st.sampled_from(PATTERNS), max_size=2, unique=True).map(tuple)


def means(patterns: tuple[str, ...], config: Desired, address: Address) -> bool:
    labels = config.sandboxes[address].spec.labels if address in config.sandboxes else {}
    return any(matches(pattern, address, labels) for pattern in patterns)


@pytest.mark.no_cover
@THOROUGH
@given(life_cycles(), pasts(), worlds(), some, some, some, st.booleans())
def test_selecting_never_widens_what_is_touched(
    config: Desired,
    known: State | None,
    things: Mapping[str, Thing],
    targets: tuple[str, ...],
    excludes: tuple[str, ...],
    asked: tuple[str, ...],
    destroy: bool,
) -> None:
    whole = planned(config, known, things, Selection(replace=asked, destroy=destroy))
    part = planned(
        config,
        known,
        things,
        Selection(targets=targets, excludes=excludes, replace=asked, destroy=destroy),
    )
    assume(whole is not None and part is not None)
    assert whole is not None
    assert part is not None
    all_steps = {step.key: step for step in whole.steps}
    kept = {step.key: step for step in part.steps}
    for key, step in kept.items():
        assert (step.action, step.sandbox_id) == (all_steps[key].action, all_steps[key].sandbox_id)
        assert all(need in kept for need in all_steps[key].needs)
        assert not means(excludes, config, step.address)
        chosen = not targets or means(targets, config, step.address)
        assert bool(step.needed_by) == (not chosen)
        if step.needed_by:
            needing = [other for other in kept.values() if other.address == step.needed_by]
            assert any(key in other.needs for other in needing)
    gone = {step.address for step in whole.steps} - {step.address for step in part.steps}
    assert gone <= set(part.left_out)
    assert not set(part.left_out) & {step.address for step in part.steps}


@pytest.mark.no_cover
@THOROUGH
@given(life_cycles(), pasts(), worlds(), some)
def test_asking_for_replacements_adds_only_those_and_what_follows_them(
    config: Desired, known: State | None, things: Mapping[str, Thing], asked: tuple[str, ...]
) -> None:
    without = planned(config, known, things)
    with_them = planned(config, known, things, Selection(replace=asked))
    assume(without is not None and with_them is not None)
    assert without is not None
    assert with_them is not None
    before = all_by_key(without)
    changed = {
        step.address
        for key, step in all_by_key(with_them).items()
        if key not in before or (before[key].action, before[key].reason) != (step.action, step.reason)
    }
    held = {*with_them.left_out, *without.left_out}  # what depends on it waits with it in a held rollout
    for address in changed - held:
        wanted = config.sandboxes[address]
        follows = {*wanted.lifecycle.replace_triggered_by, *wanted.references} & changed
        assert means(asked, config, address) or follows
    for step in with_them.steps:
        if step.reason is Reason.ASKED:
            assert step.action is Action.REPLACE
            assert means(asked, config, step.address)


def all_by_key(plan: Plan) -> dict[str, Step]:
    return {step.key: step for step in plan.steps if step.reason is not Reason.SUPERSEDED}


@pytest.mark.no_cover
@THOROUGH
@given(life_cycles(), pasts(), worlds(), some)
def test_refreshing_only_adopts_and_forgets(
    config: Desired, known: State | None, things: Mapping[str, Thing], targets: tuple[str, ...]
) -> None:
    plan = planned(config, known, things, Selection(targets=targets, refresh_only=True))
    assume(plan is not None)
    assert plan is not None
    assert {step.action for step in plan.steps} <= {Action.ADOPT, Action.FORGET}
    assert plan.refusals == ()
    assert plan.rollouts == ()


APP = wanted("app", image="two", depends_on=["db"])
OLD_APP = wanted("app", image="one", depends_on=["db"])
DB = wanted("db", image="two")
OLD_DB = wanted("db", image="one")
LONE = wanted("lone[0]", image="two", labels={"tier": "x"})
OLD_LONE = wanted("lone[0]", image="one", labels={"tier": "x"})


def keys(**selection: tuple[str, ...]) -> dict[str, str]:
    """The steps of a plan that would replace all three, each with what needs it."""
    there = (OLD_APP, OLD_DB, OLD_LONE)
    made_with = replace(options(), selection=Selection(**selection))
    live = Observed(sandboxes=tuple(map(seen, there)))
    plan = make_plan(desired(APP, DB, LONE), state(*map(record, there)), live, made_with)
    return {step.key: step.needed_by for step in plan.steps}


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        pytest.param({}, {"app": "", "db": "", "lone[0]": ""}, id="nothing selected is everything"),
        pytest.param({"targets": ("db",)}, {"db": ""}, id="what depends on a target stays as it is"),
        pytest.param({"targets": ("app",)}, {"app": "", "db": "app"}, id="what a target needs comes along"),
        pytest.param(
            {"targets": ("app", "db")}, {"app": "", "db": ""}, id="what was asked for is not only needed"
        ),
        pytest.param({"targets": ("lone",)}, {"lone[0]": ""}, id="a group's name means its members"),
        pytest.param({"targets": ("label:tier=x",)}, {"lone[0]": ""}, id="a label means who carries it"),
        pytest.param({"targets": ("l*",)}, {"lone[0]": ""}, id="a glob"),
        pytest.param({"excludes": ("app",)}, {"db": "", "lone[0]": ""}, id="what is excluded stays"),
        pytest.param({"excludes": ("db",)}, {"lone[0]": ""}, id="so does what needs it"),
        pytest.param(
            {"targets": ("app",), "excludes": ("db",)}, {}, id="a target that needs what is excluded stays"
        ),
        pytest.param(
            {"targets": ("app",), "excludes": ("app",)},
            {},
            id="what only an excluded one needs stays as well",
        ),
    ],
)
def test_what_is_selected(selection: dict[str, tuple[str, ...]], expected: dict[str, str]) -> None:
    assert keys(**selection) == expected


def test_what_triggers_a_replacement_comes_along() -> None:
    follower = wanted("app", depends_on=["db"], lifecycle=Lifecycle(replace_triggered_by=(Address("db"),)))
    live = Observed(sandboxes=(seen(follower), seen(OLD_DB)))
    made_with = replace(options(), selection=Selection(targets=("app",)))
    plan = make_plan(desired(follower, DB), state(record(follower), record(OLD_DB)), live, made_with)
    assert {step.key: (step.reason, step.needed_by) for step in plan.steps} == {
        "app": (Reason.TRIGGERED, ""),
        "db": (Reason.CONFIG_CHANGED, "app"),
    }


@pytest.mark.parametrize("option", ["targets", "excludes", "replace"])
def test_a_pattern_that_means_nothing_is_an_error(option: str) -> None:
    with pytest.raises(NotFound, match="reseacher matches nothing") as caught:
        check_patterns(Selection(**{option: ("reseacher",)}), [Address("researcher")], {})
    assert "researcher" in caught.value.hint
