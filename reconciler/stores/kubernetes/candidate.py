"""The leadership of a stack's watches: a second Lease, held for as long as a watch looks and acts, and not only while it writes.

It is for quiet, not for safety: what a watch changes it changes under the lock of the state, which is fenced. A leader that
cannot renew stops by itself before anybody else may take over.
"""

from __future__ import annotations

from collections.abc import Callable

from reconciler.stores.base import Candidate
from reconciler.stores.kubernetes.lease import KubernetesLease, Lock

_OPERATION = "watch"


class KubernetesCandidate(Candidate):
    """One wish to lead."""

    def __init__(self, lock: Lock, *, on_lost: Callable[[], None], close: Callable[[], None]) -> None:
        self.poll = lock.timing.poll
        self._lock = lock
        self._identity = lock.identity()
        self._on_lost = on_lost
        self._close = close

    def attempt(self) -> KubernetesLease | None:
        lease, holder, _ = self._lock.attempt(self._identity, _OPERATION, on_lost=self._on_lost)
        self.leader = holder if lease is None else lease.info
        return lease

    def close(self) -> None:
        self._close()
