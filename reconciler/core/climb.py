"""Where one repair is on its ladder while it is carried out. Pure bookkeeping of the Scheduler."""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from msgspec import Struct, field

from reconciler.core.identity import recovers
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.plan import Rung, Step


class Attempt(StrEnum):
    """What was done on a rung, as a report tells it."""

    WAITED = "waited"  # it ran again by itself
    AGAIN = "waited again"
    RESTARTED = "restarted"


NOTES = {
    Attempt.WAITED: "it runs again: it is kept if it becomes ready",
    Attempt.AGAIN: "waiting for it once more",
    Attempt.RESTARTED: "restarting it: it is kept if it becomes ready",
}


class Climb(Struct):
    """`rungs` are left to be tried, `attempt` is being made, `tried` is what came of those before."""

    rungs: deque[Rung] = field(default_factory=deque)
    attempt: Attempt | None = None
    tried: list[str] = field(default_factory=list)
    came_back: bool = False

    def next(self, step: Step, seen: ObservedSandbox) -> Attempt | None:
        """The cheapest attempt that is left for an object as it was just seen; None when only replacing it is. What broke
        and runs again by itself is only waited for, to begin with."""
        self.attempt = self._next(step, seen)
        return self.attempt

    def _next(self, step: Step, seen: ObservedSandbox) -> Attempt | None:
        if not self.came_back and not step.changes and recovers(step, seen):
            self.came_back = True
            return Attempt.WAITED
        while self.rungs:
            if self.rungs.popleft() is Rung.RESTART:
                return Attempt.RESTARTED
            if not (seen.phase.is_dead or seen.phase is Phase.PAUSED or self.came_back):
                return Attempt.AGAIN
        return None

    def ended(self, what: str) -> str:
        """The present attempt came to this; says so in a sentence."""
        told = f"{self.attempt}: {what}"
        self.tried.append(told)
        self.attempt = None
        return told
