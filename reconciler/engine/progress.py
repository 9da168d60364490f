"""What backends tell while a verb takes long, on its way from their threads to the coordinator.

Holds the newest note of each sandbox and gives them out in rounds, so that a backend that talks fast costs no more
than one that talks slowly. Never emits anything itself, and never lets a backend's trouble with telling end a run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from reconciler.backends.base import SandboxBackend
from reconciler.model.plan import Plan

ROUND = 0.25  # seconds between two rounds: at most four notes a second for each step


class ProgressNotes:
    """`wake` is called from a backend's thread when there is something new, once a round at most. `due` and `wake_at`
    are the coordinator's; times in seconds on its monotonic clock."""

    def __init__(self, plan: Plan, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._keys = _keys(plan)
        self._lock = threading.Lock()
        self._news: dict[str, str] = {}
        self._next_round = float("-inf")
        self._closed = False

    def listen(self, backends: Mapping[str, SandboxBackend]) -> None:
        """From now on hear what these backends tell, by the name that the plan knows them by."""
        for name, backend in backends.items():
            with suppress(
                Exception
            ):  # progress is a courtesy: a third party's failure to tell must not end a run
                backend.tell_progress(partial(self._tell, name))

    def close(self, backends: Mapping[str, SandboxBackend]) -> None:
        """Hear nothing more, also from a verb that is still under way."""
        with self._lock:
            self._closed = True
        for backend in backends.values():
            with suppress(Exception):
                backend.tell_progress(_nobody)

    def due(self, now: float) -> list[tuple[str, str]]:
        """(key of the step, its newest note) for every step that there is one for; nothing before the round's time has
        come."""
        if not self._news or now < self._next_round:
            return []
        with self._lock:
            news, self._news = self._news, {}
        self._next_round = now + ROUND
        return list(news.items())

    def wake_at(self, now: float) -> float | None:
        """When `due` has something to give; None while there is nothing."""
        return max(now, self._next_round) if self._news else None

    def _tell(self, backend: str, sandbox_id: str, note: str) -> None:
        key = self._keys.get((backend, sandbox_id))
        if key is None:
            return
        with self._lock:
            if self._closed:
                return
            first = not self._news
            self._news[key] = note
        if first:
            self._wake()


def _keys(plan: Plan) -> dict[tuple[str, str], str]:
    """The step that each object of the plan belongs to: the one it makes, and the one it takes away."""
    keys: dict[tuple[str, str], str] = {}
    for step in plan.steps:
        keys[step.backend, step.sandbox_id] = step.key
        if step.current is not None:
            keys.setdefault((step.current.backend, step.current.info.sandbox_id), step.key)
    return keys


def _nobody(sandbox_id: str, note: str) -> None:
    """What a backend tells after the run."""
