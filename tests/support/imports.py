"""Which modules a command imports: the same on a busy machine, and what start-up time is mostly made of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported(argv: Sequence[str], cwd: Path | None = None) -> frozenset[str]:
    """The modules that `python ARGV...` imports and a Python that does nothing does not. Fails when it fails."""
    return _imported(argv, cwd) - _imported(["-c", "pass"], cwd)


def imported_by(*command: str, cwd: Path | None = None) -> frozenset[str]:
    """Of a command of ours: `imported_by("plan", cwd=folder)`."""
    return imported(["-m", "reconciler", *command], cwd)


def _imported(argv: Sequence[str], cwd: Path | None) -> frozenset[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *argv],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
    )
    told = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return frozenset(line.rpartition("|")[2].strip() for line in told[1:])  # the first is the heading
