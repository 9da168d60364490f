"""How the benchmarks measure: whole processes by the operating system's own accounting, ours and the peer's by turns.

By turns, and each turn begun by another one: what else the machine does meanwhile falls on all alike.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Cost(Struct, frozen=True):
    """Of one process and of its children that it waited for: wall and processor seconds, peak memory in MB."""

    wall: float
    cpu: float
    peak_mb: float


def by_turns(ways: Mapping[str, Callable[[], T]], rounds: int, *, warmup: int = 1) -> dict[str, list[T]]:
    """So many samples of each way. The first `warmup` rounds are thrown away: caches fill, bytecode is written."""
    taken: dict[str, list[T]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(warmup + rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            sample = ways[name]()
            if turn >= warmup:
                taken[name].append(sample)
    return taken


def once(argv: Sequence[str], cwd: Path | None = None, **env: str) -> Cost:
    """Run a command to its end. Raises SystemExit, with what it said, when it fails."""
    return _run(argv, cwd, env, Path(os.devnull))


def heard(argv: Sequence[str], cwd: Path | None = None, **env: str) -> tuple[Cost, str]:
    """The same, with what it wrote to stdout."""
    with tempfile.NamedTemporaryFile() as out:
        cost = _run(argv, cwd, env, Path(out.name))
        return cost, Path(out.name).read_text(encoding="utf-8")


def _run(argv: Sequence[str], cwd: Path | None, env: Mapping[str, str], out: Path) -> Cost:
    with tempfile.NamedTemporaryFile() as err:
        asked = {
            "argv": list(argv),
            "cwd": str(cwd or Path.cwd()),
            "env": {**environ(), **env},
            "out": str(out),
            "err": err.name,
        }
        status, wall, cpu, peak = _ask(asked)
        if status != 0:
            raise SystemExit(f"{' '.join(argv)} ended with {status}:\n{Path(err.name).read_text()}")
    return Cost(wall, cpu, peak / 1024)


def _ask(asked: Mapping[str, Any]) -> list[float]:
    launcher = _launcher()
    assert launcher.stdin is not None
    assert launcher.stdout is not None
    launcher.stdin.write(json.dumps(asked) + "\n")
    launcher.stdin.flush()
    answer: list[float] = json.loads(launcher.stdout.readline())
    return answer


@functools.cache
def _launcher() -> subprocess.Popen[str]:
    argv = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py"))]
    launcher = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(launcher.communicate)  # closes its input, which ends it
    return launcher


def environ() -> dict[str, str]:
    """As an installed command runs: bytecode is kept, which developers sometimes turn off."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def reconciler() -> list[str]:
    """The installed command beside this interpreter, else the module."""
    command = shutil.which("reconciler", path=str(Path(sys.executable).parent))
    return [command] if command else [sys.executable, "-m", "reconciler"]


def wall(costs: Sequence[Cost]) -> tuple[float, ...]:
    return tuple(cost.wall for cost in costs)


def cpu(costs: Sequence[Cost]) -> tuple[float, ...]:
    return tuple(cost.cpu for cost in costs)


def peak(costs: Sequence[Cost]) -> tuple[float, ...]:
    return tuple(cost.peak_mb for cost in costs)
