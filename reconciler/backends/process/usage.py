"""What a tree of processes takes, as Linux tells it. Reads /proc only; what ends meanwhile counts no more."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from reconciler.model.observed import Usage


def usage_of(root: int) -> Usage | None:
    """CPU time of a process and all its descendants, those that have ended included, and the memory they share with
    nobody. None where the system does not tell who is whose child, or when the process is gone."""
    if not os.path.exists(f"/proc/{root}/task/{root}/children"):
        return None
    ticks = pages = 0
    for pid in _tree(root):
        ticks += _ticks(pid)
        pages += _pages(pid)
    return Usage(
        cpu_seconds=ticks / os.sysconf("SC_CLK_TCK"),
        memory=pages * os.sysconf("SC_PAGE_SIZE"),
        at=time.monotonic(),
    )


def _tree(root: int) -> Iterator[int]:
    todo, seen = [root], {root}
    while todo:
        pid = todo.pop()
        yield pid
        found = set(_children(pid)) - seen
        seen |= found
        todo += found


def _children(pid: int) -> Iterator[int]:
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            yield from map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    except OSError:  # ended meanwhile
        return


def _ticks(pid: int) -> int:
    """User and system time, its own and that of the children it has waited for."""
    stat = _read(f"/proc/{pid}/stat")
    return sum(map(int, stat[stat.rfind(b")") + 2 :].split()[11:15]))


def _pages(pid: int) -> int:
    sizes = _read(f"/proc/{pid}/statm").split()
    return max(0, int(sizes[1]) - int(sizes[2])) if len(sizes) > 2 else 0


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
