"""Ctrl-C during an apply: the first asks the run to stop and drain, the second leaves at once.

Writes to the file descriptor only: a signal may arrive in the middle of a print.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.views.style import SHOW_CURSOR, wrapped

if TYPE_CHECKING:
    from types import FrameType

    from reconciler.engine.stop import StopRequest

_STDERR = 2
_FIRST = "stopping: nothing new is started, what is under way is finished and recorded; press Ctrl-C again to leave at once"
_SECOND = "\nleft at once; the next run finds out what is there and goes on from it\n"


def write_notice(text: str) -> None:
    """To stderr, past all buffers, and on a terminal no wider than that is."""
    lines = [text]
    with contextlib.suppress(OSError):  # no terminal
        lines = wrapped(text, os.get_terminal_size(_STDERR).columns or len(text))
    os.write(_STDERR, "".join(f"\n{line}" for line in lines).encode() + b"\n")


@contextmanager
def draining(stop: StopRequest, notice: Callable[[str], None], *, live: bool = False) -> Iterator[None]:
    """While inside, SIGINT and SIGTERM call `stop.request()`, and the second of them ends the process with 130.

    `notice` tells the user, from within a signal handler. `live`: a redrawn view may have hidden the cursor."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            os.write(_STDERR, ((SHOW_CURSOR if live else "") + _SECOND).encode())
            os._exit(ExitCode.INTERRUPTED)
        stop.request()
        notice(_FIRST)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
