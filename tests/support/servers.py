"""Real HTTP servers on loopback that behave well or badly, for everything that probes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Talk = Callable[[socket.socket, str], None]
"""(connection, request head) → answer any way it likes."""


def status(code: int, *headers: str) -> Talk:
    def talk(conn: socket.socket, _: str) -> None:
        lines = [f"HTTP/1.1 {code} X", "Content-Length: 0", "Connection: close", *headers]
        conn.sendall("\r\n".join([*lines, "", ""]).encode())

    return talk


def hang(conn: socket.socket, _: str) -> None:
    """Accept, read, say nothing until the other side gives up."""
    conn.settimeout(20)
    while conn.recv(1024):
        pass


def drip(conn: socket.socket, _: str) -> None:
    """One byte at a time, for ever: no single read ever times out."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"z" * 100_000:
        conn.sendall(bytes([byte]))
        time.sleep(0.05)


def endless(conn: socket.socket, _: str) -> None:
    """200 with a body that never ends."""
    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        conn.sendall(b"x" * 65536)


def garbage(conn: socket.socket, _: str) -> None:
    conn.sendall(b"\x00\x01not http at all\r\n\r\n")


class Server:
    """Answers each connection by `talk`, which may be changed while it runs; `heads` are the requests' heads."""

    def __init__(self, talk: Talk, sock: socket.socket) -> None:
        self.talk = talk
        self.heads: list[str] = []
        self._sock = sock
        self._closing = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        port: int = self._sock.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while not self._closing:
            try:
                conn, _ = self._sock.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with conn:
            try:
                head = b""
                while b"\r\n\r\n" not in head and (chunk := conn.recv(4096)):
                    head += chunk
                self.heads.append(head.decode(errors="replace"))
                self.talk(conn, self.heads[-1])
            except OSError:
                pass

    def close(self) -> None:
        self._closing = True
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


@contextmanager
def serving(talk: Talk, port: int = 0) -> Iterator[Server]:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(64)
    server = Server(talk, sock)
    try:
        yield server
    finally:
        server.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
