"""`reconciler state pull` and `state push`: the whole state out, and in again."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from pathlib import Path

import click

from reconciler.cli.commands.state.edit import DRY_RUN, LOCK_TIMEOUT, tell, teller
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.options import Invocation, command
from reconciler.cli.terminal import Terminal
from reconciler.cli.views.jsonline import line
from reconciler.cli.views.style import harmless
from reconciler.cli.views.surgery import pushed_text
from reconciler.cli.wiring import opened, opened_store
from reconciler.errors import ReconcilerError


@command("pull")
@click.option("--serial", metavar="N", type=click.IntRange(min=0), help="The version N, as it was written.")
@click.option("-o", "--output", metavar="FILE", help="Write it to FILE, for nobody else to read.")
def state_pull(call: Invocation, *, serial: int | None, output: str | None) -> int:
    """Print the state as it is stored, what a killed run left in the journal included.

    `reconciler state history` lists the versions there are, and `reconciler state rollback SERIAL` goes back to one. What is
    printed is in clear, whatever the store encrypts.
    """
    from reconciler.engine.surgery import pull

    with opened_store(call) as (_, store):
        state, data = pull(store, serial)
    if output is not None:
        _write_private(Path(call.settings.path(output)), data, named=output)
        if call.settings.json:
            call.terminal.line(line({"type": "state_pull", "serial": state.serial, "file": output}))
        else:
            call.note(f"Serial {state.serial} is in {harmless(output)}.")
    elif call.settings.json:
        call.terminal.line(line(json.loads(data)))
    else:
        call.terminal.answer(_printable(data, call.terminal))
    return ExitCode.DONE


@command("push")
@click.argument("file")
@click.option(
    "--force", is_flag=True, help="Also when it is older than what is stored, or of another lineage."
)
@DRY_RUN
@LOCK_TIMEOUT
def state_push(call: Invocation, *, file: str, force: bool, dry_run: bool, lock_timeout: float) -> int:
    """Store the state in FILE, as `reconciler state pull` wrote it; `-` reads standard input.

    It must be whole, and of this stack; older ones and those of another lineage need --force. It becomes the next serial.
    One that is encrypted, as a server or a backup has it, is opened with the keys of the configuration. The version before
    can be had again: `reconciler state history`.
    """
    from reconciler.engine.surgery import push

    place = "standard input" if file == "-" else file
    data = sys.stdin.buffer.read() if file == "-" else _read(Path(call.settings.path(file)), named=file)
    with opened(call, emit=teller(call), secrets=False) as context:
        where = context.store.describe()
        edit = push(context, data, place=place, force=force, lock_timeout=lock_timeout, dry_run=dry_run)
    told = "Next: `reconciler plan` shows how what is live differs from it."
    return tell(call, edit, "state_push", pushed_text, where, told, file=file)


def _printable(data: bytes, terminal: Terminal) -> str:
    """Byte for byte where that can be; escaped as JSON does where a terminal or an encoding stands in between, which
    is the same state."""
    encoding = (getattr(terminal.out, "encoding", None) or "").lower().replace("-", "")
    if encoding == "utf8" and not terminal.out.isatty():
        return data.decode()
    return json.dumps(json.loads(data), sort_keys=True, indent=2) + "\n"


def _read(path: Path, *, named: str) -> bytes:
    try:
        if not path.is_file() and path.exists() and not path.is_fifo():
            raise ReconcilerError(
                f"{named} is no file", hint="give a file that `reconciler state pull -o` wrote"
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ReconcilerError(f"cannot read {named}: {_why(error)}") from error


def _write_private(path: Path, data: bytes, *, named: str) -> None:
    """At once or not at all, with mode 0600 whatever the umask says. A link is followed."""
    try:
        path = Path(os.path.realpath(path))
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise ReconcilerError(f"{named} is no regular file", hint="name a file, or leave -o out")
        temporary = path.with_name(f".{os.urandom(6).hex()}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as stream:
                os.fchmod(fd, 0o600)
                stream.write(data)
                stream.flush()
                os.fsync(fd)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except (OSError, ValueError) as error:
        raise ReconcilerError(f"cannot write {named}: {_why(error)}") from error


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
