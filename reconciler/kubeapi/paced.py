"""A socket whose every wait ends at one deadline, also against a server that sends one byte a second; kept for further requests,
each with a deadline of its own."""

from __future__ import annotations

import io
import socket
import time
from typing import Any


class PacedSocket:
    """As much of a socket as http.client uses once it is connected. `deadline` by the steady clock; `quiet` instead are the
    seconds that each single wait may take, for what has no end."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self.deadline = deadline
        self.quiet: float | None = None
        self._readers = 0
        self._closing = False

    def prepare(self) -> None:
        """Raises TimeoutError when the time is over."""
        if self.quiet is not None:
            self._sock.settimeout(self.quiet)
            return
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(remaining)

    def sendall(self, data: bytes) -> None:
        self.prepare()
        self._sock.sendall(data)

    def receive(self, buffer: Any) -> int:
        self.prepare()
        return self._sock.recv_into(buffer)

    def makefile(self, *_: object) -> io.BufferedReader:
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def fileno(self) -> int:
        return self._sock.fileno()

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        """Once nobody reads from it any more: http.client closes what it was given before it has read the answer."""
        self._closing = True
        if self._readers == 0:
            self._sock.close()

    def released(self) -> None:
        self._readers -= 1
        if self._closing and self._readers == 0:
            self._sock.close()


class _Reader(io.RawIOBase):
    def __init__(self, of: PacedSocket) -> None:
        self._of = of

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._of.receive(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._of.released()
