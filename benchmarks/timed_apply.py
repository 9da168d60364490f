"""`python -m benchmarks.timed_apply`: `reconciler apply` in this folder, and then the seconds that went into journal and state."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from reconciler.stores.file.store import FileStore

_spent = [0.0]


def _timed(inner: Callable[..., Any]) -> Callable[..., Any]:
    def outer(*args: Any, **more: Any) -> Any:
        began = time.perf_counter()
        try:
            return inner(*args, **more)
        finally:
            _spent[0] += time.perf_counter() - began

    return outer


def main() -> int:
    for name in ("append", "write"):
        setattr(FileStore, name, _timed(getattr(FileStore, name)))
    from reconciler.__main__ import main as command

    sys.argv = ["reconciler", "apply", "--auto-approve", "-q"]
    code = command()
    print(_spent[0])
    return code


if __name__ == "__main__":
    sys.exit(main())
