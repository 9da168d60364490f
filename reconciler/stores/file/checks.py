"""What `reconciler doctor` says of a state directory: (what was checked, is it well, detail or fix). Raises nothing."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from reconciler.errors import StoreError
from reconciler.stores.base import LockInfo
from reconciler.stores.checks import Answer, asked, encrypted, told
from reconciler.stores.file import disk
from reconciler.stores.file.history import History
from reconciler.stores.sealing import Sealer, is_sealed


def directory(path: Path) -> Answer:
    what, place = "state directory", disk.shown(path)
    if os.path.isdir(path):
        well = os.access(path, os.W_OK | os.X_OK)
        return what, well, place if well else f"{place} is not writable\ncheck its owner and mode"
    if os.path.lexists(path):
        return what, False, f"{place} is no directory\nmove it away"
    parent = next(p for p in path.absolute().parents if os.path.exists(p))
    well = os.access(parent, os.W_OK | os.X_OK)
    return what, well, f"{place} will be created" if well else f"{place} cannot be created in {parent}"


def modes(place: Path, files: Iterable[Path], kept: History) -> Answer:
    exposed = _open_to_others(files)
    if told := exposure(place):
        return "state is private", False, told
    fixes = [f"chmod 600 {' '.join(exposed)}"] if exposed else []
    with contextlib.suppress(StoreError):  # told by the check of the history itself
        if _open_to_others(kept.paths()):
            fixes.append(f"chmod -R go-rwx {disk.shown(kept.directory)}")
    if fixes:
        return "state is private", False, f"others may read it: {' && '.join(fixes)}"
    return "state is private", True, "mode 0600"


def exposure(place: Path) -> str:
    """How others may get at a state directory and what to do, "" when they cannot. Whoever may write there can put another
    state in place of ours, whatever the modes of the files."""
    try:
        seen = os.stat(place)
    except OSError:  # not there yet, or told by another check
        return ""
    name = disk.shown(place)
    if seen.st_uid not in (os.geteuid(), 0):
        return f"{name} belongs to another user (uid {seen.st_uid}), who may replace the state: chown it, or move it"
    if seen.st_mode & 0o022 and not seen.st_mode & stat.S_ISVTX:
        return f"others may write to {name}, and replace the state: chmod go-w {name}"
    if seen.st_mode & 0o005:
        return f"everybody may look into {name}: chmod o-rx {name}"
    return ""


def _open_to_others(paths: Iterable[Path]) -> list[str]:
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            if path.lstat().st_mode & 0o077:
                found.append(disk.shown(path))
    return found


def history(kept: History) -> Answer:
    what, place = "older versions", disk.shown(kept.directory)
    try:
        versions = list(kept.versions())
        there = disk.exists(kept.directory)
    except StoreError as error:
        return what, False, told(error)
    damaged = [version for version in versions if version.damage]
    if damaged:
        return what, False, f"{damaged[0].damage}\nremove it"
    if there and not os.access(kept.directory, os.W_OK | os.X_OK):
        return what, False, f"{place} is not writable\ncheck its owner and mode"
    return what, True, f"{len(versions)} in {place}" if versions else "none yet"


def encryption(sealer: Sealer, files: Iterable[Path]) -> list[Answer]:
    """Whether what is there is encrypted; nothing where that is not asked for."""
    if not sealer.seals:
        return []
    clear = []
    for path in files:
        with contextlib.suppress(StoreError):  # told by the check of what it holds
            data = disk.read_bytes(path)
            if data and not is_sealed(data) and b'"entry":{"sealed":' not in data:
                clear.append(disk.shown(path))
    return [encrypted(clear)]


def lock(look: Callable[[], LockInfo | None], abandoned: Callable[[], bool]) -> Answer:
    return asked("lock", lambda: _holder(look(), abandoned()))


def _holder(info: LockInfo | None, abandoned: bool) -> str:
    if info is None:
        return "free"
    left = ", which is gone: the next run takes it over" if abandoned else ""
    return f"held by {' '.join(info.holder.split())}{left}"
