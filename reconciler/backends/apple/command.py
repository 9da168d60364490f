"""Calls of the `container` command: argument lists, each with a timeout, its failures in our errors.

No environment value is ever an argument or part of a message: values go through a pipe that only the command reads,
or, where they have several lines, through its own environment; and what it says is masked.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec import Struct, field

from reconciler.errors import (
    BackendError,
    Conflict,
    NotFound,
    Permanent,
    ReconcilerError,
    Transient,
    Unavailable,
    Unsupported,
)

INSTALL = "install Apple's `container` (github.com/apple/container/releases), or set `binary` on the backend"
START = "start it: `container system start`"
_END = 2.0  # seconds that a command which took too long gets to end by itself

_LINE_BREAK = re.compile("[\n\x0b\x0c\r\x85\u2028\u2029]")  # what ends a line of an environment file there
_VARIABLE = re.compile(r"[^\s=#\x00][^\s=\x00]*")
_DOWN = ("xpc connection error", "system start", "apiserver is not running", "not registered with launchd")
_TRANSIENT = ("interrupted:", "timeout:", "timed out", "connection reset", "connection refused", "network is")
_TAKEN = ("address already in use", "errno: 48")
_OPTION = re.compile(r"unknown option '?(-[\w-]+)", re.IGNORECASE)


# What changes how the command itself works, and what its runtime libraries read.
_LISTENED_TO = frozenset(
    {"HOME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "SSH_AUTH_SOCK", "TMPDIR", "USER"}
)
_FAMILIES = ("CONTAINER_", "DYLD_", "LC_", "Malloc", "NS", "OS_", "SWIFT_", "XDG_", "XPC_", "__")


class PortTaken(Conflict):
    """A host port that was to be published belongs to another program."""


class Environment(Struct, frozen=True, kw_only=True):
    """Variables for a new container. `hidden` are texts that no message may show."""

    variables: Mapping[str, str] = field(default_factory=dict)
    hidden: Collection[str] = ()

    def words(self, descriptor: int) -> list[str]:
        """The arguments that pass them on: names alone."""
        words = ["--env-file", f"/dev/fd/{descriptor}"] if self._lines() else []
        for name in self._inherited():
            words += ["-e", name]
        return words

    def text(self) -> bytes:
        """What the command reads from the pipe."""
        return "".join(f"{name}={value}\n" for name, value in self._lines().items()).encode()

    def process(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The environment of the command's own process. Raises Permanent for a variable it lives by itself."""
        inherited = self._inherited()
        for name in inherited:
            if name in _LISTENED_TO or name.startswith(_FAMILIES):
                raise Permanent(
                    f"environment variable {name} has a value of several lines, which cannot be passed on under "
                    f"a name that the `container` command itself listens to",
                    hint="use another name, or deliver it as a file: `secrets`",
                )
        return {**environ, **inherited}

    def check(self) -> None:
        """Raises Permanent for a name or value that cannot be passed on as it is."""
        for name, value in self.variables.items():
            if not _VARIABLE.fullmatch(name):
                raise Permanent(f"{name!r} cannot be the name of an environment variable")
            if "\x00" in value:
                raise Permanent(f"environment variable {name} holds a zero byte", hint="deliver it as a file")

    def _lines(self) -> dict[str, str]:
        return {name: value for name, value in self.variables.items() if not _LINE_BREAK.search(value)}

    def _inherited(self) -> dict[str, str]:
        return {name: value for name, value in self.variables.items() if _LINE_BREAK.search(value)}


class Answer(Struct, frozen=True, kw_only=True):
    """What a call left: its exit code and both streams."""

    exit_code: int
    stdout: bytes
    stderr: str


