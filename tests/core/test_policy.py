"""Limits on what one run may do: what trips them, what does not, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.core.planner import make_plan
from reconciler.model.desired import DesiredSandbox, Lifecycle
from reconciler.model.lifecycle import Policy, Removal, Rollout
from reconciler.model.observed import Observed, Phase
from reconciler.model.plan import Plan, Selection
from reconciler.model.position import Position
from tests.support.build import desired, options, record, seen, state, wanted

POLICY_AT = Position("sandboxes.yaml", 40, 1)


def fleet(count: int, image: str = "one", **fields: Any) -> list[DesiredSandbox]:
    return [wanted(f"s[{i}]", image=image, **fields) for i in range(count)]


def judged(
    config: Sequence[DesiredSandbox],
    there: Sequence[DesiredSandbox],
    policy: Policy,
    *,
    dead: int = 0,
    gone: int = 0,
    altered: int = 0,
    removed: tuple[Removal, ...] = (),
    **selection: Any,
) -> Plan:
    """The plan for a fleet of which the first few died, then some are gone, then some were altered."""
    live = []
    for number, sandbox in enumerate(there):
        if number < dead:
            live.append(seen(sandbox, phase=Phase.FAILED))
        elif number >= dead + gone:
            is_altered = number < dead + gone + altered
            live.append(seen(sandbox, attributes={"image": "altered"} if is_altered else None))
    declared = replace(desired(*config), policy=replace(policy, position=POLICY_AT), removed=removed)
    made_with = replace(options(), selection=Selection(**selection))
    return make_plan(declared, state(*map(record, there)), Observed(sandboxes=tuple(live)), made_with)


def codes(plan: Plan) -> list[str]:
    return [refusal.code for refusal in plan.refusals]


@pytest.mark.parametrize(
    ("policy", "left", "expected"),
    [
        pytest.param(Policy(), 1, [], id="without a limit nothing trips"),
        pytest.param(Policy(max_destroy=2), 8, [], id="as many as the limit says"),
        pytest.param(Policy(max_destroy=2), 7, ["max-destroy"], id="one more"),
        pytest.param(Policy(max_destroy=0), 9, ["max-destroy"], id="a limit of none"),
        pytest.param(Policy(max_destroy=0), 10, [], id="a limit of none, and nothing to destroy"),
        pytest.param(Policy(max_destroy_percent=20), 8, [], id="as large a share as the limit says"),
        pytest.param(Policy(max_destroy_percent=20), 7, ["max-destroy-percent"], id="a larger one"),
        pytest.param(
            Policy(max_destroy_percent=19.9), 8, ["max-destroy-percent"], id="a fraction of a percent"
        ),
        pytest.param(
            Policy(max_destroy=1, max_destroy_percent=10),
            7,
            ["max-destroy", "max-destroy-percent"],
            id="both limits are told",
        ),
    ],
)
def test_what_leaves_the_configuration_is_limited(policy: Policy, left: int, expected: list[str]) -> None:
    plan = judged(fleet(left), fleet(10), policy)
    assert codes(plan) == expected
    assert all(refusal.position == POLICY_AT and refusal.fix for refusal in plan.refusals)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({}, ["max-destroy"], id="replacements all at once count"),
        pytest.param({"rollout": Rollout()}, [], id="a rollout is limited by itself"),
        pytest.param({"backend": "other"}, ["max-destroy"], id="so does moving to another backend"),
        pytest.param(
            {"lifecycle": Lifecycle(create_first=True)}, ["max-destroy"], id="new ones first or not"
        ),
    ],
)
def test_replacements_count_unless_they_are_rolled_out(change: dict[str, Any], expected: list[str]) -> None:
    plan = judged(fleet(4, "two", **change), fleet(4), Policy(max_destroy=3))
    assert codes(plan) == expected


@pytest.mark.parametrize(
    ("change", "selection"),
    [
        pytest.param({}, {"destroy": True}, id="everything is to be destroyed"),
        pytest.param({}, {"replace": ("s",)}, id="replacements were asked for"),
        pytest.param({"image": "two"}, {"targets": ("s[0]",)}, id="a part within the limit is selected"),
        pytest.param({"image": "two"}, {"refresh_only": True}, id="only the state is written"),
    ],
)
def test_what_was_asked_for_is_not_limited_by_numbers(
    change: dict[str, Any], selection: dict[str, Any]
) -> None:
    assert codes(judged(fleet(4, **change), fleet(4), Policy(max_destroy=1), **selection)) == []


def test_repairs_are_not_limited_as_replacements() -> None:
    assert codes(judged(fleet(4), fleet(4), Policy(max_destroy=1, max_destroy_percent=1), dead=4)) == []


def test_what_is_let_go_is_not_destroyed() -> None:
    let_go = (Removal(source="s[1]", destroy=False), Removal(source="s[2]", destroy=False))
    assert codes(judged(fleet(1), fleet(3), Policy(max_destroy=0), removed=let_go)) == []


def test_an_empty_configuration_destroys_nothing_unless_that_is_said() -> None:
    there = fleet(3)
    assert codes(judged([], there, Policy())) == ["empty-configuration"]
    assert codes(judged([], there, Policy(), destroy=True)) == []
    assert codes(judged([], there, Policy(), targets=("s[0]",))) == []
    assert codes(judged([], there, Policy(), gone=3)) == []
    assert codes(judged([], there, Policy(), removed=(Removal(source="s"),))) == []
    assert codes(judged([], there, Policy(), removed=(Removal(source="s[0]"),))) == ["empty-configuration"]
    assert codes(judged([], [], Policy())) == []


@pytest.mark.parametrize(
    ("limit", "world", "expected"),
    [
        pytest.param(None, {"dead": 10}, [], id="without a limit nothing trips"),
        pytest.param(30, {"dead": 3}, [], id="as many as the limit says"),
        pytest.param(30, {"dead": 4}, ["max-drift-percent"], id="one more died"),
        pytest.param(30, {"gone": 4}, ["max-drift-percent"], id="one more is gone"),
        pytest.param(30, {"altered": 4}, ["max-drift-percent"], id="one more was altered"),
        pytest.param(
            30, {"dead": 2, "gone": 1, "altered": 1}, ["max-drift-percent"], id="all of that counts together"
        ),
        pytest.param(1, {"dead": 1}, [], id="a single one is put back under any limit"),
    ],
)
def test_much_drift_at_once_is_put_back_by_nobody(
    limit: float | None, world: dict[str, int], expected: list[str]
) -> None:
    assert codes(judged(fleet(10), fleet(10), Policy(max_drift_percent=limit), **world)) == expected


def test_drift_can_be_put_back_a_part_at_a_time() -> None:
    policy = Policy(max_drift_percent=30)
    assert codes(judged(fleet(10), fleet(10), policy, dead=10, targets=("s[0]", "s[1]"))) == []


def test_a_configuration_change_is_no_drift() -> None:
    assert codes(judged(fleet(10, "two"), fleet(10), Policy(max_drift_percent=1))) == []


@pytest.mark.parametrize("pattern", ["s[1]", "s", "s*", "label:tier=gold"])
def test_what_the_policy_protects_is_not_taken_down(pattern: str) -> None:
    there = fleet(2, labels={"tier": "gold"})
    changed = fleet(2, "two", labels={"tier": "gold"})
    policy = Policy(protected=(pattern,))
    plan = judged(changed, there, policy)
    assert set(codes(plan)) == {"protected"}
    assert "s[1]" in plan.refusals[-1].summary
    assert plan.refusals[0].position == POLICY_AT
    assert "protected" in codes(judged(there, there, policy, destroy=True))
    assert codes(judged(there, there, policy, dead=0)) == []


def test_the_policy_protects_what_is_declared_no_more() -> None:
    plan = judged(fleet(1), fleet(2), Policy(protected=("s*",)))
    assert codes(plan) == ["protected"]


def test_what_is_excluded_trips_nothing() -> None:
    policy = Policy(protected=("s[1]",))
    assert codes(judged(fleet(2, "two"), fleet(2), policy, excludes=("s[1]",))) == []
