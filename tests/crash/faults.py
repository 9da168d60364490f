"""A disk that refuses what a run does to it: full, or broken, once or from some point on.

The calls of `os` and `open` that take room or change a file are put behind it, in the child that a run is forked into and
that ends with it. Points are named as those of a kill (`points.py`), so what is asked for in one run is met in another.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import stat
import sys
import threading
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

from tests.crash.points import ONCE, ONWARDS, TORN, Point, place_of

# What takes room fails on a full disk, and everything on a broken one.
_FULL = ("mkdir", "rename", "replace", "link", "symlink")
BROKEN = ("fsync", "fdatasync", "unlink", "remove", "rmdir", "truncate", "ftruncate")
_PATHS = {"rename": 2, "replace": 2, "link": 2, "fsync": 0, "fdatasync": 0, "ftruncate": 0}  # of all others 1


class Disk:
    """Refuses what `wanted` says: the effect `once`; `onwards`, which lasts to the end of the run; or a write that is `torn`,
    half of it and then nothing. Tells `hear` of the point when it is met; without one, of all that could be."""

    def __init__(self, wanted: Point | None, hear: Callable[[Point], None]) -> None:
        self._wanted = wanted
        self._hear = hear
        self._counts: Counter[tuple[str, str]] = Counter()
        self._refused_from_now = 0  # the error that lasts
        self._torn_at = ""
        self._lock = threading.Lock()

    def begin(self) -> None:
        """From now on, in all of this process, for good."""
        for name in (*_FULL, *BROKEN):
            setattr(os, name, self._behind(name, getattr(os, name)))
        for name, put in (("open", self._open), ("write", self._write)):
            setattr(os, name, put(getattr(os, name)))
        builtins.open = io.open = self._stream(builtins.open)  # type: ignore[assignment]

    def ask(self, effect: str, frame: FrameType, *paths: object, size: int = 0) -> int:
        """How much of `size` may be done now. Raises OSError, about those paths, when nothing may."""
        place = place_of(frame)
        if not place:
            return size
        error = errno.EIO if effect in BROKEN else errno.ENOSPC
        with self._lock:
            if self._refused_from_now in (error, errno.EIO):
                raise _refusal(self._refused_from_now, paths)
            if effect == "write" and self._torn_at == place:
                self._torn_at = ""
                raise _refusal(error, paths)
            return self._meet(effect, place, error, paths, size)

    def _meet(self, effect: str, place: str, error: int, paths: tuple[object, ...], size: int) -> int:
        self._counts[effect, place] += 1
        for side in (ONCE, ONWARDS, *((TORN,) if size > 1 else ())):
            point = Point(side, effect, place, self._counts[effect, place])
            if self._wanted in (None, point):
                self._hear(point)
            if point != self._wanted:
                continue
            if side == TORN:
                self._torn_at = place
                return size // 2
            if side == ONWARDS:
                self._refused_from_now = error
            raise _refusal(error, paths)
        return size

    def _behind(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        paths = _PATHS.get(name, 1)

        def asks(*arguments: Any, **named: Any) -> Any:
            if paths != 1 or os.path.lexists(arguments[0]) != (name == "mkdir"):  # else it fails by itself
                self.ask(name, sys._getframe(1), *arguments[:paths])
            return call(*arguments, **named)

        return asks

    def _open(self, call: Callable[..., int]) -> Callable[..., int]:
        def asks(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
            if flags & os.O_CREAT and not os.path.lexists(path):
                self.ask("open", sys._getframe(1), path)
            return call(path, flags, *arguments, **named)

        return asks

    def _write(self, call: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
        def asks(fd: int, data: Any) -> int:
            if not stat.S_ISREG(os.fstat(fd).st_mode):  # a pipe, a terminal
                return call(fd, data)
            return call(fd, data[: self.ask("write", sys._getframe(1), size=len(data))])

        return asks

    def _stream(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """As `open` is: what it gives for writing has its buffer above a file that asks."""
        disk = self

        class File(io.FileIO):
            def write(self, data: Any) -> int:
                with memoryview(data) as view:
                    most = disk.ask("write", sys._getframe(1), size=view.nbytes)
                    return super().write(view.cast("B")[:most])

            def truncate(self, size: int | None = None) -> int:
                disk.ask("truncate", sys._getframe(1))
                return super().truncate(size)

        def asks(file: Any, mode: str = "r", buffering: int = -1, *text: Any, **named: Any) -> Any:
            is_plain = mode.strip("bt") in ("w", "a", "x") and buffering == -1 and not text
            if not is_plain:  # for reading, and what nobody here does
                return call(file, mode, buffering, *text, **named)
            if not isinstance(file, int) and not os.path.lexists(file):
                disk.ask("open", sys._getframe(1), file)
            raw = File(file, mode.strip("bt"), named.pop("closefd", True), named.pop("opener", None))
            buffered = io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, **named)

        return asks


def _refusal(error: int, paths: tuple[object, ...]) -> OSError:
    """As the system words it."""
    told = [os.fspath(path) if isinstance(path, os.PathLike) else path for path in paths]
    if len(told) > 1:
        return OSError(error, os.strerror(error), told[0], None, told[1])
    return OSError(error, os.strerror(error), *told)
