"""What listens inside a pod: a small HTTP server that answers as a sandbox does."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

SANDBOX = {
    "success": True, "message": "", "data": None, "hint": None, "home_dir": "/home/gem", "workspace": None, "version": "1",
    "detail": {
        "system": {"os": "Linux", "os_version": "1", "arch": "x86_64", "user": "gem", "home_dir": "/home/gem",
                   "workspace": None, "timezone": "UTC", "occupied_ports": []},
        "runtime": {"python": [], "nodejs": []},
        "utils": [],
    },
}  # fmt: skip


class PodServer:
    """`ready` decides between 200 and 503; `log` gets a line for each request; `name` is told in every answer."""

    def __init__(self, name: str, ready: Callable[[], bool], log: Callable[[str], None]) -> None:
        self._name = name
        self._ready = ready
        self._log = log

    def talk(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        kept = b""
        while True:
            while b"\r\n\r\n" not in kept:
                data = connection.recv(65536)
                if not data:
                    return
                kept += data
            head, _, kept = kept.partition(b"\r\n\r\n")
            line = head.decode("latin-1").splitlines()[0]
            method, path, *_ = [*line.split(" "), "", ""]
            status, body = self._answer(path.partition("?")[0])
            self._log(f'"{line}" {status}')
            text = json.dumps(body).encode()
            connection.sendall(
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nX-Pod: {self._name}\r\n"
                f"Content-Length: {len(text)}\r\n\r\n".encode()
                + (b"" if method == "HEAD" else text)
            )

    def _answer(self, path: str) -> tuple[int, object]:
        if not self._ready():
            return 503, {"success": False, "message": "starting"}
        if path in ("/", "/healthz", "/health"):
            return 200, {"pod": self._name}
        if path == "/v1/sandbox":
            return 200, SANDBOX
        return 404, {"success": False, "message": f"no such path: {path}"}
