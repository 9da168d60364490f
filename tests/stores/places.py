"""Builders for the file store's tests: machines that are pretended, clocks that stand still, directories compared."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from reconciler.stores.file import FileStore
from reconciler.stores.file.lease import Timing
from reconciler.stores.host import Host, this_host
from reconciler.stores.sealing import PLAIN, KeySealer, KeySource, Sealer
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
        still = Timing(now=self.now, monotonic=self.now, sleep=self.sleep, jitter=lambda: 0.5)
        return replace(still, **fields)  # type: ignore[arg-type]


def a_store(
    directory: Path,
    *,
    host: Host | None = None,
    timing: Timing | None = None,
    environ: Mapping[str, str] | None = None,
    sealer: Sealer = PLAIN,
) -> FileStore:
    return FileStore(
        STACK, path=directory, host=host or this_host(), timing=timing, environ=environ or {}, sealer=sealer
    )


def a_sealer(*keys: str, stack: str = STACK, enforced: bool = False) -> KeySealer:
    """One that seals with the first key, and opens with each of them. "" in the first place: it only opens."""
    first, *others = [KeySource(name=f"KEY_{key[:4]}", read=lambda key=key: key) for key in keys]  # type: ignore[misc]
    return KeySealer(stack, key=first if keys[0] else None, others=others, enforced=enforced)


def a_key(number: int = 1) -> str:
    """Thirty-two bytes in hex, as `openssl rand -hex 32` prints them."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def picture(directory: Path) -> dict[str, tuple[int, int, int, str]]:
    """Everything in a directory, and itself: mode, inode, time of change in ns, digest of the contents."""
    found = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        seen = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (seen.st_mode, seen.st_ino, seen.st_mtime_ns, digest)
    return found
