"""One look at whether a sandbox answers: a GET or a TCP connect that never outlives its timeout.

Only the status line counts: redirects are not followed and bodies are not read. The timeout bounds the whole
request, also against a server that sends one byte a second.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import urllib.request
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

from reconciler.backends.base import ProbeAnswer
from reconciler.engine.proxies import goes_direct

_MOST_SAID = 200  # characters: an error quotes the status line, which may be 64 KiB of anything


class _DeadlineStream(io.RawIOBase):
    """Reads from a socket, each time with what is left of the whole request's time."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(remaining)
        return self._sock.recv_into(buffer)


class _DeadlineSocket:
    """As much of a socket as http.client uses once it is connected."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineStream(self._sock, self._deadline))

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(data)

    def close(self) -> None:
        self._sock.close()


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
    deadline = time.monotonic() + timeout
    connection, target = _connection(url, timeout)
    try:
        connection.connect()
        connection.sock = cast(Any, _DeadlineSocket(connection.sock, deadline))
        connection.request("GET", target, headers={"Accept": "*/*", "Connection": "close", **headers})
        return connection.getresponse().status
    finally:
        connection.close()


def _connection(url: str, timeout: float) -> tuple[http.client.HTTPConnection, str]:
    """A connection to the host or to the environment's proxy for it, and the request target to use on it."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http URL: {url!r}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = None if goes_direct(url) else _proxy(parts.scheme, parts.hostname)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if proxy is None:
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=context
            ), path
        tunnel = http.client.HTTPSConnection(*proxy, timeout=timeout, context=context)
        tunnel.set_tunnel(parts.hostname, parts.port or 443)
        return tunnel, path
    if proxy is None:
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout), path
    return http.client.HTTPConnection(*proxy, timeout=timeout), url


def _proxy(scheme: str, host: str) -> tuple[str, int] | None:
    if urllib.request.proxy_bypass(host):
        return None
    proxy = urllib.request.getproxies().get(scheme)
    if not proxy:
        return None
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return (parts.hostname, parts.port or 80) if parts.hostname else None


def _describe(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    said = str(error) or type(error).__name__
    return said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID]}…"
