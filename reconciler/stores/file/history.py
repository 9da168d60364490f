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
from pathlib import Path

from msgspec import Struct, field

from reconciler.errors import StateCorrupt, StateTooNew, StoreError
from reconciler.model.state import State
from reconciler.stores import snapshot
from reconciler.stores.base import Version
from reconciler.stores.file import disk
from reconciler.stores.sealing import PLAIN, SNAPSHOT, Sealer

KEPT = 20
UNREADABLE = (StateCorrupt, StateTooNew)
_ANOTHER = "`reconciler state history` shows what else there is"
_NAME = r"(0|[1-9][0-9]{0,17})\.json"


class History(Struct, frozen=True, kw_only=True):
    """The versions in `directory`, sealed as snapshots are. `prefix` names temporary files. Writing is for the holder of
    the guard."""

    directory: Path
    stack: str
    prefix: str
    sealer: Sealer = field(default=PLAIN)

    def keep(self, serial: int, data: bytes) -> None:
        """Make a version of a snapshot's bytes."""
        disk.make_private(self.directory)
        disk.sweep(self.directory, prefix=self.prefix)
        disk.replace_file(self._path(serial), data, prefix=self.prefix)

    def take(self, state: State) -> bool:
        """Make a version of a state that another store kept, as old as it is; False when there is one of its serial."""
        disk.make_private(self.directory)
        disk.sweep(self.directory, prefix=self.prefix)
        path = self._path(state.serial)
        if disk.exists(path):
            return False
        data = self.sealer.seal(SNAPSHOT, snapshot.encode(state))
        disk.replace_file(path, data, prefix=self.prefix, modified=int(state.updated_at * 1e9))
        return True

    def reseal(self) -> None:
        """Seal anew what is not sealed as it would be now. What cannot be opened, or is damaged, stays as it is: it may be
        worth something to somebody yet."""
        for serial in self._serials():
            path = self._path(serial)
            with contextlib.suppress(StoreError):
                data = disk.read_bytes(path)
                if data is not None and not self.sealer.fresh(data):
                    clear = self.sealer.open(SNAPSHOT, data, place=disk.shown(path))
                    disk.replace_file(
                        path,
                        self.sealer.seal(SNAPSHOT, clear),
                        prefix=self.prefix,
                        modified=path.lstat().st_mtime_ns,
                    )

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
                clear = self._opened(serial, data)
                yield version_of(data, self._outline(serial, clear))
            except StoreError as error:
                yield Version(serial=serial, damage=error.message)

    def read(self, serial: int) -> State | None:
        """One of them, None when it is not there. Raises StateCorrupt or StateTooNew."""
        path = self._path(serial)
        data = disk.read_bytes(path)
        if data is None:
            return None
        clear = self._opened(serial, data)
        self._outline(serial, clear)
        return snapshot.decode(clear, place=disk.shown(path), hint=_ANOTHER)

    def any(self) -> bool:
        return bool(self._serials())

    def paths(self) -> list[Path]:
        """The directory, if it is there, and every version in it."""
        if not disk.exists(self.directory):
            return []
        return [self.directory, *(self._path(serial) for serial in self._serials())]

    def _opened(self, serial: int, data: bytes) -> bytes:
        return self.sealer.open(SNAPSHOT, data, place=disk.shown(self._path(serial)), hint=_ANOTHER)

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
        return [int(name.removesuffix(".json")) for name in names if re.fullmatch(_NAME, name)]

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
