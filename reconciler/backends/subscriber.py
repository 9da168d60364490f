"""Whoever listens to a backend: told one hint at a time, and none once they have closed. Knows no engine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable


class Subscriber:
    """Calls `tell(sandbox id)`. What that raises ends here: the next hint has to come all the same, and whoever listens has
    the better place to say what went wrong with them."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._telling = threading.RLock()  # again by the same thread: a callback may close
        self._closed = threading.Event()

    def __call__(self, sandbox_id: str) -> None:
        with self._telling, contextlib.suppress(Exception):
            if not self._closed.is_set():
                self._tell(sandbox_id)

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def pause(self, seconds: float) -> bool:
        """True as soon as it is closed, False when that much time has gone by."""
        return self._closed.wait(seconds)

    def close(self) -> None:
        """Returns when a call that is under way has come back."""
        self._closed.set()
        with self._telling:
            pass


def joined(thread: threading.Thread, seconds: float) -> None:
    """Wait for the end of a listener's thread, unless it is the one that asks."""
    if thread is not threading.current_thread():
        thread.join(seconds)
