"""What a `watch` tells while it runs, as frozen events: logs, metrics, notifications and the audit log are made of these.

Times called `at` are seconds since the epoch, durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from reconciler.model.desired import Address
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.drift import Cause
from reconciler.model.plan import Action


class IncidentKind(StrEnum):
    """What an incident is about. DRIFT: one sandbox is not as applied. GAVE_UP: it was put back too often, and is left
    alone now. FLEET: too many at once, so nothing is put back. BACKEND: it cannot be looked at. CONFIGURATION: the new
    one is not valid, so the old one goes on. STORE: the state cannot be read or written. REFUSED: policy or protection
    forbids the correction."""

    DRIFT = "drift"
    GAVE_UP = "gave_up"
    FLEET = "fleet"
    BACKEND = "backend"
    CONFIGURATION = "configuration"
    STORE = "store"
    REFUSED = "refused"


class Trigger(StrEnum):
    """Why a look is made. INTERVAL: the clock. EVENT: a backend told of something. PAUSE: one between two corrections is over.
    RELOAD: a signal asked for it. CHANGED: the configuration is another one. ONCE: it is the only one."""

    INTERVAL = "interval"
    EVENT = "event"
    PAUSE = "pause"
    RELOAD = "reload"
    CHANGED = "changed"
    ONCE = "once"


class Incident(Struct, frozen=True, kw_only=True):
    """Something that is wrong from `at` on, until it is told that it is over. `subject` is what it is about: an address, a
    backend's name, or "". Kind and subject are its identity."""

    kind: IncidentKind
    subject: str
    summary: str
    at: float
    cause: Cause | None = None
    fix: str = ""

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.subject}"


class WatchStarted(Struct, frozen=True, kw_only=True):
    """`interval` between two looks, 0 when there is but one; `backends` by name to whether it tells events."""

    at: float
    stack: str
    interval: float
    backends: Mapping[str, bool] = field(default_factory=dict)


class Looked(Struct, frozen=True, kw_only=True):
    """One look at the whole fleet, of `seconds`. `drifted` counts what is not as applied whatever its policy says,
    `waiting` those of them that are not to be put back yet (backoff) or any more, `pending` the changes of the
    configuration that wait for an apply. `failures` are backends that could not be seen, each with why: then the counts
    are of what could."""

    at: float
    seconds: float
    desired: int
    observed: int
    ready: int
    drifted: int
    waiting: int = 0
    pending: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    trigger: Trigger = Trigger.INTERVAL


class Corrected(Struct, frozen=True, kw_only=True):
    """One correction came to its end. `error` is "" when it worked; `seconds` are from when the drift was first seen,
    `took` those of the correction alone; `attempt` counts from 1 since it was last healthy. `retry_in` is set when another
    try will follow by itself."""

    at: float
    address: Address
    backend: str
    sandbox_id: str
    action: Action
    reason: str
    cause: Cause
    seconds: float
    took: float
    error: str = ""
    attempt: int = 1
    retry_in: float | None = None

    @property
    def ok(self) -> bool:
        return not self.error


class IncidentOpened(Struct, frozen=True, kw_only=True):
    incident: Incident


class IncidentClosed(Struct, frozen=True, kw_only=True):
    """It is over. `how` says for people what ended it."""

    incident: Incident
    at: float
    how: str = ""

    @property
    def seconds(self) -> float:
        return max(0.0, self.at - self.incident.at)


class Reloaded(Struct, frozen=True, kw_only=True):
    """The configuration was read again. With `problems` it is not valid, and the one before goes on. `backends` are those that
    the new one uses."""

    at: float
    problems: tuple[Diagnostic, ...] = ()
    summary: str = ""
    backends: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


class WatchStopped(Struct, frozen=True, kw_only=True):
    at: float
    why: str = ""


class LeadershipChanged(Struct, frozen=True, kw_only=True):
    """Of several watches of one stack this one looks and acts from now on, or it does not. `leader` is who does, for people,
    "" where nobody is known; `why` says what ended ours, or keeps us from knowing."""

    at: float
    leads: bool
    leader: str = ""
    why: str = ""


WatchEvent = (
    WatchStarted
    | Looked
    | Corrected
    | IncidentOpened
    | IncidentClosed
    | Reloaded
    | LeadershipChanged
    | WatchStopped
)
