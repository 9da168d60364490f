"""Tells systemd how the loop is (sd_notify), where systemd started it; nothing at all elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from reconciler.model.watching import WatchEvent


class Systemd:
    """`environ` as systemd gave it. Hears events; `tick` is called whenever the loop moves, and feeds the watchdog."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        pid: int = os.getpid(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None: ...

    def __call__(self, event: WatchEvent) -> None: ...

    def tick(self) -> None: ...

    def reloading(self) -> None:
        """A reload begins; `Reloaded` ends it."""

    def close(self) -> None: ...
