"""Which container is which sandbox: by our name, by its label, by the engine's own name. Looks only.

Labels decide what is ours; a name never does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reconciler.backends.containers import MANAGED_BY, SANDBOX_ID
from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.look import Reader
from reconciler.errors import NotFound, Transient, Unavailable
from reconciler.model.observed import ObservedSandbox, Phase

REMOVING = "the engine is removing it"
_ALIVE = (Phase.STARTING, Phase.READY, Phase.UNREADY)


class Containers:
    """The containers of one engine, read as sandboxes. `prefix` begins the names we give."""

    def __init__(self, engine: Engine, reader: Reader, prefix: str) -> None:
        self._engine = engine
        self._reader = reader
        self._prefix = prefix

    def name(self, sandbox_id: str) -> str:
        """What we call its container."""
        return f"{self._prefix}-{sandbox_id}"

    def items(self) -> list[dict[str, Any]]:
        """Ours as the engine lists them, dead ones too, in one call."""
        return sorted(self._engine.containers(MANAGED_BY), key=lambda item: str(item.get("Names")))

    def listed(self, item: Mapping[str, Any]) -> ObservedSandbox:
        with sense(self._engine.name):
            return self._reader.listed(item)

    def inspected(self, container: str) -> ObservedSandbox:
        """Raises NotFound when that container is not there."""
        return self.read(self._engine.inspect(container))

    def read(self, item: Mapping[str, Any]) -> ObservedSandbox:
        """What an inspection says."""
        with sense(self._engine.name):
            return self._reader.inspected(item)

    def find(self, sandbox_id: str) -> ObservedSandbox | None:
        """By our name for it, which is one call; by its label, should somebody have renamed it; or by the engine's
        own name for it, which is somebody else's container."""
        looks: tuple[Callable[[], ObservedSandbox | None], ...] = (
            lambda: self._called(self.name(sandbox_id), sandbox_id),
            lambda: self._labelled(sandbox_id),
            lambda: self._called(sandbox_id, sandbox_id),
        )
        return next((seen for look in looks if (seen := look()) is not None), None)

    def _called(self, name: str, sandbox_id: str) -> ObservedSandbox | None:
        with contextlib.suppress(NotFound):
            seen = self.inspected(name)  # the engine also takes the beginning of an id for a name
            if seen.info.container_name == name and seen.info.sandbox_id == sandbox_id:
                return seen
        return None

    def _labelled(self, sandbox_id: str) -> ObservedSandbox | None:
        for item in self._engine.containers(MANAGED_BY, f"{SANDBOX_ID}={sandbox_id}"):
            with contextlib.suppress(NotFound):
                return self.inspected(item["Id"])
        return None


def runs(seen: ObservedSandbox | None) -> bool:
    """False only for what is definitely not there, dead, paused, or on its way out. Raises Transient when the engine
    says something else."""
    if seen is None or seen.phase is not Phase.UNKNOWN:
        return seen is not None and seen.phase in _ALIVE
    if seen.detail == REMOVING:
        return False
    raise Transient(f"whether sandbox {seen.info.sandbox_id} runs cannot be told: {seen.detail}")


@contextlib.contextmanager
def sense(engine: str) -> Iterator[None]:
    """JSON that is not what an engine says is a wrong answer, not a bug of ours and never an empty one."""
    try:
        yield
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        OverflowError,
        RecursionError,
    ) as error:
        raise Unavailable(
            f"the answer of the engine at {engine} makes no sense ({type(error).__name__}: {error})",
            hint="is that a Docker engine? `host:` of the backend, or DOCKER_HOST, says where it is",
        ) from error
