"""The exit codes, and the one mapping from what went wrong to one of them. Documented and stable."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from reconciler import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.model.outcome import StepResult


class ExitCode(IntEnum):
    """DONE also means "no changes" where that was asked; INCOMPLETE that some steps failed or were skipped."""

    DONE = 0
    ERROR = 1
    CHANGES = 2
    INVALID = 3
    LOCKED = 4
    INCOMPLETE = 5
    STALE = 6
    REFUSED = 7
    USAGE = 64
    INTERRUPTED = 130


_BY_ERROR: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (errors.ConfigError, ExitCode.INVALID),
    (errors.LockHeld, ExitCode.LOCKED),
    (errors.PlanStale, ExitCode.STALE),
    (errors.Refused, ExitCode.REFUSED),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)


def code_for(error: BaseException) -> ExitCode:
    """The code of a run that ended in this error; whatever has none of its own is ERROR."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.ERROR)


def code_of(results: Sequence[StepResult], *, interrupted: bool) -> ExitCode:
    """The code of an apply that ran: STALE when nothing but moved objects is in the way of what was not done."""
    from reconciler.model.outcome import StepStatus

    if interrupted:
        return ExitCode.INTERRUPTED
    left = {result.status for result in results} - {StepStatus.DONE}
    if not left:
        return ExitCode.DONE
    only_moved = StepStatus.STALE in left and left <= {StepStatus.STALE, StepStatus.SKIPPED}
    return ExitCode.STALE if only_moved else ExitCode.INCOMPLETE
