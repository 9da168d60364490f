"""The new one first: what is planned, in which order it is done, and what becomes of the old one when it goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from reconciler.core.calls import CallKind
from reconciler.core.planner import make_plan
from reconciler.core.references import mark
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Address, DesiredSandbox, Resources
from reconciler.model.observed import Observed, ObservedSandbox, Phase
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Action, Plan, Reason
from reconciler.model.state import State, Status
from tests.core.test_schedule import Driver
from tests.support.build import desired, options, record, seen, state, wanted

OLD = wanted("a", image="one", create_first=True)
NEW = wanted("a", image="two", create_first=True)
NEWER = wanted("a", image="three", create_first=True)


def plan_of(config: tuple[DesiredSandbox, ...], known: State | None, *live: ObservedSandbox) -> Plan:
    return make_plan(desired(*config), known, Observed(sandboxes=live), options())


def half_done(status: Status, generation: int = 2) -> State:
    """What a run leaves that was killed, or failed, while it replaced OLD by NEW."""
    return state(record(NEW, generation=generation, status=status))


class TestWhatIsPlanned:
    def test_it_says_so_in_symbol_and_cost(self) -> None:
        plan = plan_of((NEW,), state(record(OLD)), seen(OLD))
        [step] = plan.steps
        assert (step.action, step.reason, step.create_first) == (Action.REPLACE, Reason.CONFIG_CHANGED, True)
        assert step.symbol == "+/-"
        assert step.cost == "new one first, no downtime"
        assert plan.text().splitlines()[1].startswith("+/- a [main] config_changed -> ")

    def test_drift_is_undone_in_the_same_order(self) -> None:
        [step] = plan_of((OLD,), state(record(OLD)), seen(OLD, attributes={"image": "other"})).steps
        assert (step.reason, step.create_first) == (Reason.DRIFTED, True)

    def test_moving_to_another_backend_goes_in_the_same_order(self) -> None:
        moved = wanted("a", image="one", backend="other", create_first=True)
        [step] = plan_of((moved,), state(record(OLD)), seen(OLD)).steps
        assert (step.reason, step.create_first) == (Reason.MOVED_BACKEND, True)

    def test_what_changes_in_place_is_not_replaced(self) -> None:
        before = wanted("a", resources=Resources(memory=1), create_first=True)
        after = wanted("a", resources=Resources(memory=2), create_first=True)
        [step] = plan_of((after,), state(record(before)), seen(before)).steps
        assert (step.action, step.create_first, step.symbol) == (Action.UPDATE, False, "~")

    @pytest.mark.parametrize(
        "phase", [pytest.param(Phase.FAILED, id="dead"), pytest.param(Phase.PAUSED, id="paused")]
    )
    def test_what_answers_nobody_is_repaired_not_kept(self, phase: Phase) -> None:
        [step] = plan_of((NEW,), state(record(OLD)), seen(OLD, phase=phase)).steps
        assert (step.action, step.create_first) == (Action.REPAIR, False)

    def test_what_carries_no_labels_goes_first_and_the_plan_says_why(self) -> None:
        imported = state(replace(record(OLD), imported=True))
        [step] = plan_of((NEW,), imported, seen(OLD, labelled=False)).steps
        assert (step.action, step.create_first) == (Action.REPLACE, False)
        assert "no labels of ours" in step.cost

    def test_what_refers_to_it_waits_until_the_new_one_is_ready(self) -> None:
        app = wanted("app", environment={"A": mark(Address("a"), "url")}, references=["a"])
        before = wanted("app", environment={"A": seen(OLD).info.sandbox_url}, references=["a"])
        plan = plan_of((NEW, app), state(record(OLD), record(before)), seen(OLD), seen(before))
        assert {step.address: (step.action, step.needs) for step in plan.steps} == {
            "a": (Action.REPLACE, ()),
            "app": (Action.REPLACE, ("a",)),
        }


class TestAfterAnInterruption:
    def test_a_create_that_never_came_to_be_is_made_under_the_same_name(self) -> None:
        [step] = plan_of((NEW,), half_done(Status.PENDING), seen(OLD)).steps
        assert (step.action, step.create_first) == (Action.REPLACE, True)
        assert step.sandbox_id == record(NEW, generation=2).sandbox_id
        assert step.current == seen(OLD)

    def test_a_new_one_that_is_there_is_awaited_and_the_old_one_goes_after_it(self) -> None:
        plan = plan_of((NEW,), half_done(Status.CREATED), seen(OLD), seen(NEW, generation=2))
        assert [(step.action, step.reason, step.needs) for step in plan.steps] == [
            (Action.ADOPT, Reason.UNFINISHED, ()),
            (Action.DESTROY, Reason.SUPERSEDED, ("a",)),
        ]
        assert plan.steps[1].sandbox_id == seen(OLD).info.sandbox_id

    def test_a_new_one_that_has_answered_lets_the_old_one_go_at_once(self) -> None:
        [step] = plan_of((NEW,), half_done(Status.READY), seen(OLD), seen(NEW, generation=2)).steps
        assert (step.action, step.reason, step.needs) == (Action.DESTROY, Reason.SUPERSEDED, ())

    @pytest.mark.parametrize(
        ("status", "phase"),
        [
            pytest.param(Status.TAINTED, Phase.STARTING, id="never became ready"),
            pytest.param(Status.CREATED, Phase.FAILED, id="died before it was ready"),
            pytest.param(Status.READY, Phase.FAILED, id="died after it was ready"),
        ],
    )
    def test_a_broken_new_one_is_repaired_while_the_old_one_stays(self, status: Status, phase: Phase) -> None:
        plan = plan_of((NEW,), half_done(status), seen(OLD), seen(NEW, generation=2, phase=phase))
        repair, destroy = plan.steps
        assert (repair.action, repair.generation, repair.needs) == (Action.REPAIR, 3, ())
        assert repair.current == seen(NEW, generation=2, phase=phase)
        assert repair.cost == "the one before it stays until the new one is ready"
        assert (destroy.sandbox_id, destroy.needs) == (seen(OLD).info.sandbox_id, ("a",))

    def test_a_dead_old_one_serves_nobody_and_goes_at_once(self) -> None:
        dead = seen(OLD, phase=Phase.FAILED)
        plan = plan_of((NEW,), half_done(Status.CREATED), dead, seen(NEW, generation=2))
        assert [(step.action, step.needs) for step in plan.steps] == [
            (Action.DESTROY, ()),
            (Action.ADOPT, (plan.steps[0].key,)),
        ]

    def test_nothing_goes_while_nobody_can_tell_how_the_new_one_is(self) -> None:
        plan = plan_of(
            (NEW,), half_done(Status.CREATED), seen(OLD), seen(NEW, generation=2, phase=Phase.UNKNOWN)
        )
        assert plan.empty
        assert [d.code for d in plan.diagnostics] == ["phase-unknown"]

    def test_a_configuration_that_went_back_keeps_the_old_one(self) -> None:
        [step] = plan_of((OLD,), half_done(Status.PENDING), seen(OLD)).steps
        assert (step.action, step.sandbox_id) == (Action.ADOPT, seen(OLD).info.sandbox_id)

    def test_a_third_one_never_has_to_live_beside_one_that_never_answered(self) -> None:
        plan = plan_of((NEWER,), half_done(Status.CREATED), seen(OLD), seen(NEW, generation=2))
        own, destroy = plan.steps
        assert (own.action, own.create_first, own.generation) == (Action.REPLACE, False, 3)
        assert own.cost == "the one before it stays until the new one is ready"
        assert (destroy.sandbox_id, destroy.needs) == (seen(OLD).info.sandbox_id, ("a",))

    def test_a_leftover_of_one_that_answered_makes_room_for_the_next(self) -> None:
        plan = plan_of((NEWER,), half_done(Status.READY), seen(OLD), seen(NEW, generation=2))
        destroy, own = plan.steps
        assert (destroy.reason, destroy.needs) == (Reason.SUPERSEDED, ())
        assert (own.create_first, own.needs) == (True, (destroy.key,))

    def test_a_younger_leftover_never_lends_its_name_to_the_new_one(self) -> None:
        plan = plan_of((NEW,), state(record(OLD)), seen(OLD), seen(NEWER, generation=2))
        assert {step.action: step.generation for step in plan.steps} == {
            Action.DESTROY: 2,
            Action.REPLACE: 3,
        }

    def test_two_that_nobody_recorded_are_told_apart_by_age(self) -> None:
        plan = plan_of((NEW,), state(), seen(OLD), seen(NEW, generation=2))
        assert [(step.action, step.needs) for step in plan.steps] == [
            (Action.ADOPT, ()),
            (Action.DESTROY, ("a",)),
        ]

    def test_without_create_first_a_leftover_goes_before_anything_else(self) -> None:
        plain = wanted("a", image="two")
        known = state(record(plain, generation=2, status=Status.CREATED))
        plan = plan_of((plain,), known, seen(OLD), seen(plain, generation=2))
        assert [(step.action, step.needs) for step in plan.steps] == [
            (Action.DESTROY, ()),
            (Action.ADOPT, (plan.steps[0].key,)),
        ]


def driver() -> Driver:
    return Driver(NEW, known=state(record(OLD)), live=(seen(OLD),))


def created(run: Driver) -> None:
    run.answer(run.one(CallKind.CHECK), seen=seen(OLD))
    run.answer(run.one(CallKind.CREATE), info=seen(NEW, generation=2).info)


class TestWhatIsDone:
    def test_the_old_one_goes_after_the_new_one_has_answered_and_is_checked_again(self) -> None:
        run = driver()
        created(run)
        probe = run.one(CallKind.PROBE)
        assert probe.info == seen(NEW, generation=2).info
        run.answer(probe, ready=True)
        check = run.one(CallKind.CHECK)
        assert check.info == seen(OLD).info
        run.answer(check, seen=seen(OLD))
        destroy = run.one(CallKind.DESTROY)
        assert destroy.info == seen(OLD).info
        run.answer(destroy)
        [result] = run.scheduler.results()
        assert (result.status, result.ready) == (StepStatus.DONE, True)
        assert result.info == seen(NEW, generation=2).info

    def test_each_call_goes_to_the_backend_of_its_object(self) -> None:
        moved = wanted("a", image="one", backend="other", create_first=True)
        run = Driver(moved, known=state(record(OLD)), live=(seen(OLD),))
        asked: list[tuple[str, str]] = []
        answers: dict[CallKind, dict[str, object]] = {
            CallKind.CHECK: {"seen": seen(OLD)},
            CallKind.CREATE: {"info": seen(moved, generation=2).info},
            CallKind.PROBE: {"ready": True},
            CallKind.DESTROY: {},
        }
        while not run.scheduler.done:
            [call] = run.due()
            asked.append((str(call.kind), call.backend))
            run.answer(call, **answers[call.kind])
        assert asked == [
            ("check", "main"),
            ("create", "other"),
            ("probe", "other"),
            ("check", "main"),
            ("destroy", "main"),
        ]

    def test_one_that_went_by_itself_is_not_looked_for_again(self) -> None:
        run = driver()
        run.answer(run.one(CallKind.CHECK), seen=None)
        run.answer(run.one(CallKind.CREATE), info=seen(NEW, generation=2).info)
        run.answer(run.one(CallKind.PROBE), ready=True)
        assert run.statuses() == {"a": "done"}

    def test_one_that_went_meanwhile_need_not_be_destroyed(self) -> None:
        run = driver()
        created(run)
        run.answer(run.one(CallKind.PROBE), ready=True)
        run.answer(run.one(CallKind.CHECK), seen=None)
        assert run.statuses() == {"a": "done"}

    def test_another_object_in_its_place_is_left_alone_though_the_new_one_is_ready(self) -> None:
        run = driver()
        created(run)
        run.answer(run.one(CallKind.PROBE), ready=True)
        run.answer(run.one(CallKind.CHECK), seen=replace(seen(OLD), owner=None))
        [result] = run.scheduler.results()
        assert (result.status, result.ready) == (StepStatus.STALE, True)
        assert run.due() == []

    def test_dependents_start_after_all_of_it(self) -> None:
        run = Driver(NEW, wanted("b", depends_on=["a"]), known=state(record(OLD)), live=(seen(OLD),))
        created(run)
        run.answer(run.one(CallKind.PROBE), ready=True)
        run.answer(run.one(CallKind.CHECK), seen=seen(OLD))
        run.answer(run.one(CallKind.DESTROY))
        assert run.one(CallKind.CREATE).step.address == "b"


def _create_fails(run: Driver) -> None:
    run.answer(run.one(CallKind.CHECK), seen=seen(OLD))
    run.answer(run.one(CallKind.CREATE), error="no such image")


def _never_ready(run: Driver) -> None:
    created(run)
    run.answer(run.one(CallKind.PROBE), dead=True, detail="exit code 1")


def _stopped(run: Driver) -> None:
    created(run)
    probe = run.one(CallKind.PROBE)
    run.scheduler.stop(0.0)
    run.answer(probe, ready=False)


class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        ("breaks", "error"),
        [
            pytest.param(_create_fails, "no such image", id="the create fails"),
            pytest.param(_never_ready, "exit code 1", id="the new one dies before it is ready"),
            pytest.param(_stopped, "it was not ready yet", id="the run is stopped while it waits"),
        ],
    )
    def test_the_old_one_stays_untouched_and_that_is_said(
        self, breaks: Callable[[Driver], None], error: str
    ) -> None:
        run = driver()
        breaks(run)
        [result] = run.scheduler.results()
        assert result.status is not StepStatus.DONE
        assert result.error == f"{error}; the old one ({seen(OLD).info.sandbox_id}) was left running"
        assert run.due() == []

    def test_an_old_one_that_cannot_be_destroyed_does_not_make_the_new_one_less_ready(self) -> None:
        run = driver()
        created(run)
        run.answer(run.one(CallKind.PROBE), ready=True)
        run.answer(run.one(CallKind.CHECK), seen=seen(OLD))
        run.answer(run.one(CallKind.DESTROY), error="device busy")
        [result] = run.scheduler.results()
        assert (result.status, result.ready) == (StepStatus.FAILED, True)
        assert result.error == (
            f"the new one is ready, but the old one ({seen(OLD).info.sandbox_id}) is still there: device busy"
        )

    def test_a_stop_before_anything_was_created_changes_nothing(self) -> None:
        run = driver()
        check = run.one(CallKind.CHECK)
        run.scheduler.stop(0.0)
        run.answer(check, seen=seen(OLD))
        [result] = run.scheduler.results()
        assert (result.status, result.error) == (StepStatus.NOT_STARTED, "interrupted")

    def test_a_stop_after_the_new_one_answered_still_takes_the_old_one_away(self) -> None:
        run = driver()
        created(run)
        run.answer(run.one(CallKind.PROBE), ready=True)
        check = run.one(CallKind.CHECK)
        run.scheduler.stop(0.0)
        run.answer(check, seen=seen(OLD))
        run.answer(run.one(CallKind.DESTROY))
        assert run.statuses() == {"a": "done"}


def test_a_backend_that_cannot_label_destroys_first_whatever_is_declared() -> None:
    """Validation refuses it before; a plan made all the same must not leave an orphan behind."""
    plain = Capabilities(default=Support.ENFORCED, owns=False)
    live = Observed(sandboxes=(seen(OLD, labelled=False),))
    [step] = make_plan(desired(NEW), state(record(OLD)), live, options(capabilities=plain)).steps
    assert (step.action, step.create_first) == (Action.REPLACE, False)
