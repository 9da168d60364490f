"""A container that is there, started again: stopped first, its secrets made whole, started, and looked at.

What cannot be started stays, stopped, with all it holds: to remove it is somebody else's decision.
"""

from __future__ import annotations

import contextlib
import time

from reconciler.backends.containers import ended_again
from reconciler.backends.docker import commands
from reconciler.backends.docker.create import secret_mount, values
from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.find import Containers
from reconciler.backends.docker.remove import Removal
from reconciler.backends.docker.secret_files import SecretFiles
from reconciler.errors import BackendError, NotFound, Permanent
from reconciler.model.desired import ProbeKind, SandboxSpec
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo

_SETTLES = 0.3  # seconds in which what ends at once has ended
_LOOK = 0.05  # seconds between two looks meanwhile
_LAST_WORDS = 3  # lines of its log


class Restart:
    """Restarts the containers of one engine."""

    def __init__(
        self, engine: Engine, containers: Containers, secrets: SecretFiles, removal: Removal
    ) -> None:
        self._engine = engine
        self._containers = containers
        self._secrets = secrets
        self._removal = removal

    def restart(self, seen: ObservedSandbox, spec: SandboxSpec) -> SandboxInfo:
        """Raises NotFound when it was removed meanwhile, Conflict when a port of it is taken, Permanent when it ends
        at once, with its last words."""
        container, files = str(seen.info.container_id), values(spec, "file")
        mount = secret_mount(self._engine.inspect(container)) if files else None
        if seen.phase is Phase.PAUSED:
            self._resume(container)  # what is paused does not hear that it shall end
        self._removal.stop(container)
        if mount is not None:
            self._secrets.keep(mount, files, spec.security.user)
            self._secrets.fill(container, mount, files, spec.security.user)
        self._start(container)
        waits = (
            spec.readiness.kind is ProbeKind.NONE
        )  # who asks whether it answers finds out sooner, and better
        return self._settled(container, seen.info.sandbox_id, _SETTLES if waits else 0.0)

    def _resume(self, container: str) -> None:
        client = self._engine.sdk()
        with self._engine.translated():
            client.unpause(container)

    def _start(self, container: str) -> None:
        """Raises NotFound for the container alone: what it needs and is gone is no absence of it."""
        client = self._engine.sdk()
        try:
            with self._engine.translated():
                client.start(container)
        except NotFound as error:
            if "no such container" in error.message.lower():
                raise
            raise Permanent(
                error.message, hint=error.hint or "it was made with that: make it again"
            ) from error

    def _settled(self, container: str, sandbox_id: str, seconds: float) -> SandboxInfo:
        """Its connection details, once it has outlived the moment in which most end that cannot run."""
        deadline = time.monotonic() + seconds
        while True:
            seen = self._containers.inspected(container)
            if seen.phase.is_dead:
                raise ended_again(sandbox_id, seen.detail, self._last_words(container))
            if time.monotonic() >= deadline:
                return seen.info
            time.sleep(_LOOK)

    def _last_words(self, container: str) -> list[str]:
        with contextlib.suppress(BackendError):
            return list(commands.logs(self._engine, container, tail=_LAST_WORDS, follow=False))
        return []
