"""HTTP/1.1 over a socket: requests in, answers out. Knows nothing of routes, keys or files' meaning.

Bounded everywhere: head 64 KiB in 15 s, body 32 MiB in 5 min, idle connections 75 s. Bodies need a Content-Length; chunked requests
are answered 411, so that there is one way to tell where a request ends.
"""

from __future__ import annotations

import os
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

MAX_HEAD = 64 * 1024
MAX_BODY = 32 * 1024 * 1024
IDLE_SECONDS = 75.0
HEAD_SECONDS = 15.0  # for all of it, once it has begun
BODY_SECONDS = 300.0
SEND_SECONDS = 60.0
_CONTROLS = bytes((*range(9), *range(10, 32), 127))  # all but the tab
_ONCE = frozenset({"host", "content-length", "transfer-encoding", "authorization", "x-aio-api-key"})
_MOST_DIGITS = 18  # of a Content-Length
_REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    411: "Length Required",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
    507: "Insufficient Storage",
}


class Refusal(Exception):
    """A request answered with an error. `close` when the connection cannot be used for another one."""

    def __init__(self, status: int, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.close = close


class Request:
    """`query` is raw, undecoded; `headers` have lower-case names, a repeated one joined by ", "."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query")

    def __init__(
        self, *, method: str, path: str, query: str, headers: dict[str, str], keep_alive: bool
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.keep_alive = keep_alive
        self.body = b""


class Answer:
    """`file` is sent after the head and closed; `length` is then its size in bytes."""

    __slots__ = ("body", "content_type", "file", "headers", "length", "status")

    def __init__(
        self,
        *,
        status: int = 200,
        body: bytes = b"",
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        file: BinaryIO | None = None,
        length: int = 0,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers or {}
        self.file = file
        self.length = length


class Connection:
    """One client. `read` gives the next request or None when the client is done."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = bytearray()

    def read(self, admit: Callable[[Request], None] | None = None) -> Request | None:
        """`admit` is asked with the head alone, before a byte of the body is kept. Raises what it raises, Refusal for a
        request that cannot be served, OSError (timeouts too) for a lost connection."""
        head = self._head()
        if head is None:
            return None
        request = parse_head(head)
        length = _body_length(request)
        if admit is not None:
            admit(request)
        if request.headers.get("expect", "").lower() == "100-continue" and length > len(self._buffer):
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        deadline = time.monotonic() + BODY_SECONDS
        while len(self._buffer) < length:
            if not self._fill(length - len(self._buffer), deadline):
                return None
        request.body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return request

    def write(self, answer: Answer, *, keep_alive: bool) -> None:
        self._socket.settimeout(SEND_SECONDS)
        length = len(answer.body) if answer.file is None else answer.length
        lines = [
            f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {length}",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
            "Cache-Control: no-store",
            *(f"{name}: {value}" for name, value in answer.headers.items()),
        ]
        self._socket.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body)
        if answer.file is not None:
            with answer.file as file:
                self._send_exactly(file, length)

    def _send_exactly(self, file: BinaryIO, length: int) -> None:
        """A file that shrank meanwhile cannot fill its Content-Length: the connection must break, visibly."""
        left = length
        while left:
            chunk = file.read(min(left, 256 * 1024))
            if not chunk:
                raise OSError("the file shrank while it was sent")
            self._socket.sendall(chunk)
            left -= len(chunk)

    def close(self) -> None:
        """Lets the client read the answer first: unread input would turn a close into a reset."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(0.5)
            for _ in range(64):
                if not self._socket.recv(64 * 1024):
                    break
        except OSError:
            pass
        finally:
            self._socket.close()

    def _head(self) -> bytes | None:
        """A connection may be idle for long, but what has begun must come to its end."""
        if not self._buffer and not self._fill(64 * 1024, time.monotonic() + IDLE_SECONDS):
            return None
        deadline = time.monotonic() + HEAD_SECONDS
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD:
                raise Refusal(431, "the request's head is over 64 KiB", close=True)
            if not self._fill(64 * 1024, deadline):
                return None
        head = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return head

    def _fill(self, size: int, deadline: float) -> bool:
        """More of what the client sends; False when there is no more. Raises TimeoutError after the deadline, however
        many bytes came one by one before it."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        data = self._socket.recv(min(size, 1024 * 1024))
        self._buffer += data
        return bool(data)


def parse_head(head: bytes) -> Request:
    bare = head.replace(b"\r\n", b"")
    if len(bare.translate(None, _CONTROLS)) < len(
        bare
    ):  # a lone line feed is where two readers begin to differ
        raise Refusal(400, "there is a control character in the request's head", close=True)
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[1].startswith("/"):
        raise Refusal(400, "this is no HTTP request line", close=True)
    method, target, version = words
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise Refusal(505, "only HTTP/1.0 and HTTP/1.1 are spoken here", close=True)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise Refusal(400, "a header line is malformed", close=True)
        key, value = name.lower(), value.strip()
        if key in headers and key in _ONCE:
            raise Refusal(400, f"the header {name} is there twice", close=True)
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    path, _, query = target.partition("?")
    wish = headers.get("connection", "").lower()
    keep_alive = wish != "close" if version == "HTTP/1.1" else wish == "keep-alive"
    return Request(method=method, path=path, query=query, headers=headers, keep_alive=keep_alive)


def _body_length(request: Request) -> int:
    if "transfer-encoding" in request.headers:
        raise Refusal(411, "send a Content-Length; chunked requests are not read here", close=True)
    text = request.headers.get("content-length", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise Refusal(400, "Content-Length is not a number", close=True)
    length = int(text)
    if length > MAX_BODY:
        raise Refusal(413, f"the body is over {MAX_BODY // 1024 // 1024} MiB", close=True)
    return length


def listener(host: str, port: int) -> socket.socket:
    """For `python -m reconciler.sandboxd` by hand; the backend passes an open socket instead."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(128)
    return sock


def inherited(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)
