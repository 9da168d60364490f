"""One command through a sandbox's own HTTP API. The key is a header, never part of a message."""

from __future__ import annotations

import contextlib
import http.client
import json
import shlex
import socket
import threading
from collections.abc import Mapping, Sequence

from reconciler.backends.base import ExecResult
from reconciler.errors import Permanent, Transient, Unavailable

_MOST = 64 * 1024 * 1024  # bytes; the server keeps 4 MiB of each output
_MARGIN = 5.0  # seconds beyond the command's own limit for the answer to arrive


def run_command(
    host: str, port: int, headers: Mapping[str, str], command: Sequence[str], timeout: float
) -> ExecResult:
    """`timeout` seconds end the command, not only the wait for it."""
    body = {"command": shlex.join(command), "hard_timeout": timeout, "max_output_length": 0}
    data = _post(host, port, "/v1/bash/exec", headers, body, timeout + _MARGIN)
    match data:
        case {"status": "completed", "exit_code": int(code), "stdout": str(out), "stderr": str(err)}:
            return ExecResult(exit_code=code & 0xFF, stdout=out, stderr=err)
        case {"status": str(status)} if status != "completed":
            raise Transient(f"the command did not end within {timeout:g} s", retry_after=None)
    raise Permanent(f"what answers at {host}:{port} is no sandbox server of ours")


def _post(
    host: str, port: int, path: str, headers: Mapping[str, str], body: Mapping[str, object], timeout: float
) -> object:
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.connect()
        ends = threading.Timer(
            timeout, _hang_up, (connection.sock,)
        )  # also on what sends a byte now and then
        ends.daemon = True
        ends.start()
    except OSError as error:
        raise Unavailable(f"the sandbox at {host}:{port} does not answer: {error}") from error
    try:
        text = json.dumps(body).encode()
        connection.request("POST", path, text, {**headers, "Content-Type": "application/json"})
        with connection.getresponse() as response:
            status, answer = response.status, json.loads(_bounded(response.read(_MOST + 1)))
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise Unavailable(f"the sandbox at {host}:{port} does not answer: {str(error)[:200]}") from error
    finally:
        ends.cancel()
        connection.close()
    if not isinstance(answer, dict):
        raise Permanent(f"what answers at {host}:{port} is no sandbox server of ours")
    if status != 200:
        raise Permanent(f"the sandbox answered {status}: {str(answer.get('message', ''))[:500]}")
    return answer.get("data")


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _bounded(data: bytes) -> bytes:
    if len(data) > _MOST:
        raise ValueError(f"its answer is over {_MOST // 1024 // 1024} MiB")
    return data
