"""What is asked of a running container beyond its life: commands and logs."""

from __future__ import annotations

import os
import selectors
import subprocess
from collections.abc import Callable, Iterator, Sequence

from reconciler.backends.apple.command import Answer, Command, end, failure
from reconciler.backends.base import ExecResult
from reconciler.errors import Transient, Unavailable

_LOOK = 1.0  # seconds of silence after which a follower asks whether the sandbox still lives
_SHELL = "/bin/sh"
# The engine has its own ways to fail for a program that is not there, by version: exit code 1, 255, or not at all.
# A shell has one, and looks along the PATH.
_WRAP = (_SHELL, "-c", 'exec "$@"', _SHELL)
_NO_PROGRAM = "failed to find target executable"
_NOT_FOUND = 127


def execute(command: Command, name: str, words: Sequence[str], timeout: float) -> ExecResult:
    """A command inside, through a shell where the image has one. Raises Transient when it takes too long; it is
    then told to end."""
    answer = _call(command, name, (*_WRAP, *words), timeout)
    if answer.exit_code != 0 and f"{_NO_PROGRAM} {_SHELL}" in answer.stderr:
        answer = _call(command, name, words, timeout)
    if answer.exit_code != 0 and _NO_PROGRAM in answer.stderr:
        return ExecResult(exit_code=_NOT_FOUND, stdout="", stderr=f"{words[0]}: not found")
    return ExecResult(
        exit_code=answer.exit_code, stdout=answer.stdout.decode(errors="replace"), stderr=answer.stderr
    )


def _call(command: Command, name: str, words: Sequence[str], timeout: float) -> Answer:
    """No `--` before the command: the engine would take it for the program."""
    try:
        return command.call(("exec", name, *words), timeout=timeout)
    except Unavailable as error:
        if "did not end within" not in error.message:
            raise
        raise Transient(f"the command did not end within {timeout:g} s") from error


def about_the_container(result: ExecResult) -> bool:
    """Whether a failure may be the engine's own word instead of the command's."""
    return result.stderr.lstrip().startswith("Error: ")


def logs(command: Command, name: str, tail: int | None) -> list[str]:
    if tail == 0:
        return []
    told = command.ask("logs", *(() if tail is None else ("-n", str(tail))), name, about=name)
    return told.removesuffix("\n").split("\n") if told.strip("\n") else []


def follow(command: Command, name: str, tail: int | None, alive: Callable[[], bool]) -> Iterator[str]:
    """Lines as they come. The engine's own following does not end with the container, so `alive` is asked whenever
    it is silent."""
    limit = () if tail is None else ("-n", str(tail))
    process = command.start(("logs", "--follow", *limit, name))
    try:
        yield from _lines(process, alive)
        if process.poll() not in (None, 0):
            raise failure(
                "logs", Answer(exit_code=process.returncode, stdout=b"", stderr=_rest(process)), name
            )
    finally:
        end(process)


def _lines(process: subprocess.Popen[bytes], alive: Callable[[], bool]) -> Iterator[str]:
    assert process.stdout is not None
    pending, ending = b"", False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if selector.select(0 if ending else _LOOK):
                chunk = os.read(process.stdout.fileno(), 65536)
                if not chunk:
                    process.wait(_LOOK)
                    break
                *whole, pending = (pending + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in whole)
            elif ending:
                break
            else:
                ending = not alive()
    if pending:
        yield pending.decode(errors="replace")


def _rest(process: subprocess.Popen[bytes]) -> str:
    return "" if process.stderr is None else process.stderr.read().decode(errors="replace")
