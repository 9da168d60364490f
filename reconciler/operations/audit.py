"""The audit log: a JSON line per correction, incident, reload, start and stop; only ever appended to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reconciler.model.watching import WatchEvent


class AuditLog:
    """Raises ReconcilerError when the file cannot be opened now. Later failures go to `told`, once each, and once more when
    it works again."""

    def __init__(self, path: Path, *, stack: str, version: str, told: Callable[[str], None]) -> None: ...

    def __call__(self, event: WatchEvent) -> None: ...

    def reopen(self) -> None:
        """Open the file anew, after a rotation. From a signal handler or another thread too."""

    def close(self) -> None: ...
