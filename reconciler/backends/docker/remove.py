"""How a container goes: it may end by itself first, then it is removed, then its absence is verified.

Must never remove what it was not given by id, nor take a failure for success.
"""

from __future__ import annotations

import time

from reconciler.backends.docker.engine import Engine
from reconciler.errors import Conflict, NotFound, Permanent, Transient

_GONE_WITHIN = 30.0  # seconds for a removal that somebody else began


class Removal:
    """`stop_timeout` are the seconds a sandbox has to end by itself."""

    def __init__(self, engine: Engine, stop_timeout: int) -> None:
        self._engine = engine
        self._stop_timeout = stop_timeout

    def end(self, container: str) -> None:
        """Stop it, remove it, and return when it is gone. Absent is success; whatever else happens raises."""
        self.stop(container)
        self.take_away(container)

    def take_away(self, container: str) -> None:
        """By force, with its volumes without a name."""
        client = self._engine.sdk()
        try:
            with self._engine.translated():
                client.remove_container(container, v=True, force=True)
        except NotFound:
            return
        except Conflict as error:
            if "already in progress" not in error.message:
                raise
        self._verify_gone(container)

    def stop(self, container: str) -> None:
        """What ignores it is ended by the engine when its time is over. Absent, or not running, is success."""
        client = self._engine.sdk()
        try:
            with self._engine.translated():
                client.stop(container, timeout=self._stop_timeout)
        except NotFound:
            return
        except Permanent as error:
            if "paused" not in error.message.lower() and "not running" not in error.message.lower():
                raise

    def _verify_gone(self, container: str) -> None:
        """Raises Transient when it is still there."""
        deadline = time.monotonic() + _GONE_WITHIN
        while True:
            try:
                item = self._engine.inspect(container)
            except NotFound:
                return
            removing = item["State"].get("Status") == "removing"
            if not removing or time.monotonic() > deadline:
                raise Transient(
                    f"container {container[:12]} is still there after its removal", retry_after=1.0
                )
            time.sleep(0.05)
