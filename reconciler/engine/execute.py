"""The thread driver of the Scheduler: journal, call, journal, until every step has ended.

One coordinator (the calling thread) owns scheduler, journal and events; workers run one blocking call each. What is
about to happen is durable before it happens: one append per round holds the outcomes that came in and the intents
that go out, with a single sync.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue

from reconciler.backends.base import SandboxBackend
from reconciler.core.calls import Answer, Call, CallKind, Limits
from reconciler.core.ledger import Ledger
from reconciler.core.schedule import Scheduler
from reconciler.engine.clock import Clock
from reconciler.engine.perform import Performer
from reconciler.engine.progress import ProgressNotes
from reconciler.engine.stop import StopRequest
from reconciler.engine.workers import Workers
from reconciler.model.capabilities import Capabilities
from reconciler.model.event import Event, StepEnded
from reconciler.model.outcome import Entry, StepResult
from reconciler.model.plan import Plan

_LONGEST_SLEEP = 1.0  # seconds; answers and stop requests wake the coordinator anyway
_MOST_THREADS = 128
_MANY = (
    32  # calls in flight from which answers are gathered for a moment instead of taken one by one: each round
)
_GATHER = (
    0.003  # costs a sync and thread switches; lanes have calls handed out ahead, so none idles meanwhile
)

_Answers = SimpleQueue[tuple[Call, Answer] | None]


@dataclass(slots=True, kw_only=True)
class Execution:
    """One run of a plan. `append` makes entries durable; `entries` are all that were."""

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
    entries: list[Entry] = field(default_factory=list)

    def run(self) -> tuple[StepResult, ...]:
        """Every step to its end; one result per step, in plan order. Raises StoreError when the journal cannot be
        written: nothing more is started then, and what was started is in it."""
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
                now = self.clock.monotonic()
                for key, note in notes.due(now):
                    scheduler.told(key, self.scrub(note), now)
                calls = scheduler.due(now)
                news += self._tell(scheduler, ledger)
                self._journal([*news, *ledger.intents(calls, self.clock.now())])
                news.clear()
                for call in calls:
                    crew.of(call).put(partial(_work, perform, call, answers))
                if scheduler.done:
                    return scheduler.results()
                for taken in self._wait(scheduler, notes, answers):
                    news += ledger.outcomes(*taken, self.clock.now())
                    scheduler.result(*taken, self.clock.monotonic())
                if self.stop.requested:
                    scheduler.stop(self.clock.monotonic())
        finally:
            notes.close(backends)
            crew.close()

    def _wait(
        self, scheduler: Scheduler, notes: ProgressNotes, answers: _Answers
    ) -> Iterator[tuple[Call, Answer]]:
        """Sleep until the first answer, the next due time or the next note, then yield every answer there is."""
        now = self.clock.monotonic()
        times = [at for at in (scheduler.wake(now), notes.wake_at(now)) if at is not None]
        sleep = max(0.0, min(min(times, default=now + _LONGEST_SLEEP) - now, _LONGEST_SLEEP))
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

    def _tell(self, scheduler: Scheduler, ledger: Ledger) -> list[Entry]:
        """Pass events on; verdicts among them belong into the journal."""
        found: list[Entry] = []
        for event in scheduler.events():
            if isinstance(event, StepEnded):
                found += ledger.verdicts(event, self.clock.now())
            self.emit(event)
        return found

    def _journal(self, entries: list[Entry]) -> None:
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


def _work(perform: Performer, call: Call, answers: _Answers) -> None:
    answers.put((call, perform(call)))
