"""Is it ready? Decided once, here: the thread driver, the simulator and both public wait functions only drive it.

Polling adapts to how long it has waited: a few milliseconds at first, then a small share of the time gone by, at
most 250 ms. A sandbox that took 300 ms is noticed some 5 ms late, one that took a minute an eighth of a second late, and
neither costs more than a few hundred probes. In a large fleet that would still be too many, so there the siblings'
experience counts: nobody is asked before the time that the quickest of late have needed.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from reconciler.model.desired import ProbeKind, Readiness

FIRST_DELAY = 0.004  # seconds
LONGEST_DELAY = 0.25
SHARE_OF_ELAPSED = 0.03
PROBE_TIMEOUT = 5.0  # one request never gets more, the seed's contract
PROBES_PER_SECOND = 1000.0  # over the whole fleet: what one coordinator can look at without starving the rest
PROBES_OF_A_FEW = 2000.0  # the same for a small one, which has the machine for itself
SETTLE = 0.2  # seconds after which what asks for no readiness is looked at once: what cannot start has ended by then
LARGE_FLEET = 32  # up to here everybody may be asked all the time
_FORGETTING = 1.02  # how fast the typical time follows when sandboxes become slower


class Waiting(Struct, frozen=True, kw_only=True):
    """One wait in progress. Times in seconds on the driver's monotonic clock. It has to stay ready for `hold` seconds, and is
    `since` then."""

    readiness: Readiness
    started: float
    hold: float = 0.0
    since: float | None = None
    successes: int = 0
    probes: int = 0
    last: str = ""

    @property
    def deadline(self) -> float:
        """Until when it must have answered; while it does, until that has lasted long enough."""
        limit = self.started + self.readiness.timeout
        return limit if self.since is None else max(limit, self.since + self.hold)


class Ready(Struct, frozen=True):
    """It answered as often as was asked for."""


class Again(Struct, frozen=True):
    """Probe again at this time."""

    at: float
    waiting: Waiting


class GaveUp(Struct, frozen=True):
    """The deadline passed, or it is dead and will never answer."""

    why: str


Verdict = Ready | Again | GaveUp


def probe_timeout(waiting: Waiting, now: float) -> float:
    """How long one probe may take: never past the deadline."""
    return max(0.0, min(PROBE_TIMEOUT, waiting.deadline - now))


class Fleet(Struct, kw_only=True):
    """What is known of all sandboxes being waited for: how many, and how many seconds they typically need. Kept by
    the Scheduler, which changes it thousands of times a second."""

    size: int = 0
    typical: float | None = None

    def learn(self, seconds: float) -> None:
        """One more has become ready: down at once, up slowly, because being noticed late teaches nothing."""
        self.typical = seconds if self.typical is None else min(seconds, self.typical * _FORGETTING)


def first_probe(readiness: Readiness, started: float, fleet: Fleet) -> float:
    """When to ask for the first time."""
    if readiness.kind is ProbeKind.NONE:
        return started + SETTLE
    if fleet.size <= LARGE_FLEET or fleet.typical is None or readiness.interval is not None:
        return started
    return started + min(fleet.typical, readiness.timeout)


def decide(
    waiting: Waiting, *, ready: bool, dead: bool, detail: str, now: float, fleet: Fleet | None = None
) -> Verdict:
    """What one probe's answer means. All of a large `fleet` are asked less often each, so that asking stays
    affordable."""
    if ready:
        successes = waiting.successes + 1
        if successes >= waiting.readiness.successes:
            return _held(waiting, successes, now)
    else:
        successes = 0
        if dead:
            return GaveUp(detail or "it is not running any more")
    probes, last = waiting.probes + 1, detail or waiting.last
    after = replace(waiting, successes=successes, since=None, probes=probes, last=last)
    if now >= after.deadline:
        last = f"; last answer: {after.last}" if after.last else ""
        return GaveUp(f"not ready after {waiting.readiness.timeout:g}s{last}")
    return Again(min(now + _delay(after, now, fleet), after.deadline), after)


def _held(waiting: Waiting, successes: int, now: float) -> Verdict:
    """It answers: that is enough, or it has to go on for a while."""
    since = now if waiting.since is None else waiting.since
    if now - since >= waiting.hold:
        return Ready()
    after = replace(waiting, successes=successes, since=since, probes=waiting.probes + 1)
    return Again(
        min(now + max(LONGEST_DELAY, waiting.readiness.interval or 0.0), since + waiting.hold), after
    )


def _delay(waiting: Waiting, now: float, fleet: Fleet | None) -> float:
    if waiting.readiness.interval is not None:
        return waiting.readiness.interval
    elapsed = now - waiting.started
    own = min(LONGEST_DELAY, max(FIRST_DELAY, elapsed * SHARE_OF_ELAPSED))
    if fleet is None or fleet.size <= LARGE_FLEET:
        return own if fleet is None else max(own, fleet.size / PROBES_OF_A_FEW)
    if fleet.typical is not None and elapsed < fleet.typical:
        return max(own, fleet.typical - elapsed)
    return max(own, fleet.size / PROBES_PER_SECOND)
