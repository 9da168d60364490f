"""A real HTTP server that takes notifications, and may refuse, be slow, or lie."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATIENCE = 20.0  # seconds


@dataclass
class Taken:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Receiver:
    """`answers` are the statuses of the next requests, 204 when there are none left, with headers of `more`."""

    server: ThreadingHTTPServer
    answers: list[int] = field(default_factory=list)
    more: dict[str, str] = field(default_factory=dict)
    asked: list[Taken] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    _news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook/s3cret-token"

    def took(self, count: int) -> list[Taken]:
        """The requests, once there are so many."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while len(self.asked) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(self.asked)} requests, not {count}"
                self._news.wait(left)
            return list(self.asked)

    def hears(self, taken: Taken) -> int:
        with self._news:
            self.asked.append(taken)
            self._news.notify_all()
            return self.answers.pop(0) if self.answers else 204


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closed, it has no socket any more


class _Handler(BaseHTTPRequestHandler):
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.receiver.before()
        status = self.receiver.hears(Taken(self.path, dict(self.headers), json.loads(body)))
        self.send_response(status)
        for name, value in self.receiver.more.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", port), handler) as server:
        made = handler.receiver = Receiver(server)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
