"""Older snapshots: each one that a write replaces stays as `<stack>.history/<serial>.json`, the newest twenty of them.

A version is whole from the moment it has its name, and is kept before the snapshot is replaced, so whoever looks at
the snapshot first and here second finds every serial. Which are the newest is told by when they were kept, not by
serial: after an older file was put back by hand, serials begin again lower down. Must never remove anything that is not
named like a version.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import StateCorrupt, StateTooNew, StoreError
from reconciler.model.state import State
from reconciler.stores import snapshot
from reconciler.stores.base import Version
from reconciler.stores.file import disk

KEPT = 20
UNREADABLE = (StateCorrupt, StateTooNew)
_ANOTHER = "`reconciler state history` shows what else there is"
_NAME = re.compile(r"(0|[1-9][0-9]{0,17})\.json", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The versions in `directory`. `prefix` names temporary files. Writing is for the holder of the guard."""

    directory: Path
    stack: str
    prefix: str

    def keep(self, serial: int, data: bytes) -> None:
        """Make a version of a snapshot's bytes."""
        disk.make_private(self.directory)
        disk.sweep(self.directory, prefix=self.prefix)
        disk.replace_file(self._path(serial), data, prefix=self.prefix)

    def tidy(self) -> None:
        """Remove what a killed `keep` left. Through a link nothing is removed."""
        if not self.directory.is_symlink():
            disk.sweep(self.directory, prefix=self.prefix)

    def prune(self) -> None:
        """Remove all but the newest. What cannot be removed stays until the next time: the state is written already."""
        with contextlib.suppress(OSError, StoreError):
            aged = [((self._path(serial).lstat().st_mtime_ns, serial), serial) for serial in self._serials()]
            for _, serial in sorted(aged, reverse=True)[KEPT:]:
                with contextlib.suppress(OSError):
                    self._path(serial).unlink()

    def versions(self) -> Iterator[Version]:
        """All of them, the highest serial first; damaged ones say so."""
        for serial in sorted(self._serials(), reverse=True):
            path = self._path(serial)
            try:
                data = disk.read_bytes(path)
                if data is None:
                    continue  # a writer has removed it since
                yield version_of(data, self._outline(serial, data))
            except StoreError as error:
                yield Version(serial=serial, damage=error.message)

    def read(self, serial: int) -> State | None:
        """One of them, None when it is not there. Raises StateCorrupt or StateTooNew."""
        path = self._path(serial)
        data = disk.read_bytes(path)
        if data is None:
            return None
        self._outline(serial, data)
        return snapshot.decode(data, place=disk.shown(path), hint=_ANOTHER)

    def any(self) -> bool:
        return bool(self._serials())

    def paths(self) -> list[Path]:
        """The directory, if it is there, and every version in it."""
        if not disk.exists(self.directory):
            return []
        return [self.directory, *(self._path(serial) for serial in self._serials())]

    def _outline(self, serial: int, data: bytes) -> snapshot.Outline:
        place = disk.shown(self._path(serial))
        found = snapshot.outline(data, place=place, hint=_ANOTHER)
        if (found.stack, found.serial) != (self.stack, serial):
            raise StateCorrupt(f"{place} holds serial {found.serial} of stack {found.stack!r}", hint=_ANOTHER)
        return found

    def _serials(self) -> list[int]:
        with disk.translated("list", self.directory):
            try:
                names = os.listdir(self.directory)
            except FileNotFoundError:
                return []
        return [int(name.removesuffix(".json")) for name in names if _NAME.fullmatch(name)]

    def _path(self, serial: int) -> Path:
        return self.directory / f"{serial}.json"


def version_of(data: bytes, outline: snapshot.Outline, *, current: bool = False) -> Version:
    return Version(
        serial=outline.serial,
        at=outline.at,
        sandboxes=outline.sandboxes,
        size=len(data),
        lineage=outline.lineage,
        current=current,
    )
