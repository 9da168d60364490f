"""How a loop that corrects keeps from making things worse: votes on readiness, growing pauses, giving up. Pure.

One object per sandbox; times are seconds of a steady clock and arguments.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct, field


class Damping(Struct, frozen=True, kw_only=True):
    """`failures` of the last `of` probes must fail before a sandbox is called silent; after a failed one it is probed again
    in `probe_again` seconds. The first correction comes at once, the second no sooner than `pause` seconds after it ended,
    each further one `factor` times as long after, at most `longest`. All is forgotten when it has been well for
    `well_after` seconds. After `give_up` corrections within `window` seconds that worked, and did not last, it is left alone;
    what fails is tried on, with the longest pause in the end: the engine may be mended any time."""

    failures: int = 3
    of: int = 5
    probe_again: float = 2.0
    pause: float = 1.0
    factor: float = 2.0
    longest: float = 300.0
    well_after: float = 120.0
    give_up: int = 8
    window: float = 3600.0

    def after(self, attempts: int) -> float:
        """The pause after so many corrections, at least one, without jitter."""
        grown: float = self.pause * self.factor ** min(attempts - 1, 60)
        return min(self.longest, grown)


class Patient(Struct):
    """One sandbox as the loop knows it. `attempts` counts corrections since it was last well for long enough."""

    damping: Damping
    sandbox_id: str = ""
    attempts: int = 0
    not_before: float = 0.0
    gave_up: bool = False
    since: float | None = None  # when its present drift was first seen
    _well_since: float | None = None
    _corrections: deque[float] = field(default_factory=deque)
    _probes: deque[bool] = field(default_factory=deque)

    # -- readiness

    def probed(self, answers: bool) -> None:
        self._probes.append(answers)
        while len(self._probes) > self.damping.of:
            self._probes.popleft()

    def identified(self, sandbox_id: str) -> None:
        """Which object it is now: what another one answered says nothing of this one."""
        if sandbox_id != self.sandbox_id:
            self.sandbox_id = sandbox_id
            self._probes.clear()

    def unheard(self) -> None:
        """Nobody asked it."""
        self._probes.clear()

    @property
    def silent(self) -> bool:
        return self._probes.count(False) >= self.damping.failures and not self._probes[-1]

    @property
    def suspect(self) -> bool:
        """Its last probe failed, and that does not mean anything yet."""
        return bool(self._probes) and not self._probes[-1] and not self.silent

    # -- corrections

    def drifted(self, now: float) -> None:
        self._well_since = None
        if self.since is None:
            self.since = now

    def well(self, now: float) -> None:
        """It is as it was applied, as far as can be seen."""
        self.since = None
        if self._well_since is None:
            self._well_since = now
        if self.attempts and now - self._well_since >= self.damping.well_after:
            self.forgive()

    def may_be_corrected(self, now: float) -> bool:
        return not self.gave_up and now >= self.not_before

    def corrected(self, now: float, jitter: float, *, worked: bool = True) -> None:
        """A correction of it has ended, well or not. `jitter` in 0 … 1 spreads the next one over the last fifth of its
        pause."""
        self.put_off(now, jitter)
        self._probes.clear()
        if not worked:
            return
        self._corrections.append(now)
        while self._corrections and self._corrections[0] <= now - self.damping.window:
            self._corrections.popleft()
        if len(self._corrections) >= self.damping.give_up:
            self.gave_up = True

    def put_off(self, now: float, jitter: float) -> None:
        """The next one comes no sooner than after a pause, which grows; that is no step towards giving up."""
        self.attempts += 1
        self._well_since = None
        self.not_before = now + self.damping.after(self.attempts) * (0.8 + 0.2 * jitter)

    def forgive(self) -> None:
        """Begin anew: it was well for long, or a person took care of it."""
        self.attempts, self.not_before, self.gave_up = 0, 0.0, False
        self._corrections.clear()
