"""`make bench`: every figure of the project, one after the other, on this machine; or those that are named."""

from __future__ import annotations

import os
import platform
import sys

from benchmarks import containers, correction, fleet, plans, readiness, startup

ALL = {
    module.__name__.rpartition(".")[2]: module
    for module in (startup, plans, fleet, readiness, containers, correction)
}


def main() -> None:
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    names = [name for name in sys.argv[1:] if name in ALL] or list(ALL)
    for module in (ALL[name] for name in names):
        print(f"\n# {(module.__doc__ or '').strip().splitlines()[0]}")
        module.main()


if __name__ == "__main__":
    main()
