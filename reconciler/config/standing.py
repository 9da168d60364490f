"""How the files of a configuration stand: enough to notice that one of them changed, came or went, without reading any."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from reconciler.config.diagnostics import Problems
from reconciler.config.load import find

Standing = tuple[
    tuple[str, int, int, int], ...
]  # name, time of the last change in ns, size, number of the file


def standing(paths: Sequence[Path], directory: Path, others: Sequence[Path] = ()) -> Standing:
    """`paths` as for `configure`, `others` besides (files of variables), relative to `directory`. A file that is not there
    counts as such; nothing is raised."""
    files = [*find(paths, directory, Problems()), *(directory / other for other in others)]
    return tuple(sorted(_of(str(file)) for file in files))


def _of(name: str) -> tuple[str, int, int, int]:
    try:
        now = os.stat(name)
    except OSError:
        return (name, -1, -1, -1)
    return (name, now.st_mtime_ns, now.st_size, now.st_ino)
