"""One kind of objects followed without end: listed, then watched from there, and taken up again when that breaks. One thread
and one connection for each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Protocol

from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.order import Json
from reconciler.backends.subscriber import joined
from reconciler.errors import BackendError

_PAUSES = (
    0.2,
    10.0,
)  # seconds between two attempts to take a broken stream up again: the shortest, the longest
_LASTS = 1.0  # seconds; a server that ends every watch sooner is not asked without a pause
_ENDS_WITHIN = 2.0


class Hearer(Protocol):
    """Who hears of objects, from the follower's thread. `listed` is all there is, `changed` one object and whether it is
    gone, `lost` why nothing is known for the moment."""

    def listed(self, items: Sequence[Json]) -> None: ...
    def changed(self, item: Json, *, gone: bool) -> None: ...
    def lost(self, error: BackendError) -> None: ...


class Follower:
    """Follows from the first listing on, which is made at once: raises what it raises."""

    def __init__(
        self,
        cluster: Cluster,
        kind: str,
        selector: str,
        hearer: Hearer,
        *,
        fields: str = "",
        pauses: tuple[float, float] = _PAUSES,
        at_once: bool = True,
    ) -> None:
        self._cluster = cluster
        self._kind = kind
        self._query = {"selector": selector, "fields": fields}
        self._hearer = hearer
        self._pauses = pauses
        self._closed = threading.Event()
        self._stream: Closable | None = None
        self._version = self._list() if at_once else ""
        self._thread = threading.Thread(target=self._run, name=f"follow-{kind}", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """Returns when nothing more is told. May be called twice, and by who is told."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.close()
        joined(self._thread, _ENDS_WITHIN)

    def _list(self) -> str:
        items, version = self._cluster.listed(self._kind, **self._query)
        self._hearer.listed(items)
        return version

    def _run(self) -> None:
        pause, longest = self._pauses
        while not self._closed.is_set():
            began = time.monotonic()
            try:
                if not self._version:
                    self._version = self._list()
                self._hear()
            except BackendError as error:
                self._version = ""  # what came meanwhile is found by listing again
                if not self._closed.is_set():
                    self._hearer.lost(error)
            lasted = time.monotonic() - began
            if lasted > longest:
                pause = self._pauses[0]  # what breaks as soon as it stands is not taken up without a pause
            if self._version and lasted > _LASTS:
                continue
            self._closed.wait(pause)
            pause = min(2 * pause, longest)

    def _hear(self) -> None:
        """Until the server ends it, which it does every few minutes: then it is watched on from there."""
        stream = self._stream = self._cluster.watch(self._kind, version=self._version, **self._query)
        try:
            if self._closed.is_set():
                return
            for change in stream:
                self._version = change.version or self._version
                if change.item is not None and not self._closed.is_set():
                    self._hearer.changed(change.item, gone=change.gone)
                if self._closed.is_set():
                    return
        finally:
            stream.finish()


class Closable(Protocol):
    def close(self) -> None: ...
