"""What a watch is asked from outside, and what wakes it."""

from __future__ import annotations

from queue import Empty, SimpleQueue


class Wishes:
    """What has been asked of the loop from outside, by any thread; each wish wakes it."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[str] = SimpleQueue()

    def put(self, wish: str) -> None:
        self._queue.put(wish)

    def wait(self, seconds: float) -> set[str]:
        """All that there are, at once if there is one, else what comes within so many seconds."""
        found: set[str] = set()
        try:
            found.add(self._queue.get(timeout=seconds) if seconds > 0 else self._queue.get_nowait())
            while True:
                found.add(self._queue.get_nowait())
        except Empty:
            return found
