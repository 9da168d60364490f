"""Backends written against the seed's contract alone: what a third party has today."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import count

RUNNING: dict[str, dict[str, TheirInfo]] = {}
_INSTANCES = count(1)


@dataclass
class TheirInfo:
    """A `SandboxInfo` of another package: the same fields, another class."""

    sandbox_id: str
    sandbox_url: str
    container_name: str | None = None
    container_id: str | None = None
    created_at: float = 0.0


class SeedBase(ABC):
    @abstractmethod
    def create(
        self, thread_id: str | None, sandbox_id: str, extra_mounts: list[tuple[str, str, bool]] | None = None
    ) -> TheirInfo: ...

    @abstractmethod
    def destroy(self, info: TheirInfo) -> None: ...

    @abstractmethod
    def is_alive(self, info: TheirInfo) -> bool: ...

    @abstractmethod
    def discover(self, sandbox_id: str) -> TheirInfo | None: ...

    def list_running(self) -> list[TheirInfo]:
        return []


class SeedBackend(SeedBase):
    """Keeps its sandboxes in `RUNNING[engine]`; `calls` is what it was asked."""

    def __init__(self, engine: str = "main", fails_with: Exception | None = None) -> None:
        self._running = RUNNING.setdefault(engine, {})
        self._fails_with = fails_with
        self.calls: list[tuple[object, ...]] = []

    def _ask(self, *call: object) -> None:
        self.calls.append(call)
        if self._fails_with is not None:
            raise self._fails_with

    def create(
        self, thread_id: str | None, sandbox_id: str, extra_mounts: list[tuple[str, str, bool]] | None = None
    ) -> TheirInfo:
        self._ask("create", thread_id, sandbox_id, extra_mounts)
        made = TheirInfo(sandbox_id, f"http://{sandbox_id}.test:8080", container_id=f"c{next(_INSTANCES)}")
        return self._running.setdefault(sandbox_id, made)

    def destroy(self, info: TheirInfo) -> None:
        self._ask("destroy", info.sandbox_id)
        self._running.pop(info.sandbox_id, None)

    def is_alive(self, info: TheirInfo) -> bool:
        self._ask("is_alive", info.sandbox_id)
        return info.sandbox_id in self._running

    def discover(self, sandbox_id: str) -> TheirInfo | None:
        self._ask("discover", sandbox_id)
        return self._running.get(sandbox_id)

    def list_running(self) -> list[TheirInfo]:
        self._ask("list_running")
        return list(self._running.values())


class StubbornBackend(SeedBackend):
    """Says it destroyed, and did not."""

    def destroy(self, info: TheirInfo) -> None:
        self._ask("destroy", info.sandbox_id)


class DuckBackend:
    """No base class at all."""

    def __init__(self, *, engine: str = "duck") -> None:
        self._inner = SeedBackend(engine)

    def create(self, thread_id, sandbox_id, extra_mounts=None):
        return self._inner.create(thread_id, sandbox_id, extra_mounts)

    def destroy(self, info):
        self._inner.destroy(info)

    def is_alive(self, info):
        return self._inner.is_alive(info)

    def discover(self, sandbox_id):
        return self._inner.discover(sandbox_id)

    def list_running(self):
        return self._inner.list_running()


class HalfBackend:
    """Two verbs are not enough."""

    def create(self, thread_id, sandbox_id, extra_mounts=None):
        raise NotImplementedError

    def destroy(self, info):
        raise NotImplementedError
