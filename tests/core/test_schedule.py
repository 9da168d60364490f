"""The scheduler, call by call, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.core.calls import Answer, Call, CallKind, Limits
from reconciler.core.planner import make_plan
from reconciler.core.readiness import SETTLE
from reconciler.core.repair import LOOK_AGAIN
from reconciler.core.schedule import Scheduler
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import DesiredSandbox, Lifecycle, ProbeKind, Readiness
from reconciler.model.event import Activity, StepProgress
from reconciler.model.lifecycle import Rollout
from reconciler.model.observed import Observed, ObservedSandbox, Phase
from reconciler.model.outcome import StepStatus
from reconciler.model.state import State, Status
from tests.support.build import ABLE, desired, options, record, seen, state, wanted


class Driver:
    """A scheduler and a clock that only moves when told."""

    def __init__(
        self,
        *config: DesiredSandbox,
        known: State | None = None,
        live: tuple[ObservedSandbox, ...] = (),
        able: Capabilities = ABLE,
        **limits: Any,
    ) -> None:
        made_with = options(capabilities=able)
        self.plan = make_plan(desired(*config), known, Observed(sandboxes=live), made_with)
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


class TestTheRepairLadder:
    """What never became ready is waited for once more, restarted where that can be done, and only then replaced."""

    OF = wanted("a")

    def repair(self, *, restarts: bool = True, status: Status = Status.TAINTED, **more: Any) -> Driver:
        able = replace(ABLE, restarts=restarts)
        driver = Driver(
            self.OF, known=state(record(self.OF, status=status)), live=(seen(self.OF, **more),), able=able
        )
        driver.answer(driver.one(CallKind.CHECK), seen=seen(self.OF, **more))
        return driver

    def fail(self, driver: Driver, **answer: Any) -> None:
        """The probe that is due says for good that it is not ready; then it is looked at again."""
        driver.answer(driver.one(CallKind.PROBE), **{"dead": True, "detail": "it ended", **answer})
        driver.answer(driver.one(CallKind.CHECK), seen=seen(self.OF, phase=Phase.FAILED))

    def test_waiting_once_more_may_be_enough(self) -> None:
        driver = self.repair()
        driver.answer(driver.one(CallKind.RECORD), info=seen(self.OF).info)
        driver.answer(driver.one(CallKind.PROBE), ready=True)
        [result] = driver.scheduler.results()
        assert (result.status, result.tried) == (StepStatus.DONE, ("waited again: it answers",))
        assert result.info == seen(self.OF).info

    def test_then_it_is_restarted(self) -> None:
        driver = self.repair()
        driver.answer(driver.one(CallKind.RECORD), info=seen(self.OF).info)
        self.fail(driver)
        restart = driver.one(CallKind.RESTART)
        assert restart.info == seen(self.OF).info
        moved_on = replace(seen(self.OF).info, sandbox_url="http://elsewhere")
        driver.answer(restart, info=moved_on)
        probe = driver.one(CallKind.PROBE)
        assert probe.info == moved_on
        driver.answer(probe, ready=True)
        [result] = driver.scheduler.results()
        assert result.tried == ("waited again: it ended", "restarted: it answers")
        assert result.info == moved_on

    def test_then_it_is_replaced(self) -> None:
        driver = self.repair()
        driver.answer(driver.one(CallKind.RECORD), info=seen(self.OF).info)
        self.fail(driver)
        driver.answer(driver.one(CallKind.RESTART), info=seen(self.OF).info)
        self.fail(driver)
        assert driver.one(CallKind.DESTROY).info == seen(self.OF).info

    def test_a_restart_that_fails_is_a_rung_that_was_not_enough(self) -> None:
        driver = self.repair(status=Status.READY, phase=Phase.FAILED)
        driver.answer(driver.one(CallKind.RESTART), error="no such program")
        driver.answer(driver.one(CallKind.CHECK), seen=seen(self.OF, phase=Phase.FAILED))
        driver.answer(driver.one(CallKind.DESTROY))
        driver.answer(driver.one(CallKind.CREATE), info=seen(self.OF, generation=2).info)
        driver.answer(driver.one(CallKind.PROBE), ready=True)
        [result] = driver.scheduler.results()
        assert (result.status, result.tried) == (StepStatus.DONE, ("restarted: no such program",))

    def test_a_restart_for_which_there_is_no_space_is_no_reason_to_replace_it(self) -> None:
        """Its successor would find none either, and what it holds would be gone."""
        driver = self.repair(status=Status.READY, phase=Phase.FAILED)
        driver.answer(driver.one(CallKind.RESTART), error="no space left", hint="free some", no_space=True)
        [result] = driver.scheduler.results()
        assert (result.status, result.error, result.hint) == (StepStatus.FAILED, "no space left", "free some")

    def test_a_restart_is_tried_again_where_that_may_help(self) -> None:
        driver = self.repair(status=Status.READY, phase=Phase.FAILED)
        driver.answer(driver.one(CallKind.RESTART), error="busy", transient=True, retry_after=1.0)
        assert driver.one(CallKind.RESTART, at=1.0)

    def test_what_went_meanwhile_is_made_anew(self) -> None:
        driver = self.repair(status=Status.READY, phase=Phase.FAILED)
        driver.answer(driver.one(CallKind.RESTART), error="it is gone")
        driver.answer(driver.one(CallKind.CHECK), seen=None)
        assert driver.one(CallKind.CREATE)

    def test_waiting_once_more_is_short(self) -> None:
        of = wanted("a", readiness=Readiness(timeout=600))
        driver = Driver(of, known=state(record(of, status=Status.TAINTED)), live=(seen(of),))
        driver.answer(driver.one(CallKind.CHECK), seen=seen(of))
        driver.answer(driver.one(CallKind.RECORD), info=seen(of).info)
        driver.answer(driver.one(CallKind.PROBE), detail="not yet")
        driver.answer(driver.one(CallKind.PROBE, at=LOOK_AGAIN), detail="not yet")
        assert driver.one(CallKind.CHECK)

    def test_what_ended_is_not_waited_for(self) -> None:
        driver = self.repair(phase=Phase.FAILED)
        assert driver.one(CallKind.RESTART)

    def test_without_restarts_it_is_waited_for_and_replaced(self) -> None:
        driver = self.repair(restarts=False)
        driver.answer(driver.one(CallKind.RECORD), info=seen(self.OF).info)
        self.fail(driver)
        assert driver.one(CallKind.DESTROY)

    def test_what_changed_is_replaced_at_once(self) -> None:
        driver = Driver(
            wanted("a", image="two"),
            known=state(record(self.OF, status=Status.TAINTED)),
            live=(seen(self.OF),),
            able=replace(ABLE, restarts=True),
        )
        driver.answer(driver.one(CallKind.CHECK), seen=seen(self.OF))
        assert driver.plan.steps[0].passed_over == ("not waited for again: image changed",)
        assert driver.one(CallKind.DESTROY)

    def test_what_is_protected_is_never_replaced(self) -> None:
        of = wanted("a", lifecycle=Lifecycle(prevent_destroy=True))
        known = replace(record(of, status=Status.READY), protected=True)
        driver = Driver(
            of, known=state(known), live=(seen(of, phase=Phase.FAILED),), able=replace(ABLE, restarts=True)
        )
        driver.answer(driver.one(CallKind.CHECK), seen=seen(of, phase=Phase.FAILED))
        driver.answer(driver.one(CallKind.RESTART), error="no")
        driver.answer(driver.one(CallKind.CHECK), seen=seen(of, phase=Phase.FAILED))
        [result] = driver.scheduler.results()
        assert result.status is StepStatus.FAILED
        assert result.error == "it is broken and protected, so it is not replaced (restarted: no)"


class TestRollouts:
    """Waves open one after the other, each when the one before is healthy."""

    def rolling(self, count: int = 4, **rollout: Any) -> Driver:
        old = [wanted(f"s[{i}]", image="one") for i in range(count)]
        new = [wanted(f"s[{i}]", image="two", rollout=Rollout(**rollout)) for i in range(count)]
        return Driver(*new, known=state(*map(record, old)), live=tuple(map(seen, old)))

    def replaced(self, driver: Driver, *addresses: str, ready: bool = True) -> None:
        """Each is checked, destroyed, created and probed to its end."""
        calls = driver.due()
        assert names(calls) == [f"check {address}" for address in addresses]
        for kind in (CallKind.CHECK, CallKind.DESTROY, CallKind.CREATE):
            for call in calls:
                assert call.kind is kind
                current = call.step.current
                driver.answer(call, seen=current, info=seen(wanted(call.step.address), generation=2).info)
            calls = driver.due()
        for call in calls:
            driver.answer(call, ready=ready, dead=not ready, detail="" if ready else "it ended")

    def test_one_at_a_time(self) -> None:
        driver = self.rolling(3)
        for index in range(3):
            self.replaced(driver, f"s[{index}]")
        assert driver.statuses() == dict.fromkeys(("s[0]", "s[1]", "s[2]"), "done")

    def test_a_canary_goes_alone(self) -> None:
        driver = self.rolling(5, max_unavailable=2, canary=1)
        self.replaced(driver, "s[0]")
        self.replaced(driver, "s[1]", "s[2]")
        self.replaced(driver, "s[3]", "s[4]")
        assert driver.scheduler.done

    def test_a_bad_wave_stops_it(self) -> None:
        driver = self.rolling(4, max_unavailable=1)
        self.replaced(driver, "s[0]")
        self.replaced(driver, "s[1]", ready=False)
        assert driver.due() == []
        results = driver.scheduler.results()
        assert [str(r.status) for r in results] == ["done", "failed", "skipped", "skipped"]
        assert results[2].error == "the rollout of s stopped: s[1] failed"

    def test_it_has_to_stay_ready_for_a_while(self) -> None:
        driver = self.rolling(2, min_healthy=10.0)
        self.replaced(driver, "s[0]")
        for tick in range(1, 41):
            [probe] = driver.due(tick * 0.25)
            assert (probe.kind, probe.step.address) == (CallKind.PROBE, "s[0]")
            driver.answer(probe, ready=True)
        assert names(driver.due()) == ["check s[1]"]

    def test_falling_back_meanwhile_begins_the_while_anew(self) -> None:
        driver = self.rolling(1, min_healthy=1.0)
        self.replaced(driver, "s[0]")
        driver.answer(driver.one(CallKind.PROBE, at=0.5), ready=False)
        driver.answer(driver.one(CallKind.PROBE, at=0.75), ready=True)
        driver.answer(driver.one(CallKind.PROBE, at=1.5), ready=True)
        assert driver.statuses() == {}
        driver.answer(driver.one(CallKind.PROBE, at=1.75), ready=True)
        assert driver.statuses() == {"s[0]": "done"}

    def test_not_ready_any_more_at_its_deadline_is_a_failure(self) -> None:
        driver = self.rolling(1, min_healthy=60.0)  # of a readiness timeout of 10 s
        self.replaced(driver, "s[0]")
        for tick in range(1, 48):
            driver.answer(driver.one(CallKind.PROBE, at=tick * 0.25), ready=True)
        driver.answer(driver.one(CallKind.PROBE, at=12.0), ready=False, detail="status 500")
        assert driver.statuses() == {"s[0]": "failed"}


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
