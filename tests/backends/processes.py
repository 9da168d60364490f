"""What the tests look at from outside: a sandbox's processes, as the system knows them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from reconciler.backends.process.isolation import find_bubblewrap

ISOLATIONS = ("none", "bubblewrap") if find_bubblewrap().path else ("none",)
T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, seconds: float = 10.0) -> T:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.01)
    return found


def pids(root: Path, sandbox_id: str) -> dict[str, int]:
    """keeper, main and, once it serves, server."""
    try:
        data = json.loads((root / sandbox_id / "process.json").read_text())
    except FileNotFoundError:
        return {}
    return {name: data[name][0] for name in ("keeper", "main", "server") if name in data}


def server_pid(root: Path, sandbox_id: str) -> int:
    return eventually(lambda: pids(root, sandbox_id).get("server", 0), f"{sandbox_id} to serve")


def runs(pid: int) -> bool:
    """Zombies do not count: whether they are collected is up to the machine's init."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rfind(")") + 2] not in "ZX"


def parent(pid: int) -> int:
    """0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def processes_with(*texts: str) -> list[int]:
    """Running processes that have one of these in their arguments or their environment."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and runs(int(directory.name)):
            try:
                data = (directory / "cmdline").read_bytes() + (directory / "environ").read_bytes()
            except OSError:
                continue
            if any(text.encode() in data for text in texts):
                found.append(int(directory.name))
    return found


def left_with(*texts: str, seconds: float = 5.0) -> list[int]:
    """Those that do not end by themselves: what forks keepers does, once it has seen that its creator is gone."""
    deadline = time.monotonic() + seconds
    while (found := processes_with(*texts)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return found
