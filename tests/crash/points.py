"""Where a run can be killed, before and after everything it does to the world, or its disk refuse what it does.

The interpreter tells of every call, so no code is changed for this and no seam is needed: a watched process stops for a
moment at each system call that changes something, at each verb of a backend, and at each request over HTTP that is no
question. A point is named by its side, its effect, the function of ours that wanted it, and how often that was
met before, so that the same point is found again in another run, whatever the threads did.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from msgspec import Struct

_OURS = str(Path(__file__).parents[2] / "reconciler") + os.sep
_SYSTEM = frozenset(
    f"posix.{name}"
    for name in (
        *(
            "write",
            "ftruncate",
            "truncate",
            "fsync",
            "fdatasync",
            "rename",
            "replace",
            "link",
            "symlink",
            "unlink",
        ),
        *("remove", "mkdir", "rmdir", "chmod", "fchmod", "utime", "kill", "killpg"),
    )
) | {"fcntl.flock", "fcntl.lockf", "_signal.pidfd_send_signal", "_posixsubprocess.fork_exec"}
_STREAMS = frozenset({"write", "truncate", "flush", "close", "__exit__"})  # of a buffered file
_UNLOCKS = frozenset({"guard", "locked"})  # functions whose `os.close` lets go of a lock
_LOOKS = frozenset({"_file_lock", "is_locked", "find_bubblewrap"})  # they change nothing that lasts
_VERBS = frozenset({"create", "destroy", "update", "restart"})
_REQUESTS = {"_post": "POST", "_put": "PUT", "_delete": "DELETE"}
_SENDS = "sends"  # a request, whose method its frame tells
_LAYERS = ("stores/file/disk.py", "backends/remote/wire.py")  # it acts for others: its caller names the point
BEFORE, AFTER = "before", "after"  # it is killed there
ONCE, TORN, ONWARDS = "once", "torn", "onwards"  # the disk refuses it there (`faults.py`)
_POINT = re.compile(rf"({BEFORE}|{AFTER}|{ONCE}|{TORN}|{ONWARDS}) (.+) in (\S+) #(\d+)")


class Fault(StrEnum):
    """What befalls a run at a point."""

    KILL = "kill"
    DISK = "disk"


class Point(Struct, frozen=True, order=True):
    """The `nth` time (from 1) that `effect` is met in `place` (file:function, below `reconciler/`)."""

    side: str  # of the effect, where a kill comes; how it is refused, where the disk does
    effect: str
    place: str
    nth: int

    @property
    def kind(self) -> tuple[str, str, str]:
        return self.side, self.effect, self.place

    @property
    def fault(self) -> Fault:
        return Fault.KILL if self.side in (BEFORE, AFTER) else Fault.DISK

    @property
    def is_backends(self) -> bool:
        """Whether it is about what a backend does, not about the files of a store."""
        return self.place.startswith("backends/")

    def __str__(self) -> str:
        return f"{self.side} {self.effect} in {self.place} #{self.nth}"

    @classmethod
    def parse(cls, text: str) -> Point:
        """Raises ValueError for what `str` does not make of one."""
        found = _POINT.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} is no point: write, for example, 'before fsync in stores/file/store.py:append #1'"
            )
        return cls(found[1], found[2], found[3], int(found[4]))


class Watch:
    """Calls `meet` at each point of this process, in the thread that is there."""

    def __init__(self, meet: Callable[[Point], None]) -> None:
        self._meet = meet
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._known: dict[CodeType, str] = {}
        self._lock = threading.Lock()

    def begin(self) -> None:
        """From now on, in this thread and in all that start later."""
        threading.setprofile(self._hear)
        sys.setprofile(self._hear)

    def end(self) -> None:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]

    def _hear(self, frame: FrameType, event: str, arg: Any) -> None:
        if event in ("call", "return"):
            effect = self._verb(frame.f_code)
            if effect == _SENDS:
                method = str(frame.f_locals.get("method"))
                effect = "" if method in ("GET", "HEAD") else method
            if effect:
                self._met(BEFORE if event == "call" else AFTER, effect, frame)
        elif event != "c_exception":
            effect = _call(arg, frame)
            if effect:
                self._met(BEFORE if event == "c_call" else AFTER, effect, frame)

    def _verb(self, code: CodeType) -> str:
        """What a function of Python does to the world; "" for nearly all of them."""
        found = self._known.get(code)
        if found is None:
            found = self._known[code] = _named(code)
        return found

    def _met(self, side: str, effect: str, frame: FrameType) -> None:
        place = place_of(frame)
        if not place:
            return
        with self._lock:
            self._counts[side, effect, place] += 1
            point = Point(side, effect, place, self._counts[side, effect, place])
            self._meet(point)


def _named(code: CodeType) -> str:
    file, name = code.co_filename, code.co_name
    if file.endswith("docker/api/client.py"):
        return _REQUESTS.get(name, "")
    if file.endswith(f"http{os.sep}client.py"):
        return _SENDS if name == "request" else ""
    if name not in _VERBS or not file.startswith(_OURS):
        return ""
    within = file[len(_OURS) :]
    verbs = within == "backends/memory.py" or re.fullmatch(r"backends/\w+/backend\.py", within)
    return f"verb:{name}" if verbs else ""


def _call(function: Any, frame: FrameType) -> str:
    """What a function of C does to the world."""
    owner = function.__self__
    name = function.__name__
    if name in _STREAMS and type(owner).__name__ in ("BufferedWriter", "BufferedRandom"):
        return f"stream.{name.strip('_')}"
    if name == "sendmsg":  # what forks keepers is asked for one
        return name
    module = function.__module__
    if module is None or f"{module}.{name}" not in _SYSTEM:
        if name == "close" and module == "posix" and frame.f_code.co_name in _UNLOCKS:
            return "unlock"
        return ""
    return str(name)


def place_of(frame: FrameType | None) -> str:
    """The nearest function of ours that is not private; "" where only looks, or what is printed, led here."""
    nearest = ""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_OURS):
            if code.co_name in _LOOKS:
                return ""
            within = code.co_filename[len(_OURS) :]
            if within.startswith("cli/"):
                return nearest
            nearest = nearest or f"{within}:{code.co_name}"
            if not code.co_name.startswith("_") and within not in _LAYERS:
                return f"{within}:{code.co_name}"
        frame = frame.f_back
    return nearest


def die() -> None:
    """As `kill -9` and the kernel do it: no handler, no `finally`, no flush."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()  # another thread's may be on its way before ours