class Command:
    """The `container` command at `binary`, a path or a name on the PATH. `timeout` bounds each call, in seconds."""

    def __init__(self, binary: str, timeout: float) -> None:
        self.binary = binary
        self.timeout = timeout

    def ask(self, *words: str, about: str = "", timeout: float | None = None) -> str:
        """Standard output of a call that succeeded. `about` is the container it is about: only "not found" about
        that one raises NotFound. Raises BackendError for whatever goes wrong."""
        answer = self.call(words, timeout=timeout)
        if answer.exit_code != 0:
            raise failure(words[0], answer, about)
        return answer.stdout.decode(errors="replace")

    def run(self, words: Sequence[str], tail: Sequence[str], environment: Environment, about: str) -> None:
        """`container run` with an environment: `words`, the environment's arguments, `tail`."""
        environment.check()
        with _pipe(environment.text()) as descriptor:
            answer = self.call(
                ("run", *words, *environment.words(descriptor), *tail),
                environ=environment.process(os.environ),
                descriptor=descriptor,
            )
        if answer.exit_code != 0:
            raise masked(failure("run", answer, about), environment.hidden)

    def call(
        self,
        words: Sequence[str],
        *,
        timeout: float | None = None,
        environ: Mapping[str, str] | None = None,
        descriptor: int | None = None,
    ) -> Answer:
        """Run it to its end. Raises Unavailable when it is not there or takes too long."""
        limit = self.timeout if timeout is None else timeout
        process = self.start(words, environ=environ, descriptor=descriptor)
        try:
            stdout, stderr = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(
                f"`container {words[0]}` did not end within {limit:g} s",
                hint="see `container system logs`; `timeout` on the backend allows more",
            ) from error
        finally:
            end(process)
        return Answer(exit_code=process.returncode, stdout=stdout, stderr=stderr.decode(errors="replace"))

    def start(
        self, words: Sequence[str], *, environ: Mapping[str, str] | None = None, descriptor: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start it in a group of its own, so that a Ctrl-C meant for us does not end a call half way."""
        try:
            return subprocess.Popen(
                [self.binary, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=None if environ is None else dict(environ),
                pass_fds=() if descriptor is None else (descriptor,),
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise Unavailable(f"the command `{self.binary}` is not there", hint=INSTALL) from error
        except OSError as error:
            raise Unavailable(
                f"the command `{self.binary}` cannot be run: {error.strerror}", hint=INSTALL
            ) from error
        except ValueError as error:  # a zero byte in an argument
            raise Permanent(f"`container {words[0]}` cannot be called: {error}") from error


def end(process: subprocess.Popen[bytes]) -> None:
    """Make sure it has ended: a signal that it passes on to what it started, then the last one."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def failure(verb: str, answer: Answer, about: str) -> BackendError:
    """A failed call as one of our errors. Its own words are part of the message."""
    said = _said(answer)
    message, low = f"`container {verb}{f' {about}' if about else ''}` failed: {said}", said.lower()
    if any(words in low for words in _DOWN):
        return Unavailable(message, hint=START)
    if any(words in low for words in _TAKEN):
        return PortTaken(message, hint="choose another host port, or `auto`")
    if about and about.lower() in low and ("not found" in low or "no such container" in low):
        return NotFound(message)
    if about and about.lower() in low and "already exists" in low:
        return Conflict(message)
    if option := _OPTION.search(said):
        return Unsupported(
            f"this version of `container` does not know {option[1]}",
            hint="update it (0.12 or newer is needed), or leave out what needs that",
        )
    if any(words in low for words in _TRANSIENT):
        return Transient(message)
    return Permanent(message)


def masked(error: BackendError, hidden: Collection[str]) -> BackendError:
    """The same error without these texts."""
    message = error.message
    for text in sorted({text for text in hidden if text}, key=len, reverse=True):
        message = message.replace(text, "•••")
    made: ReconcilerError = type(error)(message, hint=error.hint)
    assert isinstance(made, BackendError)
    return made


def _said(answer: Answer) -> str:
    """The last words on standard error, which is where the reason is; progress comes before it."""
    text = answer.stderr or answer.stdout.decode(errors="replace")
    at = text.rfind("Error: ")
    lines = (text[at + len("Error: ") :] if at >= 0 else text).split("\n")
    kept = " ".join(line.strip() for line in lines if line.strip() and not line.startswith("Usage:"))
    return kept[:1000] or f"exit code {answer.exit_code}"


@contextmanager
def _pipe(text: bytes) -> Iterator[int]:
    """The descriptor of a pipe's end that gives `text` once. Nothing of it touches a disk."""
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb", buffering=0) as stream:
            try:
                sent = 0
                while sent < len(text):
                    sent += stream.write(text[sent:]) or 0
            except BrokenPipeError:
                return  # it ended without reading: its own error says why

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        thread.join()
