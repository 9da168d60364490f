"""Of several watches of one stack, one looks and acts: the others stand by until it is gone.

What makes two of them safe is the lock of the state, which each takes while it acts. This makes one of them quiet: it asks
nothing of the backends and tells nobody anything until it leads. Whoever loses the leadership stops at once, as if it was asked to.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.engine.clock import Clock
from reconciler.engine.stop import StopRequest
from reconciler.engine.watch import Source, Watch
from reconciler.engine.wishes import Wishes
from reconciler.errors import ConfigError, StoreError
from reconciler.model.watching import LeadershipChanged, WatchEvent
from reconciler.stores.base import Candidate, Lease


class Leading:
    """Runs the watch that `make` gives, a new one each time that it comes to lead. `tell` and `alive` as for a watch."""

    def __init__(
        self,
        source: Source,
        make: Callable[[StopRequest], Watch],
        *,
        tell: Callable[[WatchEvent], None],
        stop: StopRequest,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = source
        self._make = make
        self._tell = tell
        self._stop = stop
        self._alive = alive
        self._wishes = Wishes()
        self._watch: Watch | None = None
        self._term = StopRequest()
        self._said: LeadershipChanged | None = None

    def reload(self) -> None:
        """Of the watch that runs; who stands by reads the configuration when it comes to lead. For a signal handler."""
        if self._watch is not None:
            self._watch.reload()

    def run(self) -> None:
        """Until a stop is asked for. Raises ConfigError where the store knows no leadership, and what keeps a configuration from
        being used."""
        with self._source.open() as context:
            candidate = context.store.candidate(on_lost=self._lost)
            if candidate is None:
                raise ConfigError(
                    f"{context.store.describe()} is in a store that keeps no leadership",
                    hint="`--leader-elect` needs `state: {store: kubernetes}`; without it, run one watch: a second one would "
                    "do no harm, as each takes the lock while it acts, but both would look and tell",
                )
            try:
                while (lease := self._lead(candidate, context.clock)) is not None:
                    self._serve(lease, context.clock)
            finally:
                candidate.close()

    def _lead(self, candidate: Candidate, clock: Clock) -> Lease | None:
        """The leadership once it can be had; None when a stop is asked for."""
        self._stop.attach(lambda: self._wishes.put("stop"))
        while not self._stop.requested:
            self._alive()
            self._term = StopRequest()
            try:
                lease = candidate.attempt()
                leader, why = "" if candidate.leader is None else candidate.leader.holder, ""
            except StoreError as error:
                lease, leader, why = None, "", error.message
            if lease is not None:
                return lease
            self._say(LeadershipChanged(at=clock.now(), leads=False, leader=leader, why=why))
            self._wishes.wait(candidate.poll)
        return None

    def _serve(self, lease: Lease, clock: Clock) -> None:
        """Watch for as long as the lease is ours."""
        self._say(LeadershipChanged(at=clock.now(), leads=True, leader=lease.info.holder))
        term = self._term
        self._stop.attach(term.request)
        try:
            if lease.lost is None:
                self._watch = self._make(term)
                self._watch.run()
        finally:
            self._watch = None
            lease.release()
        if lease.lost is not None:
            self._said = None
            self._say(LeadershipChanged(at=clock.now(), leads=False, why=lease.lost.message))

    def _lost(self) -> None:
        """On the thread of the heartbeat."""
        self._term.request()

    def _say(self, event: LeadershipChanged) -> None:
        """Once, until something else is to be said."""
        said = self._said
        if said is None or (said.leads, said.leader, said.why) != (event.leads, event.leader, event.why):
            self._said = event
            self._tell(event)
