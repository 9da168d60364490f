"""One command through a sandbox's own HTTP API. The key is a header, never part of a message."""

from __future__ import annotations

import http.client
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.backends.base import ExecResult
from reconciler.errors import Permanent, Transient, Unavailable

_MARGIN = 5.0  # seconds beyond the command's own limit for the answer to arrive


def run_command(
    host: str, port: int, headers: Mapping[str, str], command: Sequence[str], timeout: float
) -> ExecResult:
    """`timeout` seconds end the command, not only the wait for it."""
    body = {"command": shlex.join(command), "hard_timeout": timeout, "max_output_length": 0}
    data = _post(host, port, "/v1/bash/exec", headers, body, timeout + _MARGIN)
    if data["status"] != "completed":
        raise Transient(f"the command did not end within {timeout:g} s", retry_after=None)
    return ExecResult(exit_code=data["exit_code"], stdout=data["stdout"], stderr=data["stderr"])


def _post(
    host: str, port: int, path: str, headers: Mapping[str, str], body: Mapping[str, object], timeout: float
) -> dict[str, Any]:
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        text = json.dumps(body).encode()
        connection.request("POST", path, text, {**headers, "Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable(f"the sandbox at {host}:{port} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise Permanent(f"the sandbox answered {response.status}: {answer.get('message', '')}")
    data: dict[str, Any] = answer["data"]
    return data
