"""What the Scheduler hands out and takes back: calls, answers, limits, and the stages each kind of step goes through."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import assert_never

from msgspec import Struct, field

from reconciler.core.climb import Climb
from reconciler.core.readiness import Waiting
from reconciler.model.desired import ProbeKind
from reconciler.model.observed import ObservedSandbox, SandboxInfo
from reconciler.model.outcome import StepResult
from reconciler.model.plan import Action, Reason, Step


class CallKind(StrEnum):
    """CHECK looks at the object again; RECORD asks nothing and only notes that the object is ours, and waited for."""

    CHECK = "check"
    DESTROY = "destroy"
    CREATE = "create"
    UPDATE = "update"
    RECORD = "record"
    RESTART = "restart"
    PROBE = "probe"


class Call(Struct, frozen=True, kw_only=True):
    """One blocking backend verb. `timeout` in seconds; `info` is the object to act on, None for a create."""

    id: int
    kind: CallKind
    step: Step
    backend: str
    timeout: float
    attempt: int = 1
    info: SandboxInfo | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """What came back. `error` empty means it worked; `transient` that trying again may help, `no_space` that it would
    have failed for any sandbox. `seen` answers CHECK (None is absent), `info` CREATE, UPDATE and RESTART, `ready`, `dead` and
    `detail` PROBE."""

    error: str = ""
    hint: str = ""
    transient: bool = False
    no_space: bool = False
    retry_after: float | None = None
    info: SandboxInfo | None = None
    seen: ObservedSandbox | None = None
    ready: bool = False
    dead: bool = False
    detail: str = ""
    log_tail: tuple[str, ...] = ()


class Limits(Struct, frozen=True, kw_only=True):
    """How much at once and how often again. Times in seconds. `starting` bounds sandboxes created but not ready
    yet; `lanes` bounds verbs in flight per backend, and up to `ahead` more per lane
    may be handed out to a driver that queues them, so that no lane idles until the coordinator looks; `retry_budget` bounds retries over the whole run."""

    parallelism: int = 64
    lanes: Mapping[str, int] = field(default_factory=dict)
    ahead: int = 0
    starting: int = 10_000
    probes: int = 32
    attempts: int = 5
    retry_budget: int | None = None
    backoff: float = 0.5
    longest_backoff: float = 30.0
    call_timeout: float = 300.0
    grace: float = 5.0  # beyond a call's own timeout before it is given up on
    fail_fast: bool = False

    def lane(self, backend: str) -> int:
        return self.lanes.get(backend, self.parallelism)


class Run(Struct, eq=False):
    """One step on its way. Only the Scheduler changes it."""

    step: Step
    stages: deque[CallKind]
    waits_for: set[str] = field(default_factory=set)
    begun: bool = False
    started: float = 0.0
    attempts: int = 0  # failures of the present stage
    tries: int = 1  # the most any stage needed
    announced: CallKind | None = None
    destroyed: bool = False
    counted: bool = False  # counts towards sandboxes in start-up
    ready: bool | None = None
    climb: Climb = field(default_factory=Climb)  # of a repair
    info: SandboxInfo | None = None
    waiting: Waiting | None = None
    call: Call | None = None  # the one in flight
    deadline: float = 0.0  # until when that one may take
    note: str = ""  # the last it was heard to say
    result: StepResult | None = None

    @property
    def stage(self) -> CallKind | None:
        return self.stages[0] if self.stages else None

    @property
    def in_flight(self) -> bool:
        return self.call is not None

    def backend_of(self, stage: CallKind) -> str:
        """The old object may live elsewhere than the new one."""
        if stage in (CallKind.CHECK, CallKind.DESTROY) and self.step.current is not None:
            return self.step.current.backend
        return self.step.backend

    def info_of(self, stage: CallKind) -> SandboxInfo | None:
        if stage is CallKind.CREATE:
            return None
        if self.climb.attempt or (
            stage is CallKind.PROBE and (self.info is not None or self.step.create_first)
        ):
            return self.info
        return None if self.step.current is None else self.step.current.info

    def with_the_old_one(self, error: str) -> str:
        """The error, and what it means for an object that was to go after its successor had become ready."""
        old = self.step.current
        if not error or not self.step.create_first or old is None or self.destroyed:
            return error
        if self.ready:
            return f"the new one is ready, but the old one ({old.info.sandbox_id}) is still there: {error}"
        if self.stage is CallKind.CHECK:
            return error
        return f"{error}; the old one ({old.info.sandbox_id}) was left running"


def asks_nothing(step: Step) -> bool:
    """Whether the step's sandbox is declared to be ready as soon as it runs."""
    return step.desired is not None and step.desired.spec.readiness.kind is ProbeKind.NONE


def stages_of(step: Step) -> deque[CallKind]:
    """The calls a step consists of, in order. What is created is probed even where no readiness is asked for: one look
    tells whether it still runs."""
    probe = [] if asks_nothing(step) else [CallKind.PROBE]
    match step.action:
        case Action.CREATE:
            return deque([CallKind.CREATE, CallKind.PROBE])
        case Action.REPLACE if step.create_first:
            # waiting may take long, so the old one is checked again right before it goes
            return deque([CallKind.CHECK, CallKind.CREATE, CallKind.PROBE, CallKind.CHECK, CallKind.DESTROY])
        case Action.REPLACE | Action.REPAIR:
            return deque([CallKind.CHECK, CallKind.DESTROY, CallKind.CREATE, CallKind.PROBE])
        case Action.UPDATE:
            return deque([CallKind.CHECK, CallKind.UPDATE, *probe])
        case Action.ADOPT if step.reason is Reason.SEEN:
            return deque([CallKind.CHECK, CallKind.RECORD])
        case Action.ADOPT:
            return deque([CallKind.CHECK, CallKind.RECORD, *probe])
        case Action.DESTROY:
            return deque([CallKind.CHECK, CallKind.DESTROY])
        case Action.FORGET:
            return deque()
    assert_never(step.action)
