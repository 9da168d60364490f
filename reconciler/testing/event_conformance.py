"""What a backend must keep that tells events, or where a drift comes from: a part of `BackendConformance`.

A hint may be late, doubled or for nothing, so a test waits for one and never counts them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from reconciler.backends.base import SandboxBackend
from reconciler.errors import BackendError, Unsupported
from reconciler.model.desired import SandboxSpec
from reconciler.model.drift import Cause
from reconciler.model.observed import SandboxInfo

TOLD_WITHIN = 5.0  # seconds; a machine may be busy
_DEATHS = (Cause.KILLED, Cause.CRASHED, Cause.STOPPED, Cause.ENDED, Cause.OUT_OF_MEMORY, Cause.UNKNOWN)


class Hints:
    """What a backend told, to be given to `listen`."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._came = threading.Condition()

    def __call__(self, sandbox_id: str) -> None:
        with self._came:
            self._told.append(sandbox_id)
            self._came.notify_all()

    def told(self) -> list[str]:
        with self._came:
            return list(self._told)

    def forget(self) -> None:
        with self._came:
            self._told.clear()

    def wait(self, sandbox_id: str, seconds: float = TOLD_WITHIN) -> float:
        """Until it, or all of them, may have changed: how long that took. Fails when it takes longer than `seconds`."""
        began = time.monotonic()
        with self._came:
            said = self._came.wait_for(lambda: {sandbox_id, ""} & set(self._told), seconds)
        assert said, f"nothing was told of {sandbox_id or 'all'} within {seconds:g} s, only {self._told}"
        return time.monotonic() - began


class EventConformance:
    """Not to be used alone: `BackendConformance` is."""

    def another(self, backend: SandboxBackend) -> SandboxBackend:
        raise NotImplementedError

    def kill(self, backend: SandboxBackend, info: SandboxInfo) -> None:
        raise NotImplementedError

    def unreachable(self) -> SandboxBackend:
        raise NotImplementedError

    def spec(self, **fields: object) -> SandboxSpec:
        raise NotImplementedError

    def threads(self) -> set[threading.Thread]:
        """Those of this process now, without those of a server that the test itself keeps in it."""
        return set(threading.enumerate())

    def test_a_backend_without_events_says_so(self, backend: SandboxBackend) -> None:
        if backend.capabilities.events:
            pytest.skip("this backend tells events")
        with pytest.raises(Unsupported):
            backend.listen(lambda _: None)

    def test_a_death_and_a_removal_are_told_though_whoever_listens_fails_and_nothing_once_closed(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        """Of one that another object makes when the listening has begun already."""
        self._needs_events(backend)
        before, hints, unheard = self.threads(), Hints(), Hints()

        def fails(sandbox_id: str) -> None:
            hints(sandbox_id)
            raise RuntimeError("a bug of whoever listens")

        others, subscription = self.another(backend), backend.listen(fails)
        backend.listen(unheard).close()
        try:
            info = others.create(None, new_id(), spec=self.spec())
            hints.wait(info.sandbox_id)
            hints.forget()
            self.kill(backend, info)
            hints.wait(info.sandbox_id)
            hints.forget()
            others.destroy(info)
            hints.wait(info.sandbox_id)
        finally:
            subscription.close()
            subscription.close()
        assert not self.threads() - before
        assert unheard.told() == []

    def test_who_cannot_begin_to_listen_is_told_at_once(self, backend: SandboxBackend) -> None:
        self._needs_events(backend)
        with pytest.raises(BackendError):
            self.unreachable().listen(lambda _: None)

    def test_provenance_says_nothing_of_what_is_well_and_something_that_fits_or_nothing_of_the_rest(
        self, backend: SandboxBackend, new_id: Callable[[], str]
    ) -> None:
        began, absent = time.time(), new_id()
        info = backend.create(None, new_id(), spec=self.spec())
        assert backend.provenance([]) == {}
        assert set(backend.provenance([info.sandbox_id, absent])) <= {absent}
        self.kill(backend, info)
        while backend.is_alive(info):
            time.sleep(0.01)
        ended = backend.provenance([info.sandbox_id]).get(info.sandbox_id)
        assert ended is None or ended.cause in _DEATHS
        assert ended is None or ended.at is None or began - 5 <= ended.at <= time.time() + 5
        self.another(backend).destroy(info)
        gone = backend.provenance([info.sandbox_id]).get(info.sandbox_id)
        assert gone is None or gone.cause is Cause.REMOVED

    def _needs_events(self, backend: SandboxBackend) -> None:
        if not backend.capabilities.events:
            pytest.skip("this backend tells no events")
