"""The `reconciler` command: its commands, and how every run ends: exit code, error message, quiet broken pipes.

Nothing is decided here about sandboxes; each command is a file in `commands/`, imported when it is called.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

import click

from reconciler.cli.exit_codes import ExitCode, code_for
from reconciler.cli.groups import LazyGroup
from reconciler.cli.options import Given, invocation
from reconciler.errors import ReconcilerError

_COMMANDS = "reconciler.cli.commands"

LISTING = {
    "Everyday": {
        "init": (f"{_COMMANDS}.init:init", "Write a starter configuration."),
        "validate": (f"{_COMMANDS}.validate:validate", "Check the configuration; asks no backend."),
        "fmt": (f"{_COMMANDS}.fmt:fmt", "Bring the files into the canonical layout."),
        "plan": (f"{_COMMANDS}.plan:plan", "Show what would change, and why."),
        "apply": (f"{_COMMANDS}.apply:apply", "Make it so, and wait until every sandbox answers."),
        "watch": (f"{_COMMANDS}.watch:watch", "Look again and again, and put back what drifted."),
        "destroy": (f"{_COMMANDS}.apply:destroy", "Destroy every sandbox of the stack."),
    },
    "Look": {
        "status": (f"{_COMMANDS}.status:status", "Show every sandbox as it is now."),
        "drift": (f"{_COMMANDS}.drift:drift", "Show what changed outside, and put it back."),
        "show": (f"{_COMMANDS}.show:show", "Show what is recorded, of all or of one."),
        "output": (f"{_COMMANDS}.output:output", "Print the outputs, or one of them."),
        "why": (f"{_COMMANDS}.why:why", "Explain what a plan does to one sandbox."),
        "graph": (f"{_COMMANDS}.graph:graph", "Draw the sandboxes and what they need."),
        "logs": (f"{_COMMANDS}.logs:logs", "Print the log of a sandbox."),
        "exec": (f"{_COMMANDS}.exec:exec_command", "Run a command in a sandbox."),
    },
    "State": {
        "state": (f"{_COMMANDS}.state:state", "Look at the records, mend them, go back."),
        "import": (f"{_COMMANDS}.import_:import_command", "Take over a sandbox that others made."),
        "lock": (f"{_COMMANDS}.lock:lock", "Show who holds the lock."),
        "force-unlock": (f"{_COMMANDS}.lock:force_unlock", "Break the lock of a run that is gone."),
    },
    "More": {
        "doctor": (f"{_COMMANDS}.doctor:doctor", "Check backends and store, and say what to fix."),
        "schema": (f"{_COMMANDS}.schema:schema", "Print a JSON Schema."),
        "completion": (f"{_COMMANDS}.completion:completion", "Print a completion script for your shell."),
        "version": (f"{_COMMANDS}.version:version", "Print the version."),
    },
}


@click.group(cls=LazyGroup, listing=LISTING, invoke_without_command=True, name="reconciler")
@click.pass_context
def cli(context: click.Context) -> int:
    """Keep a fleet of agent sandboxes exactly as a checked-in YAML file says.

    `plan` shows what would change and why, `apply` makes it so and waits until every sandbox answers.
    """
    if context.invoked_subcommand is not None:
        return ExitCode.DONE
    click.echo(context.get_help(), err=True)
    return ExitCode.USAGE


def run(args: Sequence[str]) -> int:
    """Run one command line to its end and return the exit code; raises nothing but SystemExit of completion."""
    given = Given()
    try:
        code = _run(list(args), given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _abandon_stdout()
        return ExitCode.ERROR
    except OSError as error:  # what is left are our own streams: everything else is told where it happens
        _abandon_stdout()
        with contextlib.suppress(OSError):
            sys.stderr.write(f"error: cannot write the output: {error.strerror}\n")
        return ExitCode.ERROR


def _run(args: list[str], given: Given) -> int:
    try:
        result = cli.main(args=args, prog_name="reconciler", standalone_mode=False, obj=given)
        return int(result or 0)
    except click.UsageError as error:
        from reconciler.cli import failure

        if "--json" in args[: args.index("--") if "--" in args else None]:
            given.add("json", True)
        failure.usage(error, invocation(given, "usage"))
        return ExitCode.USAGE
    except click.Abort:
        from reconciler.cli import failure

        failure.interrupted(invocation(given, "run"))
        return ExitCode.INTERRUPTED
    except ReconcilerError as error:
        from reconciler.cli import failure

        failure.known(error, invocation(given, "run"))
        return code_for(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF):
            raise  # a stream of ours, not a file
        from reconciler.cli import failure

        failure.known(ReconcilerError(_about(error)), invocation(given, "run"))
        return ExitCode.ERROR
    except Exception as error:  # noqa: BLE001 - the last resort: a bug is reported in one line, never as a traceback
        from reconciler.cli import failure

        failure.unknown(error, invocation(given, "run"))
        return code_for(error)


def _about(error: OSError) -> str:
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"


def _abandon_stdout() -> None:
    """Whoever read our output is gone; keep the interpreter from complaining about that at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process
