"""Ctrl-C during an apply: the first asks the run to stop and drain, the second leaves at once.

Writes to the file descriptor only: a signal may arrive in the middle of a print.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from reconciler.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from types import FrameType

    from reconciler.engine.workflow import StopRequest

_STDERR = 2
_FIRST = (
    "\nstopping: nothing new is started, what is under way is finished and recorded; "
    "press Ctrl-C again to leave at once\n"
)
_SECOND = "\nleft at once; the next run finds out what is there and goes on from it\n"
_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def draining(stop: StopRequest, *, live: bool) -> Iterator[None]:
    """While inside, SIGINT and SIGTERM call `stop.request()`, and the second of them ends the process with 130.

    `live` is whether a redrawn view may have hidden the cursor."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stop.requested:
            os.write(_STDERR, ((_SHOW_CURSOR if live else "") + _SECOND).encode())
            os._exit(ExitCode.INTERRUPTED)
        stop.request()
        os.write(_STDERR, _FIRST.encode())

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
