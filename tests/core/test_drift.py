"""Drift out of a plan: measured against what was last applied, never against an edit that waits for its apply."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.core.applied import Applied, as_applied
from reconciler.core.drift import corrections, drifts, explained, with_waits
from reconciler.core.planner import make_plan
from reconciler.core.references import mark
from reconciler.model.desired import Address, Desired, Lifecycle
from reconciler.model.drift import Cause, Drift, Provenance
from reconciler.model.lifecycle import DriftPolicy, Move, Policy
from reconciler.model.observed import Observed, ObservedSandbox, Phase
from reconciler.model.plan import Action, Plan, Reason
from reconciler.model.state import State, Status
from tests.support.build import desired, options, record, seen, state, wanted

WEB, DB = Address("web"), Address("db")


def looked(
    now: Desired,
    was: State,
    *live: ObservedSandbox,
    silent: tuple[Address, ...] = (),
    unseen: tuple[str, ...] = (),
) -> tuple[Plan, Applied, dict[Address, Drift]]:
    applied = as_applied(now, was, unseen=unseen)
    observed = Observed(sandboxes=tuple(one for one in live if one.backend not in unseen))
    plan = make_plan(applied.desired, was, observed, replace(options(), silent=frozenset(silent)))
    return plan, applied, {drift.address: drift for drift in drifts(plan, applied)}


class TestWhatIsDrift:
    def test_nothing_when_all_is_as_applied(self) -> None:
        web = wanted("web")
        assert looked(desired(web), state(record(web)), seen(web))[2] == {}

    @pytest.mark.parametrize(
        ("live", "cause", "action"),
        [
            ((), Cause.UNKNOWN, Action.CREATE),
            ((Phase.STOPPED,), Cause.UNKNOWN, Action.REPAIR),
            ((Phase.PAUSED,), Cause.PAUSED, Action.REPAIR),
            ((Phase.TERMINATING,), Cause.REMOVED, Action.CREATE),
        ],
    )
    def test_what_is_gone_dead_or_paused(self, live: tuple[Phase, ...], cause: Cause, action: Action) -> None:
        web = wanted("web")
        found = looked(desired(web), state(record(web)), *(seen(web, phase=phase) for phase in live))[2]
        assert (found[WEB].cause, found[WEB].action) == (cause, action)

    def test_a_field_that_was_changed_outside(self) -> None:
        web = wanted("web", image="a:1")
        flat = {**web.spec.canonical(), "image": "evil:1"}
        found = looked(desired(web), state(record(web)), seen(web, attributes=flat))[2]
        assert found[WEB].cause is Cause.EDITED
        assert [(c.path, c.before, c.after) for c in found[WEB].changes] == [("image", "evil:1", "a:1")]

    def test_what_runs_and_does_not_answer(self) -> None:
        web = wanted("web")
        found = looked(desired(web), state(record(web)), seen(web), silent=(WEB,))[2]
        assert (found[WEB].cause, found[WEB].reason, found[WEB].action) == (
            Cause.SILENT, Reason.SILENT, Action.REPAIR,
        )  # fmt: skip

    def test_what_is_too_old(self) -> None:
        web = wanted("web", lifecycle=Lifecycle(max_lifetime=10.0))
        applied = as_applied(desired(web), state(record(web)))
        plan = make_plan(
            applied.desired,
            state(record(web)),
            Observed(sandboxes=(seen(web),)),
            replace(options(), now=111.0),
        )
        assert [drift.cause for drift in drifts(plan, applied)] == [Cause.EXPIRED]

    def test_what_an_apply_left_unfinished(self) -> None:
        web = wanted("web")
        found = looked(desired(web), state(record(web, status=Status.TAINTED)), seen(web))[2]
        assert found[WEB].cause is Cause.INTERRUPTED

    def test_a_stray_with_our_labels_is_told_and_left_to_an_apply(self) -> None:
        web, stray = wanted("web"), wanted("stray")
        plan, applied, found = looked(desired(web), state(record(web)), seen(web), seen(stray))
        assert (found[Address("stray")].cause, found[Address("stray")].action) == (Cause.STRAY, None)
        assert corrections(plan, applied, [Address("stray")]).empty

    def test_what_is_protected_is_told_and_not_replaced(self) -> None:
        web = wanted("web", image="a:1", lifecycle=Lifecycle(prevent_destroy=True))
        flat = {**web.spec.canonical(), "image": "evil:1"}
        kept = replace(record(web), protected=True)
        plan, applied, found = looked(desired(web), state(kept), seen(web, attributes=flat))
        assert found[WEB].action is None
        assert "protected" in found[WEB].why_not
        assert corrections(plan, applied, [WEB]).empty


class TestWhatWaitsForAnApply:
    """None of it is drift, and no correction carries it out."""

    def test_a_sandbox_that_is_new(self) -> None:
        web = wanted("web")
        _, applied, found = looked(desired(web), state())
        assert found == {}
        assert applied.pending == {WEB: "declared, and not applied yet"}

    def test_one_that_is_not_declared_any_more(self) -> None:
        web, db = wanted("web"), wanted("db")
        _, applied, found = looked(desired(web), state(record(web), record(db)), seen(web), seen(db))
        assert found == {}
        assert list(applied.pending) == [DB]

    def test_an_edit_of_one_that_lives(self) -> None:
        before, now = wanted("web", image="a:1"), wanted("web", image="a:2")
        _, applied, found = looked(desired(now), state(record(before)), seen(before))
        assert found == {}
        assert applied.pending == {WEB: "image changed"}

    def test_an_edited_one_that_died_comes_back_as_it_was(self) -> None:
        before, now = wanted("web", image="a:1"), wanted("web", image="a:2")
        plan, applied, found = looked(desired(now), state(record(before)))
        assert found[WEB].action is Action.CREATE
        assert corrections(plan, applied, [WEB]).steps[0].spec["image"] == "a:1"

    def test_a_new_rule_of_its_life_cycle(self) -> None:
        before, now = wanted("web"), wanted("web", lifecycle=Lifecycle(prevent_destroy=True))
        assert looked(desired(now), state(record(before)), seen(before))[2] == {}

    def test_another_backend(self) -> None:
        before, now = wanted("web"), wanted("web", backend="other")
        plan, applied, found = looked(desired(now), state(record(before)))
        assert found[WEB].backend == "main"
        assert corrections(plan, applied, [WEB]).steps[0].backend == "main"

    def test_a_new_name(self) -> None:
        before = wanted("web")
        now = replace(desired(wanted("site")), moved=(Move(source="web", target="site"),))
        plan, applied, found = looked(now, state(record(before)), seen(before))
        assert found == {}
        assert set(applied.pending) == {WEB, Address("site")}
        assert plan.moves == ()


class TestReferences:
    def test_what_refers_to_one_that_is_elsewhere_now_follows_it(self) -> None:
        db = wanted("db")
        web = wanted("web", references=["db"], environment={"DB": mark(DB, "url")})
        was = record(wanted("web", depends_on=["db"], environment={"DB": "http://old.test"}))
        live = seen(wanted("web", depends_on=["db"], environment={"DB": "http://old.test"}))
        plan, applied, found = looked(desired(db, web), state(record(db), was), seen(db), live)
        assert applied.pending == {}
        assert found[WEB].cause is Cause.FOLLOWS
        assert corrections(plan, applied, [WEB]).steps[0].spec["environment.DB"] == seen(db).info.sandbox_url

    def test_it_goes_with_the_one_it_refers_to(self) -> None:
        db = wanted("db")
        web = wanted("web", references=["db"], environment={"DB": mark(DB, "url")})
        applied_web = wanted("web", depends_on=["db"], environment={"DB": seen(db).info.sandbox_url})
        plan, applied, found = looked(
            desired(db, web), state(record(db), record(applied_web)), seen(applied_web)
        )
        assert found[DB].action is Action.CREATE
        assert [step.address for step in corrections(plan, applied, [DB]).steps] == [DB, WEB]


def waits(_: Plan, applied: Applied, found: dict[Address, Drift]) -> dict[Address, Address]:
    told = with_waits(found.values(), applied.desired)
    return {drift.address: drift.waits_for for drift in told if drift.waits_for is not None}


class TestCorrections:
    def test_only_what_is_asked_for(self) -> None:
        web, db = wanted("web"), wanted("db")
        plan, applied, _ = looked(desired(web, db), state(record(web), record(db)))
        assert [step.address for step in corrections(plan, applied, [WEB]).steps] == [WEB]

    @pytest.mark.parametrize("policy", [DriftPolicy.REPORT, DriftPolicy.IGNORE])
    def test_never_what_its_policy_leaves_alone(self, policy: DriftPolicy) -> None:
        web = replace(wanted("web"), drift=policy)
        plan, applied, found = looked(desired(web), state(record(web)))
        assert found[WEB].policy is policy
        assert corrections(plan, applied, [WEB]).empty

    def test_what_needs_one_that_is_not_put_back_waits(self) -> None:
        db, web = wanted("db"), wanted("web", depends_on=["db"])
        plan, applied, _ = looked(desired(web, db), state(record(web), record(db)))
        assert corrections(plan, applied, [WEB]).empty
        assert len(corrections(plan, applied, [WEB, DB]).steps) == 2

    def test_what_waits_is_told_with_what_it_waits_for(self) -> None:
        """Down to the one that somebody has to look after."""
        db = replace(wanted("db"), drift=DriftPolicy.REPORT)
        web, front = wanted("web", depends_on=["db"]), wanted("front", depends_on=["web"])
        declared, was = desired(web, db, front), state(record(web), record(db), record(front))
        assert waits(*looked(declared, was)) == {WEB: DB, Address("front"): DB}
        assert waits(*looked(declared, was, seen(web))) == {}, "what needs one that runs does not wait"
        assert waits(*looked(desired(web, wanted("db"), front), was)) == {}, "all of them are put back"

    def test_too_many_at_once_are_refused(self) -> None:
        all_of_them = [wanted(f"web[{n}]") for n in range(4)]
        declared = replace(desired(*all_of_them), policy=Policy(max_drift_percent=50.0))
        plan, applied, found = looked(declared, state(*map(record, all_of_them)), seen(all_of_them[0]))
        refused = corrections(plan, applied, found)
        assert [refusal.code for refusal in refused.refusals] == ["max-drift-percent"]


class TestWhatCannotBeSeen:
    def test_it_is_neither_gone_nor_touched_and_nor_is_what_needs_it(self) -> None:
        db, web, other = wanted("db", backend="far"), wanted("web", depends_on=["db"]), wanted("other")
        was = state(record(db), record(web), record(other))
        plan, applied, found = looked(desired(db, web, other), was, unseen=("far",))
        assert set(found) == {Address("other")}
        assert applied.unseen == {DB, WEB}
        assert [step.address for step in corrections(plan, applied, [DB, WEB, Address("other")]).steps] == [
            "other"
        ]


def test_what_a_backend_knows_explains_it() -> None:
    web = wanted("web")
    found = looked(desired(web), state(record(web)))[2].values()
    known = {drift.sandbox_id: Provenance(cause=Cause.REMOVED, detail="docker rm", at=5.0) for drift in found}
    assert [(d.cause, d.detail, d.at) for d in explained(found, known)] == [(Cause.REMOVED, "docker rm", 5.0)]


def test_what_a_backend_does_not_know_is_told_as_it_was_seen() -> None:
    web = wanted("web")
    found = tuple(looked(desired(web), state(record(web)))[2].values())
    assert explained(found, {}) == found
