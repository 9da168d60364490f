"""The cluster's network on loopback: listeners on addresses of 127/8, one thread that accepts for all of them."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable

Talk = Callable[[socket.socket], None]
"""Gets a connection of its own, in a thread of its own; the socket is closed afterwards."""


class Network:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._listeners: dict[tuple[str, int], socket.socket] = {}
        self._connections: dict[str, set[socket.socket]] = {}
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._closed = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def listen(self, address: str, port: int, talk: Talk) -> bool:
        """False when that address and port is taken, or not allowed."""
        with self._lock:
            if (address, port) in self._listeners:
                return True
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((address, port))
                sock.listen(64)
            except OSError:
                sock.close()
                return False
            sock.setblocking(False)
            self._listeners[address, port] = sock
            self._selector.register(sock, selectors.EVENT_READ, (address, talk))
        self._wake.send(b"x")
        return True

    def hang_up(self, address: str, port: int | None = None) -> None:
        """Nobody listens there any more, and every connection to that address is cut."""
        with self._lock:
            for key in [key for key in self._listeners if key[0] == address and port in (None, key[1])]:
                sock = self._listeners.pop(key)
                self._selector.unregister(sock)
                sock.close()
            if port is None:
                for connection in self._connections.pop(address, set()):
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(1):
                if key.data is None:
                    self._woken.recv(64)
                    continue
                address, talk = key.data
                try:
                    connection, _ = key.fileobj.accept()  # type: ignore[union-attr]
                except OSError:
                    continue
                connection.setblocking(True)
                with self._lock:
                    self._connections.setdefault(address, set()).add(connection)
                threading.Thread(target=self._serve, args=(address, connection, talk), daemon=True).start()

    def _serve(self, address: str, connection: socket.socket, talk: Talk) -> None:
        try:
            talk(connection)
        except OSError:
            pass
        finally:
            with self._lock:
                self._connections.get(address, set()).discard(connection)
            connection.close()

    def close(self) -> None:
        self._closed = True
        self._wake.send(b"x")
        self._thread.join(5)
        for address in {address for address, _ in self._listeners} | set(self._connections):
            self.hang_up(address)
        self._selector.close()
        self._wake.close()
        self._woken.close()


def pipe(one: socket.socket, other: socket.socket) -> None:
    """Bytes both ways until both sides have ended."""

    def run(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=run, args=(other, one), daemon=True)
    back.start()
    run(one, other)
    back.join(30)
