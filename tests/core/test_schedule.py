"""The scheduler, call by call, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconciler.core.calls import Answer, Call, CallKind, Limits
from reconciler.core.planner import make_plan
from reconciler.core.readiness import SETTLE
from reconciler.core.schedule import Scheduler
from reconciler.model.desired import DesiredSandbox, ProbeKind, Readiness
from reconciler.model.event import Activity, StepProgress
from reconciler.model.observed import Observed, ObservedSandbox, Phase
from reconciler.model.outcome import StepStatus
from reconciler.model.state import State, Status
from tests.support.build import desired, options, record, seen, state, wanted


class Driver:
    """A scheduler and a clock that only moves when told."""

    def __init__(
        self,
        *config: DesiredSandbox,
        known: State | None = None,
        live: tuple[ObservedSandbox, ...] = (),
        **limits: Any,
    ) -> None:
        self.plan = make_plan(desired(*config), known, Observed(sandboxes=live), options())
        self.scheduler = Scheduler(self.plan, Limits(**limits), jitter=lambda: 1.0)
        self.now = 0.0

    def due(self, at: float | None = None) -> list[Call]:
        self.now = self.now if at is None else at
        return self.scheduler.due(self.now)

    def answer(self, call: Call, **answer: Any) -> None:
        self.scheduler.result(call, Answer(**answer), self.now)

    def one(self, kind: CallKind, at: float | None = None) -> Call:
        [call] = self.due(at)
        assert call.kind is kind
        return call

    def statuses(self) -> dict[str, str]:
        return {result.address: str(result.status) for result in self.scheduler.results()}


def names(calls: list[Call]) -> list[str]:
    return [f"{call.kind} {call.step.address}" for call in calls]


def test_a_create_is_made_then_awaited() -> None:
    driver = Driver(wanted("a"))
    driver.answer(driver.one(CallKind.CREATE), info=seen(wanted("a")).info)
    driver.answer(driver.one(CallKind.PROBE), detail="not yet")
    assert driver.due() == []
    wake = driver.scheduler.wake(driver.now)
    assert wake is not None
    driver.answer(driver.one(CallKind.PROBE, at=wake), ready=True)
    assert driver.scheduler.done
    [result] = driver.scheduler.results()
    assert (result.status, result.ready, result.info) == (StepStatus.DONE, True, seen(wanted("a")).info)


def unasked(**answer: Any) -> tuple[Driver, list[Call]]:
    """A sandbox without readiness, created, and what is due a moment later."""
    driver = Driver(wanted("a", readiness=Readiness(kind=ProbeKind.NONE)))
    driver.answer(driver.one(CallKind.CREATE), info=seen(wanted("a")).info)
    assert driver.due() == []  # too soon to see it fall over
    return driver, driver.due(at=SETTLE)


def test_readiness_none_is_looked_at_once_and_not_awaited() -> None:
    driver, calls = unasked()
    assert names(calls) == ["probe a"]
    driver.answer(calls[0], ready=True)
    assert driver.statuses() == {"a": "done"}
    doing = [event.activity for event in driver.scheduler.events() if isinstance(event, StepProgress)]
    assert doing == [Activity.CREATING, Activity.CHECKING]


def test_readiness_none_still_fails_when_it_ended_at_once() -> None:
    driver, [call] = unasked()
    driver.answer(call, dead=True, detail="exit code 1")
    [result] = driver.scheduler.results()
    assert (result.status, result.ready, result.error) == (StepStatus.FAILED, False, "exit code 1")


def test_an_update_without_readiness_has_been_looked_at_already() -> None:
    old = wanted("a", labels={"team": "one"}, readiness=Readiness(kind=ProbeKind.NONE))
    new = wanted("a", labels={"team": "two"}, readiness=Readiness(kind=ProbeKind.NONE))
    driver = Driver(new, known=state(record(old)), live=(seen(old),))
    driver.answer(driver.one(CallKind.CHECK), seen=seen(old))
    driver.answer(driver.one(CallKind.UPDATE), info=seen(old).info)
    assert driver.statuses() == {"a": "done"}


def notes(driver: Driver) -> list[tuple[str, str]]:
    return [(e.activity, e.note) for e in driver.scheduler.events() if isinstance(e, StepProgress) and e.note]


def test_what_a_verb_tells_is_progress_of_its_step() -> None:
    driver = Driver(wanted("a"))
    create = driver.one(CallKind.CREATE)
    for note in ("pulling", "pulling", "pulled"):
        driver.scheduler.told("a", note, 1.0)
    assert notes(driver) == [(Activity.CREATING, "pulling"), (Activity.CREATING, "pulled")]
    driver.answer(create, info=seen(wanted("a")).info)
    driver.due()
    driver.scheduler.told("a", "late", 2.0)
    driver.scheduler.told("nobody", "late", 2.0)
    assert notes(driver) == []


def test_nothing_is_heard_of_a_step_that_has_ended() -> None:
    driver = Driver(wanted("a"))
    driver.answer(driver.one(CallKind.CREATE), error="refused")
    driver.scheduler.told("a", "late", 2.0)
    assert notes(driver) == []


def test_a_verb_that_tells_of_progress_may_take_longer_than_its_time() -> None:
    driver = Driver(wanted("a"), call_timeout=10.0, grace=0.0)
    driver.one(CallKind.CREATE)
    driver.scheduler.told("a", "34 of 120 MB", 9.0)
    driver.due(at=11.0)
    assert driver.statuses() == {}
    driver.scheduler.told("a", "34 of 120 MB", 18.0)  # the same again is no sign of life
    driver.due(at=19.0)
    assert driver.statuses() == {"a": "failed"}


def test_a_replacement_is_checked_destroyed_created_awaited() -> None:
    old, new = wanted("a", image="one"), wanted("a", image="two")
    driver = Driver(new, known=state(record(old)), live=(seen(old),))
    driver.answer(driver.one(CallKind.CHECK), seen=seen(old))
    destroy = driver.one(CallKind.DESTROY)
    assert destroy.info == seen(old).info
    driver.answer(destroy)
    driver.answer(driver.one(CallKind.CREATE), info=seen(new, generation=2).info)
    driver.answer(driver.one(CallKind.PROBE), ready=True)
    assert driver.statuses() == {"a": "done"}


def test_what_is_gone_by_itself_need_not_be_destroyed() -> None:
    old, new = wanted("a", image="one"), wanted("a", image="two")
    driver = Driver(new, known=state(record(old)), live=(seen(old),))
    driver.answer(driver.one(CallKind.CHECK), seen=None)
    driver.one(CallKind.CREATE)


MOVES = {
    "another object under the same id": {"info": seen(wanted("b")).info},
    "other labels": {"owner": None},
}


@pytest.mark.parametrize("move", MOVES)
def test_an_object_that_moved_is_not_touched(move: str) -> None:
    old = wanted("a", image="one")
    driver = Driver(known=state(record(old)), live=(seen(old),))
    driver.answer(driver.one(CallKind.CHECK), seen=replace(seen(old), **MOVES[move]))  # type: ignore[arg-type]
    assert driver.due() == []
    assert driver.statuses() == {"a": "stale"}


class TestADeadOneThatRunsAgain:
    def run(self, to: DesiredSandbox | None = None, **found: Any) -> tuple[Driver, ObservedSandbox]:
        of = wanted("a")
        driver = Driver(to or of, known=state(record(of)), live=(seen(of, phase=Phase.FAILED),))
        again = replace(seen(of), **{"phase": Phase.STARTING, **found})
        driver.answer(driver.one(CallKind.CHECK), seen=again)
        return driver, again

    def test_is_recorded_awaited_and_kept(self) -> None:
        driver, again = self.run(info=replace(seen(wanted("a")).info, sandbox_url="http://elsewhere:9"))
        noted = driver.one(CallKind.RECORD)
        assert noted.info == again.info
        driver.answer(noted, info=noted.info)
        probe = driver.one(CallKind.PROBE)
        assert probe.info == again.info
        driver.answer(probe, ready=True)
        [result] = driver.scheduler.results()
        assert (result.status, result.ready, result.info) == (StepStatus.DONE, True, again.info)
        assert notes(driver) == [(Activity.CHECKING, "it runs again: it is kept if it becomes ready")]

    def relapsed(self) -> Driver:
        driver, again = self.run()
        driver.answer(driver.one(CallKind.RECORD), info=again.info)
        driver.answer(driver.one(CallKind.PROBE), dead=True, detail="exit code 1")
        return driver

    def test_and_dies_again_is_replaced(self) -> None:
        driver = self.relapsed()
        old = seen(wanted("a"))
        driver.answer(driver.one(CallKind.CHECK), seen=old)  # up for a third time: once is enough
        gone = driver.one(CallKind.DESTROY)
        assert gone.info == old.info
        driver.answer(gone)
        new = replace(old.info, sandbox_id="new")
        driver.answer(driver.one(CallKind.CREATE), info=new)
        probe = driver.one(CallKind.PROBE)
        assert probe.info == new
        driver.answer(probe, ready=True)
        [result] = driver.scheduler.results()
        assert (result.status, result.ready, result.info) == (StepStatus.DONE, True, new)

    def test_and_becomes_another_while_it_is_awaited_is_left_alone(self) -> None:
        driver = self.relapsed()
        other = replace(seen(wanted("a")), info=replace(seen(wanted("a")).info, container_id="other"))
        driver.answer(driver.one(CallKind.CHECK), seen=other)
        assert driver.statuses() == {"a": "stale"}

    def test_is_interrupted_with_what_is_known_of_it(self) -> None:
        driver, again = self.run()
        driver.answer(driver.one(CallKind.RECORD), info=again.info)
        driver.answer(driver.one(CallKind.PROBE), detail="not yet")
        driver.scheduler.stop(driver.now)
        [result] = driver.scheduler.results()
        assert (result.status, result.ready, result.info) == (StepStatus.INTERRUPTED, None, again.info)

    def test_but_is_declared_otherwise_now_is_replaced(self) -> None:
        driver, _ = self.run(to=wanted("a", image="two"))
        assert driver.one(CallKind.DESTROY)

    def test_but_could_be_changed_in_place_is_left_to_the_next_plan(self) -> None:
        driver, _ = self.run(to=wanted("a", labels={"team": "two"}))
        assert driver.statuses() == {"a": "stale"}

    @pytest.mark.parametrize("phase", [Phase.FAILED, Phase.STOPPED, Phase.PAUSED])
    def test_needs_to_run_for_that(self, phase: Phase) -> None:
        driver, _ = self.run(phase=phase)
        assert driver.one(CallKind.DESTROY)

    def test_but_nobody_can_tell_is_left_alone(self) -> None:
        driver, _ = self.run(phase=Phase.UNKNOWN)
        assert driver.statuses() == {"a": "stale"}


def test_what_never_became_ready_is_replaced_although_it_runs() -> None:
    of = wanted("a")
    driver = Driver(of, known=state(record(of, status=Status.TAINTED)), live=(seen(of),))
    driver.answer(driver.one(CallKind.CHECK), seen=seen(of))
    assert driver.one(CallKind.DESTROY)


class TestLimits:
    def test_never_more_than_parallelism(self) -> None:
        driver = Driver(*(wanted(f"s[{i}]") for i in range(9)), parallelism=4)
        first = driver.due()
        assert len(first) == 4
        assert driver.due() == []
        driver.answer(first[0], info=seen(wanted("s[0]")).info)
        assert names(driver.due()) == ["probe s[0]", "create s[4]"]

    def test_one_backend_never_starves_another(self) -> None:
        config = [*(wanted(f"s[{i}]") for i in range(5)), wanted("x", backend="other")]
        driver = Driver(*config, parallelism=8, lanes={"main": 2, "other": 2})
        assert names(driver.due()) == ["create s[0]", "create s[1]", "create x"]

    def test_no_more_in_start_up_than_allowed(self) -> None:
        driver = Driver(wanted("a"), wanted("b"), starting=1)
        create = driver.one(CallKind.CREATE)
        driver.answer(create, info=seen(wanted("a")).info)
        probe = driver.one(CallKind.PROBE)
        driver.answer(probe, ready=True)
        assert names(driver.due()) == ["create b"]

    def test_a_hanging_probe_does_not_hold_up_creates(self) -> None:
        driver = Driver(wanted("a"), wanted("b"), wanted("c"), parallelism=1, probes=1)
        for name in "abc":
            create = next(c for c in driver.due() if c.kind is CallKind.CREATE)
            assert create.step.address == name
            driver.answer(create, info=seen(wanted(name)).info)


class TestRetries:
    def test_transient_is_tried_again_after_a_growing_pause(self) -> None:
        driver = Driver(wanted("a"), attempts=3, backoff=1.0)
        driver.answer(driver.one(CallKind.CREATE), error="busy", transient=True)
        assert driver.due() == []
        assert driver.scheduler.wake(0.0) == pytest.approx(1.0)
        driver.answer(driver.one(CallKind.CREATE, at=1.0), error="busy", transient=True)
        assert driver.scheduler.wake(1.0) == pytest.approx(3.0)
        driver.answer(driver.one(CallKind.CREATE, at=3.0), error="still busy", transient=True)
        [result] = driver.scheduler.results()
        assert (result.status, result.error, result.attempts) == (StepStatus.FAILED, "still busy", 3)

    def test_the_backends_wish_when_to_come_back_is_kept(self) -> None:
        driver = Driver(wanted("a"))
        driver.answer(driver.one(CallKind.CREATE), error="429", transient=True, retry_after=7.0)
        assert driver.scheduler.wake(0.0) == pytest.approx(7.0)

    def test_permanent_is_not(self) -> None:
        driver = Driver(wanted("a"))
        driver.answer(driver.one(CallKind.CREATE), error="no such image")
        assert driver.statuses() == {"a": "failed"}

    def test_the_budget_is_for_the_whole_run(self) -> None:
        driver = Driver(wanted("a"), wanted("b"), retry_budget=1)
        first, second = driver.due()
        driver.answer(first, error="busy", transient=True)
        driver.answer(second, error="busy", transient=True)
        assert driver.statuses() == {"b": "failed"}

    def test_a_retry_says_what_it_is_about(self) -> None:
        driver = Driver(wanted("a"))
        driver.answer(driver.one(CallKind.CREATE), error="busy", transient=True)
        notes = [e for e in driver.scheduler.events() if isinstance(e, StepProgress)]
        assert notes[-1].activity is Activity.RETRYING
        assert "busy" in notes[-1].note


class TestSilence:
    def test_a_call_without_an_answer_is_given_up_on_and_says_so(self) -> None:
        driver = Driver(wanted("a"), wanted("b", depends_on=["a"]), call_timeout=10.0, grace=1.0)
        call = driver.one(CallKind.CREATE)
        assert driver.scheduler.wake(0.0) == pytest.approx(11.0)
        driver.due(at=11.0)
        assert driver.statuses() == {"a": "failed", "b": "skipped"}
        driver.answer(call, info=seen(wanted("a")).info)
        assert driver.statuses() == {"a": "failed", "b": "skipped"}


class TestStop:
    def test_what_has_not_begun_does_not_begin(self) -> None:
        driver = Driver(wanted("a"), wanted("b"), parallelism=1)
        call = driver.one(CallKind.CREATE)
        driver.scheduler.stop(0.0)
        assert driver.due() == []
        assert not driver.scheduler.done
        driver.answer(call, info=seen(wanted("a")).info)
        assert driver.statuses() == {"a": "interrupted", "b": "not started"}

    def test_a_replacement_half_way_is_brought_to_its_create(self) -> None:
        old, new = wanted("a", image="one"), wanted("a", image="two")
        driver = Driver(new, known=state(record(old)), live=(seen(old),))
        driver.answer(driver.one(CallKind.CHECK), seen=seen(old))
        destroy = driver.one(CallKind.DESTROY)
        driver.scheduler.stop(0.0)
        driver.answer(destroy)
        driver.one(CallKind.CREATE)

    def test_what_was_only_looked_at_stays_as_it_is(self) -> None:
        old, new = wanted("a", image="one"), wanted("a", image="two")
        driver = Driver(new, known=state(record(old)), live=(seen(old),))
        check = driver.one(CallKind.CHECK)
        driver.scheduler.stop(0.0)
        driver.answer(check, seen=seen(old))
        assert driver.statuses() == {"a": "not started"}


def test_steps_that_wait_for_each_other_end_instead_of_hanging() -> None:
    from dataclasses import replace

    plan = make_plan(desired(wanted("a"), wanted("b")), None, Observed(), options())
    a, b = plan.steps
    scheduler = Scheduler(
        replace(plan, steps=(replace(a, needs=("b",)), replace(b, needs=("a",)))), Limits(), lambda: 0.5
    )
    assert scheduler.due(0.0) == []
    assert scheduler.done
    assert {str(result.status) for result in scheduler.results()} == {"skipped"}


def test_an_empty_plan_is_done_at_once() -> None:
    driver = Driver()
    assert driver.due() == []
    assert driver.scheduler.done
