"""What happens to the objects of a namespace, as hints that something may have happened to a sandbox. Tells names only: what is
so, a look says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reconciler.backends.containers import SANDBOX_ID
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.follow import Follower
from reconciler.backends.kubernetes.labelling import SELECTOR
from reconciler.backends.kubernetes.order import Json
from reconciler.backends.subscriber import Subscriber
from reconciler.errors import BackendError


class ClusterEvents:
    """A subscription. Raises what the cluster's absence is, at once, if there is nothing to listen to."""

    def __init__(self, cluster: Cluster, kind: str, tell: Callable[[str], None]) -> None:
        self._subscriber = Subscriber(tell)
        self._begun = False
        self._follower = Follower(cluster, kind, SELECTOR, self)
        self._begun = True

    @property
    def is_closed(self) -> bool:
        return self._subscriber.is_closed

    def listed(self, items: Sequence[Json]) -> None:
        if self._begun:  # what happened while the stream was broken
            self._subscriber("")

    def changed(self, item: Json, *, gone: bool) -> None:
        sandbox_id = (item["metadata"].get("labels") or {}).get(SANDBOX_ID)
        if sandbox_id:
            self._subscriber(str(sandbox_id))

    def lost(self, error: BackendError) -> None:
        """Whoever looks next is told what is wrong."""

    def close(self) -> None:
        self._subscriber.close()
        self._follower.close()
