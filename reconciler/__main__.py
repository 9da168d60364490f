"""The console script and `python -m reconciler`. Answers `--version` before anything else is imported."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run the command line of this process and return its exit code."""
    _open_closed_streams()
    if sys.argv[1:] == ["--version"]:
        from reconciler import __version__

        sys.stdout.write(f"reconciler {__version__}\n")
        return 0
    import gc

    # A command lives for seconds and keeps nearly all it makes: looking for rubbish every 700 objects is in vain.
    gc.set_threshold(200_000, 20, 50)
    from reconciler.cli.main import run

    code = run(sys.argv[1:])
    gc.freeze()  # the process ends: what is left is given back at once, and nobody need look for rubbish in it
    return code


def _open_closed_streams() -> None:
    """A stream that our caller closed (`plan <&-`) is None, and everything would trip over it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - lives as long as the process


if __name__ == "__main__":
    sys.exit(main())
