"""The user's cache folder: where it is, what makes room in it, and what a name in it has to speak of."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.machinery import PathFinder

_OURS = re.compile(r"[0-9a-f]{64}(\.[0-9]+)?")  # a digest, and a process while it writes


def folder_of(environ: Mapping[str, str], name: str) -> str | None:
    """None where there is no place for a cache. It need not be there."""
    home = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME", ""), ".cache")
    return os.path.join(home, "reconciler", name) if os.path.isabs(home) else None


def make_room(folder: str, *, files: int, size: int = 0, total: int = 0) -> None:
    """Make the folder, and empty it where one file more, of so many bytes, would be more than `files` or than `total` bytes.
    What others put there is left alone. Raises OSError."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with os.scandir(folder) as entries:
        ours = [entry for entry in entries if _OURS.fullmatch(entry.name)]
    full = len(ours) >= files
    if size and not full:
        full = size + sum(entry.stat(follow_symlinks=False).st_size for entry in ours) > total
    for entry in ours if full else ():
        os.unlink(entry.path)


def identity(package: str) -> str:
    """Which of a package is installed, found out without loading it: another version has another; "" where there is none."""
    spec = PathFinder.find_spec(package)
    if spec is None or spec.origin is None:
        return ""
    seen = os.stat(spec.origin)
    return f"{spec.origin}\0{seen.st_mtime_ns}\0{seen.st_size}"
