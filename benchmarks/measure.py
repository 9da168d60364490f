"""How the benchmarks measure: whole processes by the operating system's own accounting, medians of repeated runs."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct


class Cost(Struct, frozen=True):
    """Medians over the runs: wall and processor seconds, peak memory in MB."""

    wall: float
    cpu: float
    peak_mb: float

    def __str__(self) -> str:
        return (
            f"wall {self.wall * 1000:8.0f} ms   cpu {self.cpu * 1000:8.0f} ms   peak {self.peak_mb:6.1f} MB"
        )


def process(
    argv: Sequence[str], cwd: Path | None = None, *, runs: int = 5, warmup: int = 1, ok: Sequence[int] = (0,)
) -> Cost:
    """Run a command to its end a few times. Fails when it exits with anything not in `ok`."""
    costs = [_once(argv, cwd, ok) for _ in range(warmup + runs)][warmup:]
    return Cost(*(statistics.median(column) for column in zip(*costs, strict=True)))


def _once(argv: Sequence[str], cwd: Path | None, ok: Sequence[int]) -> tuple[float, float, float]:
    started = time.perf_counter()
    environ = {
        k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"
    }  # as an installed command runs
    child = subprocess.Popen(argv, cwd=cwd, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    told = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    if child.returncode not in ok:
        raise SystemExit(f"{' '.join(argv)} exited with {child.returncode}:\n{told.decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def median(function: Callable[[], float], runs: int) -> float:
    return statistics.median(function() for _ in range(runs))


def reconciler() -> list[str]:
    """The installed command beside this interpreter, else the module."""
    command = shutil.which("reconciler", path=str(Path(sys.executable).parent))
    return [command] if command else [sys.executable, "-m", "reconciler"]
