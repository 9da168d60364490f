"""Ways for the server to misbehave. Give one to `Cluster.misbehave` with what it applies to and how often."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.kubernetes.http import Handler, Request
from tests.support.kubernetes.refusals import REASONS, Refusal

Answer = Callable[[Handler, Request], None]


@dataclass
class Misbehaves:
    """`times` requests of that method (a regular expression) whose path and query match get `answer`.

    `after` requests that match are answered well before. `count` is how many were misanswered so far.
    """

    answer: Answer
    path: str = ""
    method: str = ""
    times: int = 1_000_000
    after: int = 0
    count: int = field(default=0, init=False)

    def __call__(self, handler: Handler, request: Request) -> bool:
        wanted = str(request).partition(" ")[2]
        if not re.search(self.path, wanted) or not re.fullmatch(self.method or ".*", request.method):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.count >= self.times:
            return False
        self.count += 1
        self.answer(handler, request)
        return True


def refusal(code: int, message: str = "", *, retry_after: int | None = None, reason: str = "") -> Answer:
    """A proper Status: 429 and 503 with Retry-After, 409, 410, 500 and whatever else."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def answer(handler: Handler, request: Request) -> None:
        details = {} if retry_after is None else {"retryAfterSeconds": retry_after}
        text = message or f"made to fail: {REASONS.get(code, code)}"
        handler.refuse(Refusal(code, text, reason, details=details, headers=headers))

    return answer


def raw(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Answer:
    """Any body of any type: HTML, nothing at all, JSON that is none."""

    def answer(handler: Handler, request: Request) -> None:
        handler.send(status, body, kind, {name.replace("_", "-"): value for name, value in headers.items()})

    return answer


HTML = raw(200, b"<html><body><h1>Sign in</h1></body></html>", "text/html")
BAD_GATEWAY = raw(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html")
EMPTY = raw(200, b"")
HALF = raw(200, b'{"kind":"PodList","items":[{"metadata"')
WRONG_TYPE = raw(200, b'{"kind":"Status"}', "application/vnd.kubernetes.protobuf")
NOT_AN_OBJECT = raw(200, b"[1, 2]")


def redirect(where: str, status: int = 302) -> Answer:
    return raw(status, b"", "text/plain", Location=where)


def cut(body: bytes = b'{"type":"ADDED","object":{"kind":"Pod","metada', *, status: int = 200) -> Answer:
    """Chunks that begin and never end: the connection is cut in the middle of a line."""

    def answer(handler: Handler, request: Request) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.chunk(body)
        _cut(handler)

    return answer


def hang_up(handler: Handler, request: Request) -> None:
    """Not one byte."""
    _cut(handler)


def answer_then_cut(handler: Handler, request: Request) -> None:
    """The request is carried out, and its answer is lost."""
    kept, handler.wfile = handler.wfile, _Nowhere()  # type: ignore[assignment]
    try:
        handler.carry_out(request)
    finally:
        handler.wfile = kept
        _cut(handler)


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass


def _cut(handler: Handler) -> None:
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)


def slow(seconds: float, pieces: int = 20) -> Answer:
    """The right headers at once, then a body in pieces over that time."""

    def answer(handler: Handler, request: Request) -> None:
        body = json.dumps(
            {"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []}
        ).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        size = max(1, len(body) // pieces)
        try:
            for at in range(0, len(body), size):
                handler.wfile.write(body[at : at + size])
                handler.wfile.flush()
                time.sleep(seconds / pieces)
        except OSError:
            handler.close_connection = True

    return answer


def hang(seconds: float = 30) -> Answer:
    """Nothing at all for that long, then the connection is cut."""

    def answer(handler: Handler, request: Request) -> None:
        handler.connection.settimeout(seconds)
        with contextlib.suppress(OSError):
            handler.connection.recv(1)
        _cut(handler)

    return answer


def endless(handler: Handler, request: Request) -> None:
    """A JSON document that never ends."""
    handler.begin_stream("application/json")
    try:
        handler.chunk(b'{"kind":"PodList","items":[')
        while True:
            handler.chunk(b'{"metadata":{"name":"x"}},' * 4096)
    except OSError:
        handler.close_connection = True


def endless_line(handler: Handler, request: Request) -> None:
    """A watch event that never ends."""
    handler.begin_stream("application/json")
    try:
        handler.chunk(b'{"type":"ADDED","object":{"data":"')
        while True:
            handler.chunk(b"x" * 65536)
    except OSError:
        handler.close_connection = True


def events(*documents: object, then_cut: bool = False) -> Answer:
    """A watch with exactly these events (bytes are sent as they are), which then ends or is cut."""

    def answer(handler: Handler, request: Request) -> None:
        handler.begin_stream("application/json")
        for document in documents:
            handler.chunk(document if isinstance(document, bytes) else json.dumps(document).encode() + b"\n")
        if then_cut:
            _cut(handler)
        else:
            handler.chunk(b"")

    return answer
