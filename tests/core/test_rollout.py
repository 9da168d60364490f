"""Waves: who goes first, how many at a time, and what has to wait for a later run."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.core.calls import Limits
from reconciler.core.planner import make_plan
from reconciler.core.schedule import Scheduler
from reconciler.model.desired import Address, Desired, DesiredSandbox, Lifecycle
from reconciler.model.lifecycle import Rollout
from reconciler.model.observed import Observed, Phase
from reconciler.model.plan import Action, Plan, Reason, Selection
from reconciler.model.state import Status
from tests.support.build import desired, options, record, seen, state, wanted


def group(size: int, image: str, name: str = "g", **fields: Any) -> list[DesiredSandbox]:
    fields.setdefault("rollout", Rollout())
    return [wanted(f"{name}[{i}]", image=image, **fields) for i in range(size)]


def rolled(
    config: list[DesiredSandbox],
    there: list[DesiredSandbox],
    *,
    phases: dict[str, Phase] | None = None,
    statuses: dict[str, Status] | None = None,
    gone: tuple[str, ...] = (),
    unrecorded: tuple[str, ...] = (),
    **selection: Any,
) -> Plan:
    """The plan from what is `there`, recorded and running unless said otherwise."""
    live = [
        seen(s, phase=(phases or {}).get(s.address, Phase.STARTING)) for s in there if s.address not in gone
    ]
    records = [
        record(s, status=(statuses or {}).get(s.address, Status.READY))
        for s in there
        if s.address not in unrecorded
    ]
    made_with = replace(options(), selection=Selection(**selection))
    return make_plan(desired(*config), state(*records), Observed(sandboxes=tuple(live)), made_with)


def waves(plan: Plan) -> list[list[str]]:
    return [list(wave) for rollout in plan.rollouts for wave in rollout.waves]


@pytest.mark.parametrize(
    ("rollout", "expected"),
    [
        pytest.param(Rollout(), [["g[0]"], ["g[1]"], ["g[2]"], ["g[3]"]], id="one at a time is the default"),
        pytest.param(Rollout(max_unavailable=3), [["g[0]", "g[1]", "g[2]"], ["g[3]"]], id="three at a time"),
        pytest.param(
            Rollout(max_unavailable=9), [["g[0]", "g[1]", "g[2]", "g[3]"]], id="more than there are is all"
        ),
        pytest.param(
            Rollout(max_unavailable_percent=50), [["g[0]", "g[1]"], ["g[2]", "g[3]"]], id="half of them"
        ),
        pytest.param(
            Rollout(max_unavailable_percent=49),
            [["g[0]"], ["g[1]"], ["g[2]"], ["g[3]"]],
            id="a percentage is rounded down",
        ),
        pytest.param(
            Rollout(max_unavailable_percent=1),
            [["g[0]"], ["g[1]"], ["g[2]"], ["g[3]"]],
            id="but never to none",
        ),
        pytest.param(
            Rollout(max_unavailable=3, canary=1),
            [["g[0]"], ["g[1]", "g[2]", "g[3]"]],
            id="a canary goes alone",
        ),
        pytest.param(
            Rollout(max_unavailable=2, canary=3),
            [["g[0]", "g[1]"], ["g[2]"], ["g[3]"]],
            id="several canaries keep to the limit",
        ),
        pytest.param(
            Rollout(max_unavailable=2, canary=9),
            [["g[0]", "g[1]"], ["g[2]", "g[3]"]],
            id="more canaries than there are",
        ),
    ],
)
def test_waves_are_as_large_as_may_be_away(rollout: Rollout, expected: list[list[str]]) -> None:
    plan = rolled(group(4, "two", rollout=rollout), group(4, "one"))
    assert waves(plan) == expected
    assert [step.wave for step in plan.steps] == [
        number for number, wave in enumerate(expected, 1) for _ in wave
    ]
    assert plan.rollouts[0].at_once == rollout.at_once(4)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"phases": {"g[2]": Phase.FAILED}}, id="one that died"),
        pytest.param({"phases": {"g[2]": Phase.PAUSED}}, id="one that is paused"),
        pytest.param({"gone": ("g[2]",)}, id="one that is gone"),
        pytest.param({"statuses": {"g[2]": Status.TAINTED}}, id="one that never became ready"),
        pytest.param({"statuses": {"g[2]": Status.CREATED}}, id="one that nobody waited for"),
        pytest.param({"statuses": {"g[2]": Status.DESTROYING}}, id="one that is half destroyed"),
    ],
)
def test_what_is_away_already_goes_first(change: dict[str, Any]) -> None:
    plan = rolled(group(4, "two"), group(4, "one"), **change)
    assert waves(plan) == [["g[2]"], ["g[0]"], ["g[1]"], ["g[3]"]]


def test_what_certainly_does_not_run_goes_before_what_nobody_knows_of() -> None:
    """What was just found runs, and may serve: changing it while another one is dead would make two of them away."""
    plan = rolled(group(3, "two"), group(3, "one"), unrecorded=("g[0]",), phases={"g[2]": Phase.FAILED})
    assert waves(plan) == [["g[2]"], ["g[0]"], ["g[1]"]]


def test_what_is_only_waited_for_goes_before_what_may_serve() -> None:
    """Two runs were killed: one that they made is as declared now, the other is not, and nobody knows how they are. If
    waiting fails, the rollout stops while the other one may still serve."""
    there = [*group(1, "one"), group(2, "two")[1]]
    plan = rolled(group(2, "two"), there, statuses={"g[0]": Status.CREATED, "g[1]": Status.CREATED})
    assert [step.action for step in plan.steps] == [Action.REPLACE, Action.ADOPT]
    assert waves(plan) == [["g[1]"], ["g[0]"]]


def test_what_never_answered_goes_before_what_may_serve() -> None:
    statuses = {"g[0]": Status.CREATED, "g[1]": Status.TAINTED}
    assert waves(rolled(group(2, "two"), group(2, "one"), statuses=statuses)) == [["g[1]"], ["g[0]"]]


def test_new_ones_are_not_missed_and_hold_nothing_up() -> None:
    plan = rolled(group(4, "two"), group(2, "one"))
    assert waves(plan) == [["g[0]"], ["g[1]"]]
    assert {step.address for step in plan.steps if step.reason is Reason.NEW} == {"g[2]", "g[3]"}
    assert plan.left_out == ()
    assert not plan.diagnostics


def test_new_ones_that_are_not_selected_hold_nothing_up_either() -> None:
    plan = rolled(group(4, "two"), group(2, "one"), targets=("g[0]",))
    assert waves(plan) == [["g[0]"]]


def test_nothing_that_serves_is_taken_down_while_more_is_away_than_may_be() -> None:
    config, there = group(4, "two"), group(4, "one")
    held = rolled(config, there, phases={"g[3]": Phase.FAILED}, excludes=("g[3]",))
    assert held.steps == ()
    assert held.left_out == ("g[0]", "g[1]", "g[2]", "g[3]")
    assert [d.code for d in held.diagnostics] == ["rollout-held"]
    two = [replace(s, rollout=Rollout(max_unavailable=2)) for s in config]
    assert waves(rolled(two, there, phases={"g[3]": Phase.FAILED}, excludes=("g[3]",))) == [
        ["g[0]"],
        ["g[1]"],
        ["g[2]"],
    ]


def test_one_that_nobody_can_tell_of_counts_as_away() -> None:
    plan = rolled(group(3, "two"), group(3, "one"), phases={"g[1]": Phase.UNKNOWN})
    assert plan.steps == ()
    assert plan.left_out == ("g[0]", "g[2]")


def test_what_depends_on_something_held_waits_as_well() -> None:
    app = wanted("app", image="two", depends_on=["g[0]"])
    plan = rolled(
        [*group(2, "two"), app],
        [*group(2, "one"), wanted("app", image="one", depends_on=["g[0]"])],
        phases={"g[1]": Phase.UNKNOWN},
    )
    assert plan.steps == ()
    assert plan.left_out == ("app", "g[0]")


def test_what_waits_for_a_held_group_is_in_no_wave_of_its_own() -> None:
    """Nor may it be counted on: without it, more of its own group is away than may be."""
    app = [
        replace(s, group="app", depends_on=(Address("g[0]"),) if s.address == "app[1]" else ())
        for s in group(3, "two", name="app")
    ]
    plan = rolled(
        [*group(2, "two"), *app],
        [*group(2, "one"), *group(3, "one", name="app")],
        phases={"g[1]": Phase.UNKNOWN, "app[1]": Phase.FAILED},
    )
    assert plan.steps == ()
    assert plan.rollouts == ()
    assert plan.left_out == ("app[0]", "app[1]", "app[2]", "g[0]")
    assert [told.code for told in plan.diagnostics if told.code == "rollout-held"] == ["rollout-held"] * 2


def test_putting_back_what_died_is_no_rollout() -> None:
    plan = rolled(group(4, "one"), group(4, "one"), phases={f"g[{i}]": Phase.FAILED for i in range(3)})
    assert plan.rollouts == ()
    assert [step.action for step in plan.steps] == [Action.REPAIR] * 3


def test_a_rule_that_changed_is_recorded_without_waves() -> None:
    plan = rolled(group(3, "one", lifecycle=Lifecycle(prevent_destroy=True)), group(3, "one"))
    assert plan.rollouts == ()
    assert [step.action for step in plan.steps] == [Action.UPDATE] * 3


def test_members_that_need_each_other_go_in_that_order() -> None:
    first, second = group(2, "two", rollout=Rollout())
    first = replace(first, depends_on=(Address("g[1]"),))
    assert waves(rolled([first, second], group(2, "one"))) == [["g[1]"], ["g[0]"]]


def crossed(image: str) -> list[DesiredSandbox]:
    """Two groups, the first of each needing the second of the other: their waves can never begin."""
    a, b = group(2, image, name="a"), group(2, image, name="b")
    needs = (Address("b[1]"),), (Address("a[1]"),)
    return [replace(a[0], depends_on=needs[0]), a[1], replace(b[0], depends_on=needs[1]), b[1]]


def test_waves_that_wait_for_each_other_are_refused() -> None:
    plan = rolled(crossed("two"), crossed("one"))
    [refusal] = plan.refusals
    assert refusal.code == "rollout-circle"
    assert "a and b" in refusal.summary


def test_and_end_instead_of_hanging_if_they_are_carried_out_all_the_same() -> None:
    scheduler = Scheduler(rolled(crossed("two"), crossed("one")), Limits(), lambda: 0.5)
    assert scheduler.due(0.0) == []
    assert scheduler.done
    assert {str(result.status) for result in scheduler.results()} == {"skipped"}


def test_and_one_group_at_a_time_is_not() -> None:
    config: Desired = desired(*crossed("two"))
    assert set(config.sandboxes) == {"a[0]", "a[1]", "b[0]", "b[1]"}
    plan = rolled(crossed("two"), crossed("one"), targets=("a[1]", "b[1]"))
    assert plan.refusals == ()
    assert sorted(step.key for step in plan.steps) == ["a[1]", "b[1]"]
