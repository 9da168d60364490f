"""What is too dear to be made by every worker of a test run: made by the first that needs it, and judged at once.

Workers are processes of their own, so what they share are verdicts: one text for each check, "" where it passed.
"""

from __future__ import annotations

import fcntl
import json
import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

Made = TypeVar("Made")
Verdicts = Mapping[str, str]
_NEVER = "nothing could be judged, because it was never made:\n"


def judged(made: Made, checks: Mapping[str, Callable[[Made], None]]) -> dict[str, str]:
    """Every check's verdict on what was made. One that fails does not keep the others from being heard."""
    verdicts = {}
    for name, check in checks.items():
        try:
            check(made)
            verdicts[name] = ""
        except AssertionError as error:
            verdicts[name] = str(error) or "".join(traceback.format_exception(error))
        except Exception as error:
            verdicts[name] = "".join(traceback.format_exception(error))
    return verdicts


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[], dict[str, str]]) -> Verdicts:
    """The verdicts of this run, from the worker that came first; the others wait for it. Where that failed, all do."""
    kept = _folder(factory) / f"{name}.json"
    with (_folder(factory) / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_text(json.dumps(_made(make)), encoding="utf-8")
    found: dict[str, str] = json.loads(kept.read_text(encoding="utf-8"))
    if _NEVER in found:
        pytest.fail(_NEVER + found[_NEVER], pytrace=False)
    return found


def _made(make: Callable[[], dict[str, str]]) -> dict[str, str]:
    try:
        return make()
    except Exception as error:
        return {_NEVER: "".join(traceback.format_exception(error))}


def _folder(factory: pytest.TempPathFactory) -> Path:
    """One for all workers of this run."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def passed(verdicts: Verdicts, name: str) -> None:
    """Fail with the verdict, and with nothing else around it."""
    verdict = verdicts[name]
    if verdict:
        pytest.fail(verdict, pytrace=False)
