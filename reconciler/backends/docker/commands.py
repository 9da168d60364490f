"""What is asked of a running container beyond its life: logs, commands, what it takes; and how the engine is."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from reconciler.backends.base import ExecResult
from reconciler.backends.docker import cgroups
from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.images import lines
from reconciler.errors import BackendError, Conflict, NotFound, Permanent, Transient
from reconciler.model.observed import Usage

_NOT_FOUND = ("executable file not found", "no such file or directory")
_CANNOT_RUN = 127  # what a shell answers for a program that is not there


def logs(engine: Engine, container: str, *, tail: int | None, follow: bool) -> Iterator[str]:
    """Both streams, oldest line first. To follow is to wait without end, however quiet the sandbox is; else each wait
    for the engine is bounded, which the SDK's own stream is not."""
    client, asked = engine.sdk(), "all" if tail is None else tail
    with engine.translated():
        if follow:
            yield from lines(
                client.logs(container, stdout=True, stderr=True, stream=True, follow=True, tail=asked)
            )
            return
        framed = not engine.inspect(container)["Config"].get("Tty")
        response = client._get(
            client._url("/containers/{0}/logs", container),
            params={"stdout": 1, "stderr": 1, "tail": asked},
            stream=True,
        )
        with response:
            client._raise_for_status(response)
            pieces = response.iter_content(64 * 1024)
            yield from lines(_unframed(pieces) if framed else pieces)


def _unframed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The contents of frames, which begin with 8 bytes: the stream's number, three zeros, the length."""
    rest = b""
    for piece in pieces:
        rest += piece
        while len(rest) >= 8 and len(rest) >= (end := 8 + int.from_bytes(rest[4:8], "big")):
            yield rest[8:end]
            rest = rest[end:]


def run(engine: Engine, container: str, command: Sequence[str], timeout: float) -> ExecResult:
    """A command in the container. `timeout` seconds end the wait: the engine has no way to end the command."""
    client = engine.sdk()
    try:
        with engine.translated():
            made = client.exec_create(container, list(command))["Id"]
            output = _output(client, made, timeout)
            code = client.exec_inspect(made)["ExitCode"]
    except Conflict as error:
        raise NotFound(f"the sandbox is not running: {error.message}") from error
    except Permanent as error:
        if isinstance(error, NotFound) or not any(words in error.message for words in _NOT_FOUND):
            raise
        return ExecResult(exit_code=_CANNOT_RUN, stdout="", stderr=error.message)
    stdout, stderr = (part.decode(errors="replace") for part in output)
    if code in (126, 127) and "OCI runtime exec failed" in stdout + stderr:
        return ExecResult(exit_code=_CANNOT_RUN, stdout="", stderr=(stdout + stderr).strip())
    return ExecResult(exit_code=int(code), stdout=stdout, stderr=stderr)


def _output(client: Any, made: str, timeout: float) -> tuple[bytes, bytes]:
    """Both streams to their end. At the end of the time the connection is shut, which wakes the reader."""
    from docker.utils.socket import demux_adaptor

    raw = client.exec_start(made, socket=True)
    connection = getattr(raw, "_sock", raw)
    ended = threading.Event()

    def cut() -> None:
        ended.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    watchdog = threading.Timer(timeout, cut)
    watchdog.daemon = True
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    watchdog.start()
    try:
        for frame in _frames(raw, connection):
            for part, piece in zip(parts, demux_adaptor(*frame), strict=True):
                if piece:
                    part.append(piece)
    finally:
        watchdog.cancel()
        getattr(raw, "_response", raw).close()  # the response owns the connection
    if ended.is_set():
        raise Transient(f"the command did not end within {timeout:g} s", retry_after=None)
    return b"".join(parts[0]), b"".join(parts[1])


def _frames(raw: Any, connection: Any) -> Iterator[tuple[int, bytes]]:
    """(stream, content) until the end. What came together with the head of the answer is in the buffer that the head was
    read through, and lost to whoever reads from the bare socket, as the SDK does."""
    from docker.utils.socket import frames_iter

    answer = getattr(getattr(raw, "_response", None), "raw", None)
    reader = getattr(getattr(answer, "_fp", None), "fp", None)
    if not isinstance(reader, io.BufferedReader):
        yield from frames_iter(raw, tty=False)
        return
    connection.settimeout(None)  # the command has a time of its own
    while len(head := reader.read(8)) == 8:
        yield head[0], reader.read(int.from_bytes(head[4:], "big"))


def usage(engine: Engine, container: str) -> Usage | None:
    """One sample. Raises NotFound when it is not there."""
    seen = cgroups.usage_of(container)
    if seen is not None:
        return seen
    stats = engine.get(f"/containers/{container}/stats", {"stream": "false", "one-shot": "true"})
    memory = stats.get("memory_stats") or {}
    if not memory.get("usage"):
        return None  # not running: an engine answers with zeros
    details = memory.get("stats") or {}
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return Usage(
        cpu_seconds=stats["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9,
        memory=max(0, int(memory["usage"]) - int(cache)),
        at=time.monotonic(),
    )


def check(engine: Engine) -> Sequence[tuple[str, bool, str]]:
    """For `doctor`: can it be reached, does it hold what a plan promises."""
    try:
        facts = engine.facts()
    except BackendError as error:
        return (("engine", False, f"{error.message}\n{error.hint}" if error.hint else error.message),)
    name = f"{facts.get('ServerVersion', '?')} at {engine.name}, {facts.get('OperatingSystem', '?')}"
    rows = [("engine", True, f"{name}, {facts.get('NCPU', '?')} processors")]
    lacking = [
        word
        for word, key in (("memory", "MemoryLimit"), ("cpu", "CpuCfsQuota"), ("pids", "PidsLimit"))
        if facts.get(key) is False
    ]
    rows.append(
        (
            "limits",
            not lacking,
            f"the kernel cannot limit {', '.join(lacking)}" if lacking else "memory, cpu, pids",
        )
    )
    secured = [str(option) for option in facts.get("SecurityOptions") or ()]
    seccomp = any("seccomp" in option for option in secured)
    rows.append(
        ("seccomp", seccomp, "on" if seccomp else "off: system calls are not filtered on this engine")
    )
    try:
        engine.sdk()
    except BackendError as error:
        rows.append(("sdk", False, f"{error.message}\n{error.hint}" if error.hint else error.message))
    return tuple(rows)
