"""The console script and `python -m reconciler`. Answers `--version` before anything else is imported."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line of this process and return its exit code."""
    if sys.argv[1:] == ["--version"]:
        from reconciler import __version__

        sys.stdout.write(f"reconciler {__version__}\n")
        return 0
    import gc

    # A command lives for seconds and keeps nearly all it makes: looking for rubbish every 700 objects is in vain.
    gc.set_threshold(50_000, 20, 50)
    from reconciler.cli.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
