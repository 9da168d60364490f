"""What a test needs of the machine: skipped where it is missing, failed where CI promises it.

`RECONCILER_CI=1` says that this machine has everything. A skip would hide that a promise is not tested any more.
"""

from __future__ import annotations

import os
import shutil

import pytest

IN_CI = os.environ.get("RECONCILER_CI", "") not in ("", "0")


def required(program: str, *, broken: str = "", strict: bool = IN_CI) -> pytest.MarkDecorator:
    """A mark for a test, a class or a module (`pytestmark = required("bwrap")`).

    `broken` says why the program cannot be used although it is there ("" when it can). In CI a missing or broken
    program fails the collection, with that reason; `strict` says whether this is CI.
    """
    reason = lacking(program, broken=broken)
    if reason and strict:
        pytest.fail(f"RECONCILER_CI is set, and {reason}", pytrace=False)
    return pytest.mark.skipif(bool(reason), reason=reason)


def lacking(program: str, *, broken: str = "") -> str:
    """Why the program cannot be used here; "" when it can."""
    if shutil.which(program) is None:
        return f"{program} is not installed"
    return f"{program} does not work here: {broken}" if broken else ""


def skip_unless(possible: bool, reason: str, *, strict: bool = IN_CI) -> None:
    """The same from inside a test, for what is only known there."""
    if possible:
        return
    if strict:
        pytest.fail(f"RECONCILER_CI is set, and {reason}", pytrace=False)
    pytest.skip(reason)
