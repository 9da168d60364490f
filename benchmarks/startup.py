"""What `--version` costs over bare Python."""

from __future__ import annotations

import sys

from benchmarks.measure import process, reconciler


def main() -> None:
    bare = process([sys.executable, "-c", "pass"], runs=15)
    version = process([*reconciler(), "--version"], runs=15)
    print(f"bare Python            {bare}")
    print(f"reconciler --version   {version}")
    print(f"more than bare Python: {(version.wall - bare.wall) * 1000:.0f} ms (goal: under 80)")


if __name__ == "__main__":
    main()
