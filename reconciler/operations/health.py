"""Whether the loop lives and whether what it says can be relied on, kept from events; never decides what follows from it."""

from __future__ import annotations

import time
from collections.abc import Callable

from reconciler.model.watching import WatchEvent


class Health:
    """The loop is alive when it moved within `intervals` of its intervals, and within `least` seconds at any rate: one
    correction may take that long. `tick` is called whenever the loop moves."""

    def __init__(
        self,
        *,
        intervals: float = 3.0,
        least: float = 300.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None: ...

    def __call__(self, event: WatchEvent) -> None: ...

    def tick(self) -> None: ...

    def dead(self) -> str:
        """Why the loop counts as dead, "" when it lives."""
        raise NotImplementedError

    def unready(self) -> str:
        """Why it is not ready, "" when it is."""
        raise NotImplementedError
