"""Builders for the file store's tests: machines that are pretended, clocks that stand still, directories compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reconciler.stores.file import FileStore
from reconciler.stores.file.lease import Timing
from reconciler.stores.host import Host, this_host
from reconciler.testing.store_conformance import STACK

NOW = 1_800_000_000.0


class Machine:
    """Processes as the store sees them: pid to the time they began, None when gone, OSError when nobody can tell."""

    def __init__(self, name: str = "here", *, boot: str = "boot-1") -> None:
        self.name = name
        self.boot = boot
        self.processes: dict[int, str | OSError | None] = {}

    def process(self, pid: int, started: str = "t1") -> Host:
        self.processes[pid] = started
        return Host(name=self.name, user="ann", pid=pid, boot=self.boot, started=self.started)

    def started(self, pid: int) -> str | None:
        found = self.processes.get(pid)
        if isinstance(found, OSError):
            raise found
        return found


class Clock:
    """Stands still until somebody sleeps."""

    def __init__(self) -> None:
        self.time = NOW
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    def timing(self, **fields: float) -> Timing:
        return replace(Timing(now=self.now, monotonic=self.now, sleep=self.sleep), **fields)  # type: ignore[arg-type]


def a_store(
    directory: Path,
    *,
    host: Host | None = None,
    timing: Timing | None = None,
    environ: Mapping[str, str] | None = None,
) -> FileStore:
    return FileStore(STACK, path=directory, host=host or this_host(), timing=timing, environ=environ or {})


def picture(directory: Path) -> dict[str, tuple[int, int, int, str]]:
    """Everything in a directory, and itself: mode, inode, time of change in ns, digest of the contents."""
    found = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        seen = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (seen.st_mode, seen.st_ino, seen.st_mtime_ns, digest)
    return found
