"""Labels that are fixed at creation: what they vouch for, and what they do not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from reconciler.core.calls import Call, CallKind
from reconciler.core.identity import label_hash
from reconciler.core.ledger import Ledger
from reconciler.core.planner import make_plan
from reconciler.model.desired import DesiredSandbox, Resources, Scalar, fingerprint
from reconciler.model.observed import Observed, ObservedSandbox
from reconciler.model.plan import Action, Plan, Reason
from reconciler.model.state import State, Status
from tests.support.build import ABLE, desired, options, record, seen, state, wanted

FIXED = replace(ABLE, updatable=("resources",), relabels=False)


def sandbox(memory: int, image: str = "one") -> DesiredSandbox:
    return wanted("a", image=image, resources=Resources(memory=memory))


def live(of: DesiredSandbox, attributes: Mapping[str, Scalar] | None, **more: object) -> ObservedSandbox:
    label = label_hash(of.spec.canonical(), FIXED)
    return seen(of, label=label, attributes=attributes, **more)  # type: ignore[arg-type]


def plan_of(config: DesiredSandbox, known: State | None, *there: ObservedSandbox) -> Plan:
    return make_plan(desired(config), known, Observed(sandboxes=there), options(capabilities=FIXED))


class TestTheHash:
    FLAT = {"image": "one", "labels.a": "x", "resources.memory": 5, "resourceful": "y"}  # noqa: RUF012

    def test_covers_everything_where_labels_can_be_renewed(self) -> None:
        assert label_hash(self.FLAT, ABLE) == fingerprint(self.FLAT)

    def test_covers_only_what_is_fixed_where_labels_are_fixed_too(self) -> None:
        rest = {path: value for path, value in self.FLAT.items() if path != "resources.memory"}
        assert label_hash(self.FLAT, FIXED) == fingerprint(rest)

    def test_tells_two_specifications_apart_that_differ_in_a_fixed_field(self) -> None:
        assert label_hash(self.FLAT, FIXED) != label_hash({**self.FLAT, "image": "two"}, FIXED)


def test_the_ledger_labels_with_that_hash_and_records_the_whole() -> None:
    of = sandbox(5)
    plan = plan_of(of, None)
    ledger = Ledger(plan, {"main": FIXED})
    call = Call(id=1, kind=CallKind.CREATE, step=plan.steps[0], backend="main", timeout=1.0)
    owner = ledger.spec_of(call).owner
    [intent] = ledger.intents([call], 0.0)
    assert owner is not None
    assert owner.spec_hash == label_hash(of.spec.canonical(), FIXED)
    assert intent.spec_hash == fingerprint(of.spec.canonical()) != owner.spec_hash


def test_after_a_change_in_place_the_label_stays_and_nothing_is_to_do() -> None:
    now = sandbox(2)
    there = live(sandbox(1), {"image": "one", "resources.memory": 2})
    assert plan_of(now, state(record(now)), there).empty


class TestWithoutARecord:
    def test_what_lives_as_declared_is_adopted(self) -> None:
        [step] = plan_of(sandbox(2), state(), live(sandbox(1), {"image": "one", "resources.memory": 2})).steps
        assert (step.action, step.changes) == (Action.ADOPT, ())

    @pytest.mark.parametrize(
        ("attributes", "before"),
        [
            pytest.param({"image": "one", "resources.memory": 1}, 1, id="another value lives"),
            pytest.param({"image": "one"}, None, id="none lives"),
            pytest.param(None, None, id="nothing can be read back"),
        ],
    )
    def test_what_can_change_in_place_is_changed_in_place(
        self, attributes: Mapping[str, Scalar] | None, before: Scalar
    ) -> None:
        """Nobody knows what was applied, so it is not called drift either."""
        [step] = plan_of(sandbox(2), state(), live(sandbox(1), attributes)).steps
        assert (step.action, step.reason) == (Action.UPDATE, Reason.CONFIG_CHANGED)
        assert [(c.path, c.before, c.after, c.forces_replacement, c.outside) for c in step.changes] == [
            ("resources.memory", before, 2, False, False)
        ]

    def test_what_is_fixed_and_differs_is_replaced_and_the_field_is_named(self) -> None:
        there = live(sandbox(2, image="old"), {"image": "old", "resources.memory": 2})
        [step] = plan_of(sandbox(2), state(), there).steps
        assert step.action is Action.REPLACE
        assert [(c.path, c.before, c.after) for c in step.changes] == [("image", "old", "one")]

    def test_what_is_fixed_and_cannot_be_read_back_is_told_by_its_fingerprint(self) -> None:
        [step] = plan_of(sandbox(2), state(), live(sandbox(2, image="old"), None)).steps
        assert step.action is Action.REPLACE
        assert [c.path for c in step.changes] == ["fingerprint"]


def test_an_interrupted_create_of_that_object_is_trusted_for_what_it_meant() -> None:
    of = sandbox(2)
    [step] = plan_of(of, state(record(of, status=Status.PENDING)), live(of, None)).steps
    assert (step.action, step.reason) == (Action.ADOPT, Reason.UNFINISHED)


def test_an_interrupted_create_says_nothing_about_an_older_object_of_that_id() -> None:
    of = sandbox(2)
    older = live(sandbox(2, image="old"), {"image": "old", "resources.memory": 2})
    [step] = plan_of(of, state(record(of, status=Status.PENDING)), older).steps
    assert step.action is Action.REPLACE


def test_drift_of_a_field_that_changes_in_place_is_still_drift() -> None:
    of = sandbox(2)
    [step] = plan_of(of, state(record(of)), live(of, {"resources.memory": 9})).steps
    assert (step.action, step.reason) == (Action.UPDATE, Reason.DRIFTED)
    assert [(c.before, c.after, c.outside) for c in step.changes] == [(9, 2, True)]
