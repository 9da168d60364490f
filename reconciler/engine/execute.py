"""The thread driver of the Scheduler: journal, call, journal, until every step has ended.

One coordinator (the calling thread) owns scheduler, journal and events; workers run one blocking call each. What is
about to happen is durable before it happens: one append per round holds the outcomes that came in and the intents
that go out, with a single sync.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from reconciler.backends.base import SandboxBackend
from reconciler.core.calls import Answer, Call, CallKind, Limits
from reconciler.core.references import attribute_of, resolve_spec
from reconciler.core.schedule import Scheduler
from reconciler.engine.clock import Clock
from reconciler.engine.perform import Performer
from reconciler.engine.workers import Workers
from reconciler.errors import Permanent
from reconciler.model.desired import Address, FlatSpec, Owner, SandboxSpec, fingerprint
from reconciler.model.event import Event, StepEnded
from reconciler.model.observed import SandboxInfo
from reconciler.model.outcome import Entry, Intent, Operation, Outcome, StepResult, StepStatus
from reconciler.model.plan import UNKNOWN_VALUE, Action, Plan, Step
from reconciler.model.state import State

_OPERATION: Mapping[CallKind, Operation] = {
    CallKind.CREATE: Operation.CREATE,
    CallKind.UPDATE: Operation.UPDATE,
    CallKind.RECORD: Operation.ADOPT,
    CallKind.DESTROY: Operation.DESTROY,
}
_LONGEST_SLEEP = 1.0  # seconds; a stop request wakes the coordinator anyway


class StopRequest:
    """Asked for from a signal handler or another thread, heard by the coordinator at once."""

    def __init__(self) -> None:
        self.requested = False
        self._wake: Callable[[], None] | None = None

    def request(self) -> None:
        self.requested = True
        if self._wake is not None:
            self._wake()

    def attach(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        if self.requested:
            wake()


@dataclass(slots=True)
class Execution:
    """What a run needs and collects. `append` makes entries durable; `entries` are all that were."""

    plan: Plan
    state: State
    backend_of: Callable[[str], SandboxBackend]
    scrub: Callable[[str], str]
    append: Callable[[Sequence[Entry]], None]
    emit: Callable[[Event], None]
    clock: Clock
    limits: Limits
    jitter: Callable[[], float]
    stop: StopRequest
    entries: list[Entry] = field(default_factory=list)
    infos: dict[Address, SandboxInfo] = field(default_factory=dict)
    _specs: dict[str, tuple[SandboxSpec, FlatSpec]] = field(default_factory=dict)
    _by_key: dict[str, Step] = field(default_factory=dict)

    def run(self) -> tuple[StepResult, ...]:
        """Every step to its end; one result per step, in plan order. Raises only StoreError: then nothing more is
        started, and the journal knows what was."""
        self._by_key = {step.key: step for step in self.plan.steps}
        scheduler = Scheduler(self.plan, self.limits, self.jitter)
        answers: SimpleQueue[tuple[Call, Answer] | None] = SimpleQueue()
        self.stop.attach(lambda: answers.put(None))
        perform = Performer(backend_of=self.backend_of, spec_of=self._spec_of, scrub=self.scrub)
        verbs = Workers("verb", min(self.limits.parallelism, 128))
        probes = Workers("probe", self.limits.probes)
        came_in: list[Entry] = []
        try:
            while True:
                now = self.clock.monotonic()
                calls = scheduler.due(now)
                came_in += self._tell(scheduler.events())
                self._journal([*came_in, *self._intents(calls)])
                came_in = []
                for call in calls:
                    workers = probes if call.kind is CallKind.PROBE else verbs
                    workers.put(lambda call=call: answers.put((call, perform(call))))  # type: ignore[misc]
                if scheduler.done:
                    return scheduler.results()
                came_in += self._take(scheduler, answers)
                if self.stop.requested:
                    scheduler.stop(self.clock.monotonic())
        finally:
            verbs.close()
            probes.close()

    def _take(
        self, scheduler: Scheduler, answers: SimpleQueue[tuple[Call, Answer] | None]
    ) -> Iterable[Entry]:
        """Wait for at least one answer or the next due time, then take all there are."""
        now = self.clock.monotonic()
        wake = scheduler.wake(now)
        sleep = _LONGEST_SLEEP if wake is None else max(0.0, min(wake - now, _LONGEST_SLEEP))
        try:
            item = answers.get(timeout=sleep) if sleep else answers.get_nowait()
        except Empty:
            return
        while True:
            if item is not None:
                yield from self._outcomes(*item)
                scheduler.result(*item, self.clock.monotonic())
            try:
                item = answers.get_nowait()
            except Empty:
                return

    def _journal(self, entries: list[Entry]) -> None:
        if entries:
            self.append(entries)
            self.entries += entries

    def _intents(self, calls: Iterable[Call]) -> Iterable[Entry]:
        for call in calls:
            operation = _OPERATION.get(call.kind)
            if operation is None:
                continue
            step = call.step
            if operation is Operation.DESTROY:
                yield self._intent(
                    call, operation, call.info.sandbox_id if call.info else step.sandbox_id, {}
                )
            else:
                _, flat = self._resolved(step)
                yield self._intent(call, operation, step.sandbox_id, flat)

    def _intent(self, call: Call, operation: Operation, sandbox_id: str, flat: FlatSpec) -> Intent:
        step = call.step
        return Intent(
            at=self.clock.now(),
            operation=operation,
            address=step.address,
            sandbox_id=sandbox_id,
            backend=call.backend,
            generation=step.generation,
            spec=flat,
            spec_hash=fingerprint(flat) if flat else "",
            depends_on=step.desired.depends_on if step.desired else (),
        )

    def _outcomes(self, call: Call, answer: Answer) -> Iterable[Entry]:
        """Journalled whether or not the scheduler still waits for this call: it did happen."""
        operation = _OPERATION.get(call.kind)
        if operation is None:
            return
        if answer.info is not None and not answer.error:
            self.infos[call.step.address] = answer.info
        target = (
            call.info.sandbox_id if operation is Operation.DESTROY and call.info else call.step.sandbox_id
        )
        yield Outcome(
            at=self.clock.now(),
            operation=operation,
            address=call.step.address,
            sandbox_id=target,
            info=answer.info,
            error=answer.error,
        )

    def _tell(self, events: Sequence[Event]) -> Iterable[Entry]:
        """Pass events on; verdicts among them belong into the journal."""
        found: list[Entry] = []
        for event in events:
            if isinstance(event, StepEnded):
                found += self._verdict(event)
            self.emit(event)
        return found

    def _verdict(self, event: StepEnded) -> Iterable[Entry]:
        result = event.result
        if result.action == Action.FORGET:
            operation, error = Operation.FORGET, ""
        elif result.action == Action.DESTROY and result.status is StepStatus.DONE:
            operation, error = Operation.DESTROY, ""  # also when it was found gone, without a call
        elif result.ready is not None:
            operation, error = Operation.READY, "" if result.ready else result.error
        else:
            return
        step = self._by_key[event.key]
        yield Outcome(
            at=self.clock.now(),
            operation=operation,
            address=result.address,
            sandbox_id=step.sandbox_id,
            info=result.info,
            error=error,
        )

    def _spec_of(self, call: Call) -> SandboxSpec:
        spec, flat = self._resolved(call.step)
        unknown = sorted(path for path, value in flat.items() if value == UNKNOWN_VALUE)
        if unknown:
            raise Permanent(
                f"{call.step.address}: {', '.join(unknown)} refers to something its sandbox does not have",
                hint="`reconciler status` shows which URLs and ports there are",
            )
        owner = Owner(
            stack=self.plan.stack,
            lineage=self.plan.lineage,
            address=call.step.address,
            generation=call.step.generation,
            spec_hash=fingerprint(flat),
        )
        return dataclasses.replace(spec, owner=owner)

    def _resolved(self, step: Step) -> tuple[SandboxSpec, FlatSpec]:
        """The spec with references filled in from what is live by now; replicas share the plain ones."""
        desired = step.desired
        assert desired is not None
        if not desired.references:
            return desired.spec, step.spec
        if step.key not in self._specs:
            spec = resolve_spec(desired.spec, self._lookup)
            self._specs[step.key] = (spec, spec.canonical())
        return self._specs[step.key]

    def _lookup(self, address: Address, attribute: str) -> str | None:
        info = self.infos.get(address)
        return None if info is None else attribute_of(info, attribute)
