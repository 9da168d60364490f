"""Connections to one server that are used again, each use with a deadline of its own.

Raises what sockets and http.client raise. Nothing is followed, retried or read here.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from reconciler.transport.connection import connection_to

_IDLE_FOR = 15.0  # seconds; servers close what is idle, and mostly later than that
_MOST_IDLE = 16


class _Stream(io.RawIOBase):
    """One answer's bytes. Closing it leaves the socket open, for the next answer."""

    def __init__(self, shared: _SharedSocket) -> None:
        self._shared = shared
        shared.readers += 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._shared.within().recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._shared.readers -= 1
            self._shared.close_if_done()


class _SharedSocket:
    """As much of a socket as http.client uses once it is connected. It closes what will not be used again before the
    answer is read; so the real socket is closed by whoever is last."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self.deadline = deadline
        self.readers = 0
        self._wanted = True

    def within(self) -> socket.socket:
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(remaining)
        return self._sock

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(_Stream(self))

    def sendall(self, data: bytes) -> None:
        self.within().sendall(data)

    def close(self) -> None:
        self._wanted = False
        self.close_if_done()

    def close_if_done(self) -> None:
        if not self._wanted and not self.readers:
            self._sock.close()


class Connections:
    """Open connections to the server of `url`. `context` says how TLS trusts; asked for when first needed. Threads may
    share one object; each connection serves one request at a time."""

    def __init__(self, url: str, *, context: Callable[[], ssl.SSLContext | None] = lambda: None) -> None:
        self._url = url
        self._context = context
        self._idle: list[tuple[float, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    def take(self, timeout: float, *, fresh: bool = False) -> tuple[http.client.HTTPConnection, bool]:
        """A connected one, whose use may take `timeout` seconds from now, and whether it was used before. `fresh` opens
        a new one in any case."""
        deadline = time.monotonic() + timeout
        kept = None if fresh else self._kept()
        if kept is not None:
            cast(_SharedSocket, kept.sock).deadline = deadline
            return kept, True
        connection, _ = connection_to(self._url, timeout, context=self._context())
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        connection.sock = cast(Any, _SharedSocket(connection.sock, deadline))
        return connection, False

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        """After the whole answer was read; one that the server closes is not kept."""
        with self._lock:
            if connection.sock is not None and len(self._idle) < _MOST_IDLE:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()

    def _kept(self) -> http.client.HTTPConnection | None:
        with self._lock:
            while self._idle:
                since, connection = self._idle.pop()
                if time.monotonic() - since < _IDLE_FOR:
                    return connection
                connection.close()
        return None

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def __del__(self) -> None:
        """The seed's contract has no `close`: whoever drops it must leave nothing open."""
        self.close()
