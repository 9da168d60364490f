"""A connection whose whole use has one deadline, also against a server that sends one byte a second.

It goes to the host itself or to the environment's proxy for it. Nothing is followed, retried or read here.
"""

from __future__ import annotations

import base64
import http.client
import io
import socket
import ssl
import time
from typing import Any, cast
from urllib.parse import SplitResult, unquote, urlsplit

from reconciler.transport.proxies import goes_direct, proxy_for


class _DeadlineStream(io.RawIOBase):
    """Reads from a socket, each time with what is left of the whole request's time; closing it closes the socket."""

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

    def close(self) -> None:
        super().close()
        self._sock.close()


class _DeadlineSocket:
    """As much of a socket as http.client uses once it is connected. It asks for one stream, and closes what it was given
    before that is read; so from then on the stream closes the socket."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline
        self._read_by: _DeadlineStream | None = None

    def makefile(self, *_: object) -> io.BufferedReader:
        self._read_by = _DeadlineStream(self._sock, self._deadline)
        return io.BufferedReader(self._read_by)

    def sendall(self, data: bytes) -> None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("sending took too long")
        self._sock.settimeout(remaining)
        self._sock.sendall(data)

    def close(self) -> None:
        if self._read_by is None:
            self._sock.close()


def connection_to(
    url: str, timeout: float, *, context: ssl.SSLContext | None = None
) -> tuple[http.client.HTTPConnection, str]:
    """A connection to the host or to the environment's proxy for it, and the request target to use on it. `context`
    None trusts what the system trusts. Raises ValueError for what is no URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http URL: {url!r}")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    proxy = None if goes_direct(url) else proxy_for(parts.scheme, parts.hostname)
    if parts.scheme == "https":
        context = context or ssl.create_default_context()
        if proxy is None:
            return http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=context
            ), path
        tunnel = http.client.HTTPSConnection(*_place(proxy), timeout=timeout, context=context)
        tunnel.set_tunnel(parts.hostname, parts.port or 443, headers=_introduced(proxy))
        return tunnel, path
    if proxy is None:
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout), path
    return http.client.HTTPConnection(*_place(proxy), timeout=timeout), url


def target_of(url: str) -> str:
    """The request target for this URL on a connection that leads to its host, or to the environment's proxy for it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http" and not goes_direct(url) and proxy_for("http", host) is not None:
        return url
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def connect_within(connection: http.client.HTTPConnection, timeout: float) -> None:
    """Connect it; from now on its whole use may take `timeout` seconds, all but the name look-up."""
    deadline = time.monotonic() + timeout
    connection.connect()
    connection.sock = cast(Any, _DeadlineSocket(connection.sock, deadline))


def _place(proxy: SplitResult) -> tuple[str, int]:
    return proxy.hostname or "", proxy.port or 80


def _introduced(proxy: SplitResult) -> dict[str, str]:
    """What a proxy that asks for a password is told before the tunnel is built."""
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair).decode()}"}
