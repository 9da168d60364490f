"""What `ps` shows as a process's arguments, on Linux: a fork has those of its parent until it says otherwise."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence


class Title:
    """The memory that the arguments of this process are in, which every fork of it has a copy of."""

    def __init__(self) -> None:
        self._start = self._end = 0
        try:
            with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
            self._start, self._end = int(fields[45]), int(fields[46])
        except (OSError, IndexError, ValueError):  # another system: the title stays
            return

    def set(self, words: Sequence[str]) -> None:
        """Cut where there is no more room."""
        room = self._end - self._start
        if room > 0:
            text = b"".join(os.fsencode(word) + b"\0" for word in words)[: room - 1]
            ctypes.memmove(self._start, text.ljust(room, b"\0"), room)
