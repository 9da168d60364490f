"""The Scheduler: which backend call is due next. A state machine without threads, clocks or I/O.

Its driver asks `due(now)`, makes the calls any way it likes, reports each by `result(...)`, and sleeps until
`wake(now)`. The thread driver in `engine/execute.py` and the seeded simulator in the tests drive the same object.

What it guarantees: a step starts after everything it needs is done; never more calls in flight than allowed; every
step ends in exactly one `StepResult`; a step that cannot go on never keeps independent ones from going on.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from reconciler.core.calls import Answer, Call, CallKind, Limits, Run, asks_nothing, stages_of
from reconciler.core.climb import NOTES, Attempt, Climb
from reconciler.core.gates import Gates
from reconciler.core.identity import moved
from reconciler.core.lanes import Lane
from reconciler.core.readiness import Again, Fleet, GaveUp, Ready, Waiting, decide, first_probe, probe_timeout
from reconciler.core.repair import LOOK_AGAIN
from reconciler.core.timetable import Timetable
from reconciler.model.desired import Readiness
from reconciler.model.event import Activity, Event, StepEnded, StepProgress, StepStarted
from reconciler.model.observed import ObservedSandbox
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Action, Plan, Reason

_ACTIVITY: Mapping[CallKind, Activity] = {
    CallKind.CHECK: Activity.CHECKING,
    CallKind.DESTROY: Activity.DESTROYING,
    CallKind.CREATE: Activity.CREATING,
    CallKind.UPDATE: Activity.UPDATING,
    CallKind.RECORD: Activity.UPDATING,
    CallKind.RESTART: Activity.RESTARTING,
    CallKind.PROBE: Activity.WAITING,
}


def _activity(run: Run, stage: CallKind) -> Activity:
    """Where no readiness is asked for, nobody waits for it: that is only a look."""
    return Activity.CHECKING if stage is CallKind.PROBE and asks_nothing(run.step) else _ACTIVITY[stage]


class Scheduler:
    """`jitter()` yields numbers in [0, 1) and spreads retries; the simulator passes a seeded one."""

    def __init__(self, plan: Plan, limits: Limits, jitter: Callable[[], float]) -> None:
        self._limits = limits
        self._jitter = jitter
        self._runs = {
            step.key: Run(step=step, stages=stages_of(step), climb=Climb(rungs=deque(step.rungs)))
            for step in plan.steps
        }
        self._gates = Gates(plan.rollouts)
        self._dependents: dict[str, list[Run]] = defaultdict(list)
        self._lanes: dict[str, Lane] = {}
        self._times = Timetable()
        self._calls: dict[int, tuple[Call, Run]] = {}
        self._events: list[Event] = []
        self._open = len(self._runs)
        self._fleet = Fleet()
        self._probing = 0
        self._verbs = 0
        self._serial = 0
        self._retries_left = (
            limits.retry_budget if limits.retry_budget is not None else max(20, len(self._runs))
        )
        self._stopped = ""
        self._abandon = False
        self._link()

    def _link(self) -> None:
        for run in self._runs.values():
            run.waits_for = {key for key in run.step.needs if key in self._runs}
            for key in run.waits_for:
                self._dependents[key].append(run)
        for run in [run for run in self._runs.values() if not run.waits_for]:
            self._enqueue_when_open(run)

    # -- what the driver asks ------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        return self._open == 0

    @property
    def in_flight(self) -> int:
        """Calls that have not been answered or given up on."""
        return len(self._calls)

    @property
    def verbs_in_flight(self) -> int:
        """Those of them that are not probes."""
        return self._verbs

    def events(self) -> Sequence[Event]:
        """What happened since the last time this was asked, in order."""
        events, self._events = self._events, []
        return events

    def results(self) -> tuple[StepResult, ...]:
        """One per step, in plan order; complete once `done`."""
        return tuple(run.result for run in self._runs.values() if run.result is not None)

    def due(self, now: float) -> list[Call]:
        """Every call that may start now. The driver must start all of them."""
        self._expire(now)
        calls: list[Call] = []
        while (run := self._times.due(now)) is not None:
            if run.stage is CallKind.PROBE and self._probing >= self._limits.probes:
                break
            self._times.take()
            if run.result is None and run.stage is CallKind.PROBE:
                calls.append(self._start(run, now))
            elif run.result is None:
                self._enqueue(run)
        for lane in self._lanes.values():
            calls += self._drain(lane, now)
        self._resolve_circles(now)
        return calls

    def wake(self, now: float) -> float | None:
        """When `due` may have more to give if no result comes first; None when only a result can change anything."""
        crowded = self._probing >= self._limits.probes
        return self._times.next(after=now if crowded else None)

    def result(self, call: Call, answer: Answer, now: float) -> None:
        """Take a call's answer. Answers to calls that were given up on are ignored."""
        entry = self._calls.pop(call.id, None)
        if entry is None:
            return
        run = entry[1]
        self._release(call, run)
        if answer.error and call.kind is not CallKind.PROBE:
            self._failed(run, answer, now)
            return
        match call.kind:
            case CallKind.CHECK:
                self._checked(run, answer, now)
            case CallKind.PROBE:
                self._probed(run, answer, now)
            case CallKind.DESTROY:
                run.destroyed = True
                self._advance(run, now)
            case CallKind.CREATE | CallKind.UPDATE | CallKind.RECORD | CallKind.RESTART:
                run.info = answer.info or run.info
                self._advance(run, now)

    def told(self, key: str, note: str, now: float) -> None:
        """The verb that a step has in flight says how far it is. That is a sign of life: its time limit starts anew.
        Ignored when it says the same again, and when there is none: nothing is heard of a step after its end."""
        run = self._runs.get(key)
        if run is None or run.call is None or run.call.kind is CallKind.PROBE or note == run.note:
            return
        run.note = note
        self._limit(run, run.call, now)
        self._progress(run, _activity(run, run.call.kind), now, note=note)

    def stop(self, now: float, why: str = "interrupted", *, abandon: bool = True) -> None:
        """Start nothing new. Steps half way through are brought to their end, except that with `abandon` nobody
        waits for readiness any longer."""
        if self._stopped:
            return
        self._stopped = why
        self._abandon = abandon
        for run in list(self._runs.values()):
            if run.result is not None:
                continue
            if not run.begun:
                self._end(run, StepStatus.NOT_STARTED, now, why)
            elif abandon and run.stage is CallKind.PROBE and not run.in_flight:
                self._leave(run, now)

    # -- starting calls ------------------------------------------------------------------------------------------

    def _enqueue_when_open(self, run: Run) -> None:
        """It needs nothing more; in a rollout its wave has to be open as well."""
        if not run.waits_for and not run.begun and self._gates.may_begin(run.step.key):
            self._enqueue(run)

    def _enqueue(self, run: Run) -> None:
        if run.result is not None:
            return
        if run.stage is None:
            self._finish_without_calls(run)
            return
        backend = run.backend_of(run.stage)
        lane = self._lanes.get(backend)
        if lane is None:
            lane = self._lanes[backend] = Lane(limit=self._limits.lane(backend))
        lane.put(run)

    def _drain(self, lane: Lane, now: float) -> list[Call]:
        calls: list[Call] = []
        ahead = self._limits.ahead
        while lane.in_flight < lane.limit + ahead and self._verbs < self._limits.parallelism + ahead:
            run = lane.take(may_create=self._fleet.size < self._limits.starting)
            if run is None:
                break
            lane.in_flight += 1
            self._verbs += 1
            calls.append(self._start(run, now))
        return calls

    def _start(self, run: Run, now: float) -> Call:
        stage = run.stage
        assert stage is not None
        self._serial += 1
        if not run.begun:
            run.begun = True
            run.started = now
            self._events.append(
                StepStarted(address=run.step.address, action=run.step.action, key=run.step.key)
            )
        if run.announced is not stage:
            run.announced = stage
            self._progress(run, _activity(run, stage), now)
        timeout = self._limits.call_timeout
        if stage is CallKind.PROBE:
            self._probing += 1
            assert run.waiting is not None
            timeout = probe_timeout(run.waiting, now)
        elif stage is CallKind.CREATE:
            self._occupy(run)
        call = Call(
            id=self._serial,
            kind=stage,
            step=run.step,
            backend=run.backend_of(stage),
            timeout=timeout,
            attempt=run.attempts + 1,
            info=run.info_of(stage),
        )
        self._calls[call.id] = (call, run)
        run.call = call
        run.note = ""
        self._limit(run, call, now)
        return call

    def _limit(self, run: Run, call: Call, now: float) -> None:
        """The call may take its timeout from now on."""
        run.deadline = now + call.timeout + self._limits.grace
        self._times.limit(run.deadline, call.id)

    def _occupy(self, run: Run) -> None:
        if not run.counted:
            run.counted = True
            self._fleet.size += 1

    def _release(self, call: Call, run: Run) -> None:
        run.call = None
        if call.kind is CallKind.PROBE:
            self._probing -= 1
        else:
            self._verbs -= 1
            self._lanes[call.backend].in_flight -= 1
        if not self._calls:
            self._times.lift_limits()

    def _expire(self, now: float) -> None:
        """A call that never answers does not hold up the run: its outcome is unknown, and the next run looks."""
        while (call_id := self._times.expired(now)) is not None:
            entry = self._calls.get(call_id)
            if entry is None or entry[1].deadline > now:  # answered, or heard of meanwhile
                continue
            call = entry[0]
            silence = Answer(
                error=f"no answer to {call.kind} within {call.timeout:g}s, so its outcome is unknown"
            )
            if call.kind is CallKind.PROBE:
                silence = Answer(detail="the probe never came back")
            self.result(call, silence, now)

    # -- taking answers ------------------------------------------------------------------------------------------

    def _checked(self, run: Run, answer: Answer, now: float) -> None:
        seen = answer.seen
        told = moved(run.step, seen)
        if told:
            self._end(
                run, StepStatus.STALE, now, f"changed since the plan was made: {told}", hint="plan again"
            )
            return
        if self._stopped and run.ready is None:  # otherwise its successor is there already: finish that
            self._end(run, StepStatus.NOT_STARTED, now, self._stopped)
            return
        if seen is None:
            run.destroyed = True
        elif run.step.action is Action.REPAIR and self._climb(run, seen, now):
            return
        self._advance(run, now)

    def _climb(self, run: Run, seen: ObservedSandbox, now: float) -> bool:
        """The next cheaper rung of a repair; False when it is to be replaced."""
        attempt = run.climb.next(run.step, seen)
        if attempt is not None:
            run.info, run.attempts = seen.info, 0
            first = CallKind.RESTART if attempt is Attempt.RESTARTED else CallKind.RECORD
            run.stages.extendleft((CallKind.PROBE, first))
            self._progress(run, Activity.CHECKING, now, note=NOTES[attempt])
            self._enqueue(run)
            return True
        if not run.step.protected:
            return False
        tried = f" ({'; '.join(run.climb.tried)})" if run.climb.tried else ""
        run.ready, run.info = False, seen.info
        told = f"it is broken and protected, so it is not replaced{tried}"
        hint = "mend it by hand, or set `prevent_destroy: false` to have it replaced"
        self._end(run, StepStatus.FAILED, now, told, hint=hint)
        return True

    def _slip(self, run: Run, why: str, now: float) -> None:
        """The rung was not enough: back to the look before the next one."""
        self._progress(run, Activity.CHECKING, now, note=run.climb.ended(why))
        run.info, run.attempts = None, 0
        while run.stage is not CallKind.CHECK:
            run.stages.popleft()
        self._enqueue(run)

    def _probed(self, run: Run, answer: Answer, now: float) -> None:
        assert run.waiting is not None
        if self._abandon:
            self._leave(run, now)
            return
        verdict = decide(
            run.waiting,
            ready=answer.ready,
            dead=answer.dead,
            detail=answer.detail or answer.error,
            now=now,
            fleet=self._fleet,
        )
        match verdict:
            case Ready():
                if not asks_nothing(run.step):
                    self._fleet.learn(now - run.waiting.started)
                run.ready = True
                if run.climb.attempt:
                    run.climb.ended("it answers")
                    run.stages = deque([CallKind.PROBE])
                self._advance(run, now)
            case Again(at, waiting):
                run.waiting = waiting
                self._times.at(at, run)
            case GaveUp(why) if run.climb.attempt:
                self._slip(run, why, now)
            case GaveUp(why):
                run.ready = False
                self._end(run, StepStatus.FAILED, now, why, log_tail=answer.log_tail)

    def _failed(self, run: Run, answer: Answer, now: float) -> None:
        run.attempts += 1
        run.tries = max(run.tries, run.attempts)
        retry = (
            answer.transient
            and not self._stopped
            and run.attempts < self._limits.attempts
            and self._retries_left > 0
        )
        if not retry and run.climb.attempt and not answer.no_space:  # a successor would find none either
            self._slip(run, answer.error, now)
            return
        if not retry:
            self._end(run, StepStatus.FAILED, now, answer.error, hint=answer.hint, log_tail=answer.log_tail)
            return
        self._retries_left -= 1
        run.tries = max(run.tries, run.attempts + 1)
        delay = answer.retry_after
        if delay is None:
            ceiling = min(self._limits.longest_backoff, self._limits.backoff * 2 ** (run.attempts - 1))
            delay = ceiling * (0.5 + self._jitter() / 2)
        run.announced = None
        self._progress(run, Activity.RETRYING, now, note=f"{answer.error}; again in {delay:.1f}s")
        self._times.at(now + delay, run)

    def _advance(self, run: Run, now: float) -> None:
        """On to the next stage, skipping what the last answer made needless."""
        run.stages.popleft()
        run.attempts = 0
        while run.destroyed and run.stage in (CallKind.CHECK, CallKind.DESTROY):
            run.stages.popleft()
        if run.stage is None:
            silent = run.step.action is Action.DESTROY or run.step.reason is Reason.SEEN
            run.ready = None if silent else True
            self._end(run, StepStatus.DONE, now)
        elif run.stage is CallKind.PROBE:
            self._await(run, now)
        else:
            self._enqueue(run)

    def _await(self, run: Run, now: float) -> None:
        if self._abandon:
            self._leave(run, now)
            return
        self._occupy(run)
        desired = run.step.desired
        readiness = desired.spec.readiness if desired else Readiness()
        if run.climb.attempt is Attempt.AGAIN:
            readiness = replace(readiness, timeout=min(readiness.timeout, LOOK_AGAIN))
        rollout = desired.rollout if desired and run.step.wave else None
        hold = rollout.min_healthy if rollout else 0.0
        run.waiting = Waiting(readiness=readiness, started=now, hold=hold)
        self._times.at(first_probe(run.waiting.readiness, now, self._fleet), run)

    # -- ending steps --------------------------------------------------------------------------------------------

    def _finish_without_calls(self, run: Run) -> None:
        run.begun = True
        self._events.append(StepStarted(address=run.step.address, action=run.step.action, key=run.step.key))
        self._end(run, StepStatus.DONE, run.started)

    def _end(
        self,
        run: Run,
        status: StepStatus,
        now: float,
        error: str = "",
        *,
        hint: str = "",
        log_tail: tuple[str, ...] = (),
    ) -> None:
        assert run.result is None, f"{run.step.key} ended twice"
        if run.counted:
            run.counted = False
            self._fleet.size -= 1
        run.result = StepResult(
            address=run.step.address,
            action=str(run.step.action),
            status=status,
            error=run.with_the_old_one(error),
            hint=hint,
            info=run.info,
            ready=run.ready,
            seconds=max(0.0, now - run.started) if run.begun else 0.0,
            attempts=run.tries,
            log_tail=log_tail,
            tried=tuple(run.climb.tried),
        )
        self._open -= 1
        self._events.append(StepEnded(result=run.result, key=run.step.key))
        if status is StepStatus.FAILED and self._limits.fail_fast:
            self.stop(now, "stopped after the first failure", abandon=False)
        self._tell_dependents(run, status, now)
        self._pass_gate(run, status, now)

    def _pass_gate(self, run: Run, status: StepStatus, now: float) -> None:
        """What its end means for its rollout: the next wave, or no more of it."""
        if status is StepStatus.DONE:
            for key in self._gates.passed(run.step.key):
                self._enqueue_when_open(self._runs[key])
        elif status is not StepStatus.NOT_STARTED:  # a run that was stopped has told everybody already
            group, rest = self._gates.stopped_by(run.step.key)
            for key in rest:
                other = self._runs[key]
                if other.result is None and not other.begun:
                    why = f"the rollout of {group} stopped: {run.step.address} {status}"
                    self._end(other, StepStatus.SKIPPED, now, why)

    def _leave(self, run: Run, now: float) -> None:
        """Nobody waits for its readiness any longer; the next run does."""
        self._end(run, StepStatus.INTERRUPTED, now, "it was not ready yet", hint="apply again to wait for it")

    def _tell_dependents(self, run: Run, status: StepStatus, now: float) -> None:
        todo = [(run, status)]
        while todo:
            ended, ending = todo.pop()
            for dependent in self._dependents.get(ended.step.key, ()):
                if dependent.result is not None or dependent.begun:
                    continue
                if ending is StepStatus.DONE:
                    dependent.waits_for.discard(ended.step.key)
                    self._enqueue_when_open(dependent)
                else:
                    self._end(dependent, StepStatus.SKIPPED, now, f"{ended.step.address} it needs: {ending}")

    def _resolve_circles(self, now: float) -> None:
        """Steps that wait for each other can never start; planning excludes that, a hand-edited plan may not."""
        if (
            self._open == 0
            or self._calls
            or self._times.waiting
            or not all(lane.idle for lane in self._lanes.values())
        ):
            return
        for run in self._runs.values():
            if run.result is None:
                self._end(run, StepStatus.SKIPPED, now, "the steps it needs wait for it in turn")

    def _progress(self, run: Run, activity: Activity, now: float, note: str = "") -> None:
        self._events.append(
            StepProgress(
                address=run.step.address,
                action=run.step.action,
                key=run.step.key,
                activity=activity,
                elapsed=max(0.0, now - run.started),
                note=note,
            )
        )


__all__ = ["Answer", "Call", "CallKind", "Limits", "Scheduler"]
