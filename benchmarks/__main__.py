"""`make bench`: every figure of the project, one after the other, on this machine."""

from __future__ import annotations

import os
import platform

from benchmarks import fleet, plans, readiness, startup


def main() -> None:
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    for module in (startup, plans, fleet, readiness):
        print(f"\n# {(module.__doc__ or '').strip().splitlines()[0]}")
        module.main()


if __name__ == "__main__":
    main()
