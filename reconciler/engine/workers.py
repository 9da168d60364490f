"""Daemon threads that run one blocking call at a time and put the answer on a queue.

Not `ThreadPoolExecutor`: its threads are joined at exit, and a call that hangs would hold up a run that is over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Workers:
    """Grows to `limit` threads as work comes. `put` never blocks; results go to the callback each job brings."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)

    def put(self, job: Callable[[], None]) -> None:
        """Run the job soon. The job must not raise."""
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._limit:
            thread = threading.Thread(
                target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def close(self) -> None:
        """Let idle threads go; busy ones end after their job. Waits for nobody."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            self._idle.release()
