"""One backend's queues of verbs. Pure bookkeeping of the Scheduler."""

from __future__ import annotations

from collections import deque

from msgspec import Struct, field

from reconciler.core.calls import CallKind, Run


class Lane(Struct):
    """One backend's queues of verbs and what it has in flight.

    `begun` goes first: a step half way through (destroyed, not created yet) is downtime. New creates go last, so
    that what is to be destroyed has freed its place.
    """

    limit: int
    begun: deque[Run] = field(default_factory=deque)
    others: deque[Run] = field(default_factory=deque)
    creates: deque[Run] = field(default_factory=deque)
    in_flight: int = 0

    @property
    def idle(self) -> bool:
        return not (self.begun or self.others or self.creates)

    def put(self, run: Run) -> None:
        if run.begun:
            self.begun.append(run)
        elif run.stage is CallKind.CREATE:
            self.creates.append(run)
        else:
            self.others.append(run)

    def take(self, *, may_create: bool) -> Run | None:
        """The next run that has not ended meanwhile."""
        for queue in (self.begun, self.others, self.creates if may_create else ()):
            while queue:
                run = queue.popleft()
                if run.result is None:
                    return run
        return None
