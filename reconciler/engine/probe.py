"""One look at whether a sandbox answers: a GET or a TCP connect that never outlives its timeout.

Only the status line counts: redirects are not followed and bodies are not read. The timeout bounds the whole
request, also against a server that sends one byte a second.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping

from reconciler.backends.base import ProbeAnswer
from reconciler.transport.connection import connect_within, connection_to

_MOST_SAID = 200  # characters: an error quotes the status line, which may be 64 KiB of anything


def probe_http(
    url: str, *, timeout: float, expect: int = 200, headers: Mapping[str, str] | None = None
) -> ProbeAnswer:
    """GET `url` once. Ready only when the status is `expect`; whatever goes wrong is "not ready" with a detail.
    `timeout` in seconds bounds all of it but the name look-up."""
    if timeout <= 0:
        return ProbeAnswer(ready=False)  # no time left to ask
    try:
        status = _status(url, timeout, headers or {})
    except TimeoutError:
        return ProbeAnswer(ready=False, detail=f"no answer within {timeout:.1f}s")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return ProbeAnswer(ready=False, detail=_describe(error))
    if status == expect:
        return ProbeAnswer(ready=True)
    if status in (401, 403):
        return ProbeAnswer(ready=False, detail=f"HTTP {status}: it is up, but refuses our key")
    return ProbeAnswer(ready=False, detail=f"HTTP {status}")


def probe_tcp(host: str, port: int, *, timeout: float) -> ProbeAnswer:
    """Connect once. `timeout` in seconds."""
    if timeout <= 0:
        return ProbeAnswer(ready=False)  # no time left to ask
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError as error:
        return ProbeAnswer(ready=False, detail=_describe(error))
    return ProbeAnswer(ready=True)


def _status(url: str, timeout: float, headers: Mapping[str, str]) -> int:
    connection, target = connection_to(url, timeout)
    try:
        connect_within(connection, timeout)
        connection.request("GET", target, headers={"Accept": "*/*", "Connection": "close", **headers})
        with connection.getresponse() as response:
            return response.status
    finally:
        connection.close()


def _describe(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    said = str(error) or type(error).__name__
    return said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID]}…"
