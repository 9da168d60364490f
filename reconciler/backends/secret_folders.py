"""Directories of secrets on this machine, for the backends that mount them: this user's alone, and marked when every
secret is in."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from reconciler.errors import Permanent

_WHOLE = 0o555  # mode of a directory in which every secret is


def keep_private(folder: Path) -> None:
    """0700, whatever it was. Raises Permanent when it is a link, a file or somebody else's, and OSError."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise Permanent(
            f"{folder} is not this user's directory", hint="remove it: no secret is written there"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


def mark_whole(folder: Path) -> None:
    """Every secret is in it. Raises OSError."""
    folder.chmod(_WHOLE)


def is_whole(folder: Path, names: Iterable[str]) -> bool:
    """Whether it was marked, and each of the names is still there."""
    try:
        finished = stat.S_IMODE(folder.lstat().st_mode) == _WHOLE
    except OSError:
        return False
    return finished and all(os.path.isfile(folder / name) for name in names)
