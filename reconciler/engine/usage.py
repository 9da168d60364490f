"""What live sandboxes take: two samples of each make a rate. Beside the probes, never in their way.

A sample that fails or comes too late leaves a blank; nothing here raises, and nothing outlasts its deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from msgspec import Struct, field

from reconciler.backends.base import SandboxBackend
from reconciler.engine.workers import Workers
from reconciler.model.desired import Address
from reconciler.model.observed import ObservedSandbox, SandboxInfo, Usage

APART = 0.25  # seconds between two samples: less says little, more makes a look slow
PATIENCE = 0.35  # seconds that samples may take longer than everything else
_AT_ONCE = 32  # samples in flight for each backend
_Key = tuple[str, str, str | None]


class Taken(Struct, frozen=True, kw_only=True):
    """`cpu` in cores (0.12 is an eighth of one), `memory` in bytes; None where it is not known."""

    cpu: float | None = None
    memory: int | None = None


class _Sandbox(Struct):
    """One of those that are measured. `first` and `last` are the samples, `at` when the newest came in, `before` what
    was known until then. Written by one worker at a time."""

    backend: SandboxBackend
    info: SandboxInfo
    first: Usage | None = None
    last: Usage | None = None
    at: float = 0.0
    before: Taken = Taken()
    started: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def taken(self) -> Taken:
        first, last = self.first, self.last
        if last is None:
            return Taken() if self.ended.is_set() else self.before
        if last.cores is not None:
            return Taken(cpu=last.cores, memory=last.memory)
        if first is None or last.at <= first.at or last.cpu_seconds < first.cpu_seconds:
            return Taken(memory=last.memory)  # one sample only, or it was started anew in between
        return Taken(cpu=(last.cpu_seconds - first.cpu_seconds) / (last.at - first.at), memory=last.memory)


class Meter:
    """Measures a fleet, once or again and again: from the second time on one sample each is enough, and what came too
    late for one time counts the next. `monotonic` and `sleep` are the clock that samples are kept apart by, in
    seconds."""

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._sleep = sleep
        self._before: dict[_Key, _Sandbox] = {}

    def start(
        self, live: Mapping[Address, ObservedSandbox], backend_of: Callable[[str], SandboxBackend]
    ) -> Measurement:
        """Begin to take samples of all that run on a backend that can tell; `finish` gives what came of it."""
        asked: dict[Address, _Sandbox] = {}
        jobs: dict[str, list[_Sandbox]] = {}
        known, self._before = self._before, {}
        for address, seen in live.items():
            backend = backend_of(seen.backend)
            if seen.phase.is_dead or not _can_tell(backend):
                continue
            key = (seen.backend, seen.info.sandbox_id, seen.info.container_id)
            earlier = known.get(key)
            if earlier is not None and not earlier.ended.is_set():
                sandbox = earlier  # still being asked: asking again would not be quicker
            else:
                sandbox = self._next(_Sandbox(backend, seen.info), earlier)
                jobs.setdefault(seen.backend, []).append(sandbox)
            asked[address] = self._before[key] = sandbox
        return Measurement(asked, [self._put(name, of) for name, of in sorted(jobs.items())])

    def _next(self, sandbox: _Sandbox, earlier: _Sandbox | None) -> _Sandbox:
        if earlier is None:
            return sandbox
        sandbox.before = earlier.taken()
        if earlier.last is not None and self._monotonic() - earlier.at >= APART:
            sandbox.first, sandbox.at = earlier.last, earlier.at
            sandbox.started.set()
        return sandbox

    def _put(self, backend: str, sandboxes: list[_Sandbox]) -> Workers:
        """All first samples before the second ones: by then most are far enough apart without waiting."""
        workers = Workers(f"usage-{backend}", _AT_ONCE)
        for sandbox in sandboxes:
            if not sandbox.started.is_set():
                workers.put(partial(self._first, sandbox))
        for sandbox in sandboxes:
            workers.put(partial(self._second, sandbox))
        return workers

    def _first(self, sandbox: _Sandbox) -> None:
        sandbox.first = sandbox.last = _sample(sandbox)
        sandbox.at = self._monotonic()
        sandbox.started.set()

    def _second(self, sandbox: _Sandbox) -> None:
        told = sandbox.last is not None and sandbox.last.cores is not None  # a second one would say the same
        if sandbox.started.wait(PATIENCE) and sandbox.first is not None and not told:
            self._sleep(max(0.0, sandbox.at + APART - self._monotonic()))
            sandbox.last = _sample(sandbox) or sandbox.last
            sandbox.at = self._monotonic()
        sandbox.ended.set()


class Measurement(Struct):
    """One that is under way."""

    _asked: Mapping[Address, _Sandbox]
    _workers: Iterable[Workers]

    def finish(self) -> Mapping[Address, Taken]:
        """What is known after `PATIENCE` seconds more, or sooner when everything is."""
        deadline = time.monotonic() + PATIENCE
        for sandbox in self._asked.values():
            sandbox.ended.wait(max(0.0, deadline - time.monotonic()))
        for workers in self._workers:
            workers.close()
        return {address: sandbox.taken() for address, sandbox in self._asked.items()}


def _can_tell(backend: SandboxBackend) -> bool:
    return getattr(type(backend), "usage", None) is not SandboxBackend.usage


def _sample(sandbox: _Sandbox) -> Usage | None:
    try:
        return sandbox.backend.usage(sandbox.info)
    except Exception:  # noqa: BLE001 - gone meanwhile, or a third party's bug: a blank in a table either way
        return None
