"""A wish to stop, on its way from a signal handler to the coordinator."""

from __future__ import annotations

from collections.abc import Callable


class StopRequest:
    """Asked for from a signal handler or another thread, heard by the coordinator at once."""

    def __init__(self) -> None:
        self.requested = False
        self._wake: Callable[[], None] | None = None

    def request(self) -> None:
        self.requested = True
        if self._wake is not None:
            self._wake()

    def attach(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        if self.requested:
            wake()
