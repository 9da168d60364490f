"""A provisioner of sandboxes on a cluster of pods, with its API and its flaws, over real HTTP.

Existence is that of a service. A creation on a service without a pod changes nothing; one while the pod of that id is
dying attaches to it; a deletion answers before the pod is gone; a pod that cannot be read counts as absent. Sandboxes
are real servers that answer `/v1/sandbox`.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ID = re.compile(r"/api/sandboxes/([^/?]+)")
Answer = tuple[int, object]


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def reply(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers or (("Content-Type", "application/json"),):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that goes away is no news."""


@dataclass
class Pod:
    """`asked` is the body it was made from; `dying` when it will be gone, by the monotonic clock."""

    server: _Server
    asked: dict[str, Any]
    phase: str = "Running"
    dying: float | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@dataclass
class Provisioner:
    """`grace` is how long a deleted pod lives on, `slow` how long a creation blocks, in seconds. `next_answers` are
    given to the requests to come, first to first; `unreadable` counts, by id, how often its pod's status fails to be read.
    `rotten` are entries that a listing has besides. `requests` are (method, path, headers, body)."""

    key: str | None = "the-key"
    grace: float = 0.0
    slow: float = 0.0
    services: dict[str, str] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    unreadable: dict[str, int] = field(default_factory=dict)
    rotten: list[object] = field(default_factory=list)
    next_answers: list[Callable[[_Quiet], None]] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # -- what happens in the cluster behind everybody's back

    def kill_pod(self, sandbox_id: str) -> None:
        """The service stays."""
        with self._lock:
            self.pods.pop(sandbox_id).server.server_close()

    def end_pod(self, sandbox_id: str, phase: str) -> None:
        with self._lock:
            self.pods[sandbox_id].phase = phase
            self.pods[sandbox_id].server.server_close()

    def kill_service(self, sandbox_id: str) -> None:
        """The pod stays, and no request shows it any more."""
        self.services.pop(sandbox_id)

    def settle(self) -> None:
        """What is dying is gone when its time is over."""
        with self._lock:
            for name, pod in list(self.pods.items()):
                if pod.dying is not None and pod.dying <= time.monotonic():
                    del self.pods[name]
                    pod.server.server_close()

    # -- what it answers

    def _shown(self, sandbox_id: str) -> dict[str, object]:
        return {
            "sandbox_id": sandbox_id,
            "sandbox_url": self.services[sandbox_id],
            "status": self._status(sandbox_id),
        }

    def _status(self, sandbox_id: str) -> str:
        if self.unreadable.get(sandbox_id, 0) > 0:
            self.unreadable[sandbox_id] -= 1
            return "NotFound"
        pod = self.pods.get(sandbox_id)
        return "NotFound" if pod is None else pod.phase

    def create(self, asked: dict[str, Any]) -> Answer:
        sandbox_id = asked.get("sandbox_id")
        if not isinstance(sandbox_id, str) or "thread_id" not in asked:
            return 422, {"detail": [{"loc": ["body", "sandbox_id"], "msg": "field required"}]}
        with self._lock:
            self.settle()
            if sandbox_id not in self.services:
                if sandbox_id not in self.pods:  # else: 409 of the cluster, which it takes for success
                    self.pods[sandbox_id] = Pod(_sandbox(), asked)
                self.services[sandbox_id] = self.pods[sandbox_id].url
        time.sleep(self.slow)
        with self._lock:
            if sandbox_id not in self.services:
                return 500, {"detail": "deleted meanwhile"}
            return 200, self._shown(sandbox_id)

    def delete(self, sandbox_id: str) -> Answer:
        with self._lock:
            self.services.pop(sandbox_id, None)
            if sandbox_id in self.pods:
                self.pods[sandbox_id].dying = time.monotonic() + self.grace
            self.settle()
        return 200, {"ok": True, "sandbox_id": sandbox_id}

    def answer(self, method: str, path: str, key: str | None, body: Any) -> Answer:
        if path == "/health":
            return 200, {"status": "ok"}
        if self.key is None or key != self.key:
            return 401, {"detail": "Invalid or missing API key"}
        self.settle()
        with self._lock:
            named = _ID.fullmatch(path)
            match method, path, named:
                case "GET", "/api/sandboxes", _:
                    shown = [*map(self._shown, list(self.services)), *self.rotten]
                    return 200, {"sandboxes": shown, "count": len(shown)}
                case "GET", _, re.Match():
                    known = named[1] in self.services
                    return (200, self._shown(named[1])) if known else (404, {"detail": "Sandbox not found"})
                case "DELETE", _, re.Match():
                    return self.delete(named[1])
        if (method, path) == ("POST", "/api/sandboxes"):
            return self.create(body)
        return 404, {"detail": "Not Found"}

    def close(self) -> None:
        for pod in self.pods.values():
            pod.server.server_close()


def _serve(server: _Server) -> None:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


def _sandbox() -> _Server:
    class Sandbox(_Quiet):
        def do_GET(self) -> None:
            self.reply(200 if self.path == "/v1/sandbox" else 404, b'{"version": "1"}')

    class Dying(_Server):
        def server_close(self) -> None:
            self.shutdown()
            super().server_close()

    server = Dying(("127.0.0.1", 0), Sandbox)
    _serve(server)
    return server


@contextmanager
def provisioner(
    *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", **options: Any
) -> Iterator[Provisioner]:
    """One that serves, with TLS if `context` is given, until the block ends."""
    made = Provisioner(**options)

    class Handler(_Quiet):
        def setup(self) -> None:
            super().setup()
            made.connections += 1

        def do_ANY(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            data = self.rfile.read(length)
            body = json.loads(data) if data else None
            made.requests.append((self.command, self.path, dict(self.headers), body))
            if made.next_answers:
                made.next_answers.pop(0)(self)
                return
            status, answer = made.answer(self.command, self.path, self.headers.get("X-API-Key"), body)
            self.reply(status, json.dumps(answer).encode())

        do_GET = do_POST = do_DELETE = do_ANY  # noqa: N815 - http.server's names

    class Listening(_Server):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = Listening((host, 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    shown = f"[{host}]" if ":" in host else host
    made.url = f"{'http' if context is None else 'https'}://{shown}:{server.server_address[1]}"
    _serve(server)
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        made.close()


def saying(status: int, body: bytes = b"{}", *headers: tuple[str, str]) -> Callable[[_Quiet], None]:
    """One answer, whatever is asked."""
    return lambda handler: handler.reply(status, body, *headers)


def page(status: int = 200) -> Callable[[_Quiet], None]:
    return saying(status, b"<!doctype html><title>Log in</title>", ("Content-Type", "text/html"))
