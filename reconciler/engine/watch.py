"""The correction loop: look, decide, put back, tell; again when something happens, and at the latest after an interval.

Level-based: each round looks at everything, so an event is only a reason to look now. The lock is held while something is
certain or changed, never in between, so that a person's apply gets in.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.core.damping import Damping
from reconciler.core.drift import chosen
from reconciler.core.vigil import Told, Verdict, Vigil
from reconciler.engine.context import Context
from reconciler.engine.correct import Correction, correct
from reconciler.engine.drift import DriftView, look_for_drift, probed
from reconciler.engine.listening import Listening
from reconciler.engine.locking import locked
from reconciler.engine.stop import StopRequest
from reconciler.engine.wishes import Wishes
from reconciler.errors import ConfigError, LockHeld, PlanRefused, ReconcilerError, StoreError
from reconciler.model.desired import Address
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.drift import Cause, Drift
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Reason, Step
from reconciler.model.watching import (
    Corrected,
    Incident,
    IncidentKind,
    Looked,
    Reloaded,
    Trigger,
    WatchEvent,
    WatchStarted,
    WatchStopped,
)
from reconciler.stores.base import Lease

_TICK = 1.0  # seconds between two questions whether the configuration changed
_GATHER = 0.02  # seconds in which further events join the look that the first one causes
_SOONEST = 0.25  # seconds between two looks that events cause
_BUSY = 1.0  # seconds until a look is tried again while somebody else is at work
_DONE = (StepStatus.DONE,)
_NOT_TRIED = (StepStatus.NOT_STARTED, StepStatus.SKIPPED)


class Source(Protocol):
    """The configuration, which may change while it is watched."""

    def open(self) -> AbstractContextManager[Context]:
        """Read it now. Raises ConfigError and whatever else keeps it from being used."""

    def changed(self) -> bool:
        """Whether it is another one than was last opened, and has come to rest."""


class WatchOptions(Struct, frozen=True, kw_only=True):
    """`interval` in seconds between two looks, of which each may vary by `jitter` times itself. `events` False goes by the
    clock alone."""

    interval: float = 30.0
    jitter: float = 0.1
    events: bool = True
    damping: Damping = field(default_factory=Damping)


class Watch:
    """`tell` gets what happens, `alive` is called whenever the loop moves. Both are called on the thread of `run`, and must
    neither raise nor wait."""

    def __init__(
        self,
        source: Source,
        options: WatchOptions,
        *,
        tell: Callable[[WatchEvent], None],
        stop: StopRequest,
        alive: Callable[[], None] = lambda: None,
        chance: Callable[[], float] = random.random,
        wishes: Wishes | None = None,
    ) -> None:
        self._source = source
        self._options = options
        self._tell = tell
        self._stop = stop
        self._alive = alive
        self._chance = chance
        self._wishes = wishes or Wishes()
        self._vigil = Vigil(damping=options.damping, jitter=chance)
        self._listening = Listening(lambda: self._wishes.put("event"))
        self._next_look = 0.0
        self._last_look = 0.0
        self._unsaved = False  # whether the state could not be written when it was last to be
        self._broken = ""  # the configuration that could not be used, as it was told

    def reload(self) -> None:
        """Read the configuration again, whether it changed or not, and begin anew with what was given up. For a signal
        handler or another thread."""
        self._wishes.put("reload")

    def run(self) -> None:
        """Until a stop is asked for. Raises what keeps the first configuration from being used."""
        self._hear_stop()
        with ExitStack() as session:
            context = session.enter_context(self._source.open())
            self._begin(context)
            try:
                while not self._stop.requested:
                    trigger = self._wait(context)
                    if trigger in (Trigger.RELOAD, Trigger.CHANGED):
                        context = self._reload(session, context, asked=trigger is Trigger.RELOAD)
                    if trigger and not self._stop.requested:
                        self._round(context, trigger)
            finally:
                self._listening.end()
                self._tell(WatchStopped(at=context.clock.now(), why="asked to stop"))

    def once(self) -> None:
        """One look, as thorough as it takes to be certain who answers, what it asks for, and another look at that. Raises
        LockHeld when somebody else is at work where something is to be done, and what keeps a look from being made."""
        with self._source.open() as context:
            self._begin(context, once=True)
            try:
                self._look_and_act(context, Trigger.ONCE)
                while not self._stop.requested and self._is_unfinished(context):
                    self._look_and_act(context, Trigger.ONCE)
            finally:
                self._tell(WatchStopped(at=context.clock.now(), why="one look was asked for"))

    def _is_unfinished(self, context: Context) -> bool:
        """Whether a correction is to be looked at, or somebody who does not answer is to be asked again, after a wait."""
        now = context.clock.monotonic()
        if self._next_look <= now:
            return True
        if self._vigil.suspects:
            self._wishes.wait(self._options.damping.probe_again)
        return bool(self._vigil.suspects)

    # -- waiting

    def _hear(self, context: Context) -> None:
        if self._options.events:
            self._listening.to(context)

    def _hear_stop(self) -> None:
        self._stop.attach(lambda: self._wishes.put("stop"))

    def _begin(self, context: Context, *, once: bool = False) -> None:
        if not once:
            self._hear(context)
        self._tell(
            WatchStarted(
                at=context.clock.now(),
                stack=context.desired.stack,
                interval=0.0 if once else self._options.interval,
                backends={name: name in self._listening for name in _used(context)},
            )
        )
        self._next_look = context.clock.monotonic()

    def _wait(self, context: Context) -> Trigger | None:
        """Sleep until there is a reason to look, at most for a moment; the reason, None for none."""
        self._alive()
        clock = context.clock
        now = clock.monotonic()
        wakes = [self._next_look, now + _TICK]
        due = self._vigil.wake(now)
        if due is not None:
            wakes.append(due)
        wishes = self._wishes.wait(max(0.0, min(wakes) - now))
        if "stop" in wishes:
            return None
        if "reload" in wishes:
            return Trigger.RELOAD
        if self._source.changed():
            return Trigger.CHANGED
        now = clock.monotonic()
        if (
            now >= self._next_look
        ):  # before events: where something happens all the time, it is looked all the same
            return Trigger.INTERVAL
        if due is not None and now >= due:
            return Trigger.PAUSE
        return self._gathered(context) if "event" in wishes else None

    def _gathered(self, context: Context) -> Trigger:
        """What comes together is looked at together, and what comes all the time not all the time."""
        soonest = self._last_look + _SOONEST - context.clock.monotonic()
        wishes = self._wishes.wait(max(0.0, soonest)) if soonest > _GATHER else set()
        wishes |= self._wishes.wait(_GATHER)
        for wish in wishes & {"stop", "reload"}:
            self._wishes.put(wish)
        return Trigger.EVENT

    # -- the configuration

    def _reload(self, session: ExitStack, context: Context, *, asked: bool) -> Context:
        """The new configuration, or, where that cannot be used, the one there was."""
        fresh = ExitStack()
        at = context.clock.now()
        try:
            opened = fresh.enter_context(self._source.open())
            if opened.desired.stack != context.desired.stack:
                raise ConfigError(
                    f"the stack is {opened.desired.stack!r} now, and {context.desired.stack!r} is watched",
                    hint="watch the other stack with a watch of its own: start this one again",
                )
        except ReconcilerError as error:
            fresh.close()
            self._refuse(error, at, asked=asked)
            return context
        except BaseException:
            fresh.close()
            raise
        self._listening.end()
        session.pop_all().close()
        session.push(fresh)
        self._broken = ""
        self._told(self._vigil.closed(IncidentKind.CONFIGURATION, "", at, "it is valid again"))
        if asked:
            self._vigil.forgive()
        summary = f"{len(opened.desired.sandboxes)} sandboxes are declared"
        self._tell(Reloaded(at=at, summary=summary, backends=_used(opened)))
        self._hear(opened)
        return opened

    def _refuse(self, error: ReconcilerError, at: float, *, asked: bool) -> None:
        """Told once, and again to who asks again: a reload that somebody began has an end."""
        found = [item for item in getattr(error, "diagnostics", ()) if isinstance(item, Diagnostic)]
        problems = tuple(item for item in found if item.severity is Severity.ERROR) or (
            Diagnostic(severity=Severity.ERROR, code="not-loaded", summary=error.message, fix=error.hint),
        )
        told = "; ".join(problem.in_short for problem in problems[:3])
        if told == self._broken and not asked:
            return
        self._broken = told
        self._tell(Reloaded(at=at, problems=problems))
        self._told(
            self._vigil.opened(
                Incident(
                    kind=IncidentKind.CONFIGURATION,
                    subject="",
                    summary=f"the new configuration cannot be used, so the one before goes on: {told}",
                    at=at,
                    fix=f"it is read again when it changes: {_how_to_mend(problems)}",
                )
            )
        )

    # -- a round

    def _round(self, context: Context, trigger: Trigger) -> None:
        """Look and act; what keeps it from that is told, and does not end the loop."""
        try:
            self._look_and_act(context, trigger)
            self._save(context)
            self._told(self._vigil.closed(IncidentKind.STORE, "", context.clock.now(), "it works again"))
        except LockHeld:
            self._next_look = min(self._next_look, context.clock.monotonic() + _BUSY)
        except ReconcilerError as error:
            self._cannot(context, error)
        self._hear(context)  # to backends that could not be listened to before

    def _look_and_act(self, context: Context, trigger: Trigger) -> None:
        """Look; where something is to be done or told, look again under the lock, and do it."""
        started = context.clock.monotonic()
        self._schedule(started, trigger)
        seen = self._look(context, trigger)
        if not self._vigil.concerns(seen.sight(), context.clock.monotonic()):
            self._judge(context, seen, trigger, started)
            return
        try:
            self._under_lock(context, seen, trigger, started)
        except StoreError as error:
            self._unsaved = self._unsaved or not isinstance(error, LockHeld)
            raise

    def _schedule(self, started: float, trigger: Trigger) -> None:
        """When the clock has it look again. Events put that off for nobody: they ask no one whether he answers."""
        self._last_look = started
        if trigger is Trigger.EVENT:
            return
        spread = 1.0 + self._options.jitter * (2.0 * self._chance() - 1.0)
        self._next_look = started + self._options.interval * spread

    def _look(self, context: Context, trigger: Trigger) -> DriftView:
        self._vigil.recorded(_recorded(context))
        seen = look_for_drift(context, silent=self._vigil.silent)
        if trigger is Trigger.EVENT:
            return seen  # about what happened; whether the others answer is asked by the clock
        before = self._vigil.silent
        seen = probed(context, seen, self._vigil)
        if self._vigil.silent == before:
            return seen
        again = look_for_drift(context, silent=self._vigil.silent)
        return _with_answers(again, seen)

    def _under_lock(self, context: Context, first: DriftView, trigger: Trigger, started: float) -> None:
        """What was seen while nobody else was at work is certain. Raises LockHeld when somebody is."""
        with locked(context, "watch", 0.0) as lease:
            again = look_for_drift(context, silent=self._vigil.silent, origins=first.origins)
            seen = _with_answers(again, first)
            verdict = self._judge(context, seen, trigger, started)
            if verdict.due and not self._stop.requested:
                self._correct(context, seen, verdict, lease)

    def _correct(self, context: Context, seen: DriftView, verdict: Verdict, lease: Lease) -> None:
        resting = self._vigil.resting(context.clock.monotonic())
        try:
            correction = correct(context, seen, verdict.due, lease, self._stop, waiting=resting)
        except PlanRefused as refused:
            self._told(self._vigil.opened(_refused(refused, context.clock.now())))
            return
        except StoreError:  # how far it came nobody can tell
            assert seen.plan is not None
            meant = chosen(seen.plan, seen.applied, verdict.due, resting)
            self._vigil.put_off(meant, context.clock.monotonic())
            raise
        finally:
            self._hear_stop()  # the run that is over had it wake itself
            with suppress(StoreError):
                self._vigil.noted(_recorded(context))
        self._account(context, seen, correction)
        if correction.unsaved is not None:
            raise correction.unsaved
        if correction.results:
            self._next_look = context.clock.monotonic()  # whether it worked is seen, not believed

    def _judge(self, context: Context, seen: DriftView, trigger: Trigger, started: float) -> Verdict:
        now, at = context.clock.monotonic(), context.clock.now()
        verdict = self._vigil.looked(seen.sight(), now, at)
        if not verdict.due and (seen.refusals() or not self._vigil.hopes(verdict.waiting)):
            self._told(
                self._vigil.closed(IncidentKind.REFUSED, "", at, "there is nothing to put back any more")
            )
        if seen.plan is not None and seen.plan.expiring:
            self._next_look = min(self._next_look, now + min(seen.plan.expiring.values()))
        self._tell(_looked(seen, context, verdict, trigger, at, now - started))
        self._told(verdict.told)
        return verdict

    def _account(self, context: Context, seen: DriftView, correction: Correction) -> None:
        """Tell how each correction ended, and when it may be tried again."""
        now, at = context.clock.monotonic(), context.clock.now()
        ended = [
            (step, result)
            for step, result in correction.ended()
            if step.reason is not Reason.SUPERSEDED and result.status not in _NOT_TRIED
        ]
        begun = {step.address: self._vigil.since(step.address) for step, _ in ended}
        failed = {step.address for step, result in ended if result.status not in _DONE}
        self._vigil.corrected([step.address for step, _ in ended], now, failed=failed)
        found = {drift.address: drift for drift in seen.drifts}
        for step, result in ended:
            since = begun[step.address]
            self._tell(
                self._corrected(
                    step, result, found.get(step.address), now - (now if since is None else since), at, now
                )
            )

    def _corrected(
        self, step: Step, result: StepResult, drift: Drift | None, seconds: float, at: float, now: float
    ) -> Corrected:
        patient = self._vigil.patients[step.address]
        failed = "" if result.status in _DONE else result.error or str(result.status)
        return Corrected(
            at=at,
            address=step.address,
            backend=step.backend,
            sandbox_id=step.sandbox_id if result.info is None else result.info.sandbox_id,
            action=step.action,
            reason=str(step.reason),
            cause=Cause.UNKNOWN if drift is None else drift.cause,
            seconds=seconds,
            took=result.seconds,
            error=failed,
            attempt=patient.attempts,
            retry_in=max(0.0, patient.not_before - now) if failed and not patient.gave_up else None,
        )

    def _save(self, context: Context) -> None:
        """What could not be written is, as soon as that is possible. Raises StoreError while it is not."""
        if not self._unsaved:
            return
        with locked(context, "watch", 0.0) as lease:
            state = context.recorded()
            if state is not None:
                context.store.write(lease, state)
        self._unsaved = False

    # -- what is wrong

    def _cannot(self, context: Context, error: ReconcilerError) -> None:
        """The round could not be finished; nothing was decided from half of it."""
        at = context.clock.now()
        kind = IncidentKind.STORE if isinstance(error, StoreError) else IncidentKind.REFUSED
        incident = Incident(kind=kind, subject="", summary=error.message, at=at, fix=error.hint)
        self._told(self._vigil.opened(incident))

    def _told(self, events: tuple[Told, ...]) -> None:
        for event in events:
            self._tell(event)


def _looked(
    seen: DriftView, context: Context, verdict: Verdict, trigger: Trigger, at: float, seconds: float
) -> Looked:
    return Looked(
        at=at,
        seconds=seconds,
        desired=len(context.desired.sandboxes),
        observed=len(seen.live),
        ready=_ready(seen),
        drifted=len(seen.drifts),
        waiting=len(verdict.waiting),
        pending=len(seen.applied.pending),
        failures=dict(seen.failures),
        trigger=trigger,
    )


def _used(context: Context) -> tuple[str, ...]:
    return tuple(sorted({wanted.backend for wanted in context.desired.sandboxes.values()}))


def _recorded(context: Context) -> dict[Address, str]:
    """The fingerprints of what is recorded."""
    state = context.recorded()
    return {} if state is None else {a: record.spec_hash for a, record in state.sandboxes.items()}


def _ready(seen: DriftView) -> int:
    """How many are as they were applied, and answer as far as they were asked."""
    differs = {drift.address for drift in seen.drifts}
    return sum(
        address not in seen.answers or seen.answers[address].ready
        for address in seen.live
        if address in seen.applied.desired.sandboxes and address not in differs
    )


def _with_answers(seen: DriftView, first: DriftView) -> DriftView:
    return replace(seen, answers={**first.answers, **seen.answers})


def _refused(refused: PlanRefused, at: float) -> Incident:
    return Incident(kind=IncidentKind.REFUSED, subject="", summary=refused.message, at=at, fix=refused.hint)


def _how_to_mend(problems: tuple[Diagnostic, ...]) -> str:
    return (
        problems[0].fix or "mend it"
        if len(problems) == 1
        else "`reconciler validate` says of each what to do"
    )
