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
    gc.freeze()  # the process ends, and nobody need look for rubbish in what is left
    return code


def command() -> None:
    """The same as a whole process, which ends here and now. The interpreter's own way would first take apart what the
    command made, object by object, which takes as long as reading the state did; the system takes back all at once."""
    code = main()
    import atexit

    threads = sys.modules.get("threading")
    if threads is not None and any(
        not thread.daemon for thread in threads.enumerate() if thread is not threads.main_thread()
    ):
        sys.exit(code)  # somebody's work goes on, and is waited for
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)  # tells what it cannot write
    os._exit(code)


def _open_closed_streams() -> None:
    """A stream that our caller closed (`plan <&-`) is None, and everything would trip over it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - lives as long as the process


if __name__ == "__main__":
    command()
