"""A wire between a client and a server that breaks where a test says: before a request arrives, or after it was answered.

It knows nothing of what goes over it. A request is what the client sends until the server answers.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path


class Wire:
    """Listens in `folder` as PostgreSQL does and passes every byte on to the socket of the server at `port`. Requests
    are counted over all connections, from 1. `lose_request` and `lose_answer` are the number of the one whose connection
    is cut: that request never arrives, or is carried out and its answer thrown away. From `dies_at` on nothing arrives,
    as from a client that was killed. `stall` keeps every answer back."""

    def __init__(self, folder: Path, *, server: Path, port: int) -> None:
        self.requests = 0
        self.lose_request = 0
        self.lose_answer = 0
        self.dies_at = 0
        self.stall = False
        self.port = port
        self.folder = folder
        self._server = str(server / f".s.PGSQL.{port}")
        self._turn = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / f".s.PGSQL.{port}"))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        """Until one side hangs up or the wire is cut."""
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with client, server, contextlib.suppress(OSError):
            server.connect(self._server)
            number, asking = 0, False
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if client in ready:
                    data = client.recv(1 << 20)
                    if not data:
                        return
                    if not asking:
                        number, asking = self._count(), True
                    if number == self.lose_request or 0 < self.dies_at <= number:
                        return
                    server.sendall(data)
                if server in ready:
                    data = server.recv(1 << 20)
                    if not data or number == self.lose_answer:
                        return
                    asking = False
                    if not self.stall:
                        client.sendall(data)

    def _count(self) -> int:
        with self._turn:
            self.requests += 1
            return self.requests
