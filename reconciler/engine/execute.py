"""The thread driver of the Scheduler: journal, call, journal, until every step has ended.

One coordinator (the calling thread) owns scheduler, journal and events; workers run one blocking call each. What is
about to happen is durable before it happens: one append per round holds the outcomes that came in and the intents
that go out, with a single sync. Where nothing goes out, outcomes are written together a moment later.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from queue import Empty, SimpleQueue

from msgspec import Struct, field

from reconciler.backends.base import SandboxBackend
from reconciler.core.calls import Answer, Call, CallKind, Limits
from reconciler.core.ledger import Ledger
from reconciler.core.schedule import Scheduler
from reconciler.engine.clock import Clock
from reconciler.engine.perform import Performer
from reconciler.engine.progress import ProgressNotes
from reconciler.engine.stop import StopRequest
from reconciler.engine.workers import Workers
from reconciler.errors import StoreError
from reconciler.model.capabilities import Capabilities
from reconciler.model.event import Event, StepEnded
from reconciler.model.outcome import Entry, StepResult
from reconciler.model.plan import Plan

_LATEST = 0.1  # seconds after which news are written that nothing waits for
_LONGEST_SLEEP = 1.0  # seconds; answers and stop requests wake the coordinator anyway
_MOST_THREADS = 128
_MANY = (
    16  # calls in flight from which answers are gathered for a moment instead of taken one by one: each round
)
_GATHER = (
    0.003  # costs a sync and thread switches; lanes have calls handed out ahead, so none idles meanwhile
)

_NOT_BEGUN = Answer(error="not begun: the lock was taken from this run")  # of calls that waited for a thread

_Answers = SimpleQueue[tuple[Call, Answer] | None]


class Execution(Struct, kw_only=True):
    """One run of a plan. `append` makes entries durable; `entries` are all that were. `lost` says whether it is known that
    the lock is somebody else's by now, at no cost. `ended` are the results there were when nothing could be written any
    more."""

    plan: Plan
    capabilities: Mapping[str, Capabilities]  # by backend name
    backend_of: Callable[[str], SandboxBackend]
    scrub: Callable[[str], str]
    append: Callable[[Sequence[Entry]], None]
    emit: Callable[[Event], None]
    clock: Clock
    limits: Limits
    jitter: Callable[[], float]
    stop: StopRequest
    crew: Callable[[Limits], Crew] | None = None  # None: threads
    lost: Callable[[], StoreError | None] = lambda: None
    entries: list[Entry] = field(default_factory=list)
    ended: tuple[StepResult, ...] = ()
    _in_flight: int = 0  # handed out, and not answered
    _halted: bool = False
    _news_since: float | None = None  # when the oldest news came that are not written

    def run(self) -> tuple[StepResult, ...]:
        """Every step to its end; one result per step, in plan order. Raises StoreError when the journal cannot be
        written or the lock was taken: nothing more is started then, what was started is in it, and has ended."""
        scheduler = Scheduler(self.plan, self.limits, self.jitter)
        ledger = Ledger(self.plan, self.capabilities)
        perform = Performer(backend_of=self.backend_of, spec_of=ledger.spec_of, scrub=self.scrub)
        answers: _Answers = SimpleQueue()
        self.stop.attach(lambda: answers.put(None))
        notes = ProgressNotes(self.plan, lambda: answers.put(None))
        backends = {name: self.backend_of(name) for name in _backends(self.plan)}
        notes.listen(backends)
        crew = (self.crew or Crew)(self.limits)
        news: list[Entry] = []
        try:
            while True:
                self._demand_lock()
                now = self.clock.monotonic()
                for key, note in notes.due(now):
                    scheduler.told(key, self.scrub(note), now)
                calls = scheduler.due(now)
                news += self._tell(scheduler, ledger)
                intents = list(ledger.intents(calls, self.clock.now()))
                if intents or scheduler.done or self._is_due(news, now):
                    self._journal([*news, *intents])
                    news.clear()
                for call in calls:
                    self._in_flight += 1
                    crew.of(call).put(partial(self._work, perform, call, answers))
                if scheduler.done:
                    return scheduler.results()
                for taken in self._wait(scheduler, notes, answers, _LATEST if news else _LONGEST_SLEEP):
                    self._in_flight -= 1
                    if taken[1] is not _NOT_BEGUN:
                        news += ledger.outcomes(*taken, self.clock.now())
                        scheduler.result(*taken, self.clock.monotonic())
                if self.stop.requested:
                    scheduler.stop(self.clock.monotonic())
        except StoreError:
            self._let_end(scheduler, ledger, answers)
            raise
        finally:
            notes.close(backends)
            crew.close()

    def _wait(
        self, scheduler: Scheduler, notes: ProgressNotes, answers: _Answers, longest: float
    ) -> Iterator[tuple[Call, Answer]]:
        """Sleep until the first answer, the next due time or the next note, at most `longest` seconds, then yield every answer
        there is."""
        now = self.clock.monotonic()
        times = [at for at in (scheduler.wake(now), notes.wake_at(now)) if at is not None]
        sleep = max(0.0, min(min(times, default=now + longest) - now, longest))
        try:
            taken = answers.get(timeout=sleep) if sleep else answers.get_nowait()
            if scheduler.in_flight > _MANY:
                time.sleep(_GATHER)
            while True:
                if taken is not None:
                    yield taken
                taken = answers.get_nowait()
        except Empty:
            return

    def _let_end(self, scheduler: Scheduler, ledger: Ledger, answers: _Answers) -> None:
        """Nothing can be written any more. What is under way is waited for, as long as a call may take, and told; what
        waits for a thread is not begun."""
        self._halted = True
        patience_ends = self.clock.monotonic() + self.limits.call_timeout
        while self._in_flight and self.clock.monotonic() < patience_ends:
            with contextlib.suppress(Empty):
                taken = answers.get(timeout=_LONGEST_SLEEP)
                if taken is not None:
                    self._in_flight -= 1
                    if taken[1] is not _NOT_BEGUN:
                        scheduler.result(*taken, self.clock.monotonic())
        self._tell(scheduler, ledger)
        self.ended = scheduler.results()

    def _demand_lock(self) -> None:
        gone = self.lost()
        if gone is not None:
            raise gone

    def _work(self, perform: Performer, call: Call, answers: _Answers) -> None:
        """On a thread of the crew."""
        begun = not self._halted and self.lost() is None
        answers.put((call, perform(call) if begun else _NOT_BEGUN))

    def _tell(self, scheduler: Scheduler, ledger: Ledger) -> list[Entry]:
        """Pass events on; verdicts among them belong into the journal."""
        found: list[Entry] = []
        for event in scheduler.events():
            if isinstance(event, StepEnded):
                found += ledger.verdicts(event, self.clock.now())
            self.emit(event)
        return found

    def _is_due(self, news: Sequence[Entry], now: float) -> bool:
        """Whether what came in is written though nothing goes out that must be announced. A moment's news go together: until
        they are written they are what a run that is killed right after a call does not know, and looks for."""
        if news and self._news_since is None:
            self._news_since = now
        return self._news_since is not None and now - self._news_since >= _LATEST

    def _journal(self, entries: list[Entry]) -> None:
        self._news_since = None
        if entries:
            self.append(entries)
            self.entries += entries


class Crew:
    """Threads for each backend's verbs, as many as it may have in flight, and others for all probes: a backend that
    hangs holds up nobody else, and a probe never holds up a verb."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._verbs: dict[str, Workers] = {}
        self._probes = Workers("probe", limits.probes)

    def of(self, call: Call) -> Workers:
        if call.kind is CallKind.PROBE:
            return self._probes
        if call.backend not in self._verbs:
            limit = min(self._limits.lane(call.backend), self._limits.parallelism, _MOST_THREADS)
            self._verbs[call.backend] = Workers(call.backend, limit)
        return self._verbs[call.backend]

    def close(self) -> None:
        for workers in (self._probes, *self._verbs.values()):
            workers.close()


def _backends(plan: Plan) -> set[str]:
    """Every backend that a step may call."""
    return {step.backend for step in plan.steps} | {
        step.current.backend for step in plan.steps if step.current is not None
    }
