"""`/metrics`, `/healthz` and `/readyz` over HTTP, for GET and HEAD alone.

One thread with an event loop: a client that is slow costs a timer, and nobody else waits for it. Nothing is read beyond the
head of a request, one request a connection.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from types import TracebackType
from typing import Self

from msgspec import Struct

from reconciler.errors import ReconcilerError
from reconciler.model.harmless import harmless
from reconciler.operations.health import Health

DEFAULT_ADDRESS = "127.0.0.1:9464"

Render = Callable[[str], tuple[bytes, str]]
"""The metrics for an `Accept` header, and their content type: `Metrics.render`."""

_TEXT = "text/plain; charset=utf-8"
_END = b"\r\n\r\n"
_ADDRESS = re.compile(r"(?:\[(?P<six>[^\]]+)\]:|(?P<host>[^:\[\]]+):)?(?P<port>\d{1,5})")
_REQUEST = re.compile(rb"([A-Z]{1,20}) (/[!-~]*) HTTP/1\.[01]")
_ACCEPT = re.compile(rb"\r\naccept:[ \t]*([ -~]*)", re.IGNORECASE)


class Limits(Struct, frozen=True, kw_only=True):
    """`seconds` for a whole request and its answer, `head` in bytes, `connections` at the same time."""

    seconds: float = 10.0
    head: int = 16384
    connections: int = 64


class _Answer(Struct, frozen=True, kw_only=True):
    status: HTTPStatus
    body: bytes
    kind: str = _TEXT
    headers: tuple[str, ...] = ()


class Endpoints:
    """Listens from its making on, in a thread of its own, until it is closed. `address` as "127.0.0.1:9464", "[::1]:9464",
    "localhost:0" or a port alone. Without `metrics`, `/metrics` is not there. Raises ReconcilerError with a hint for an
    address that cannot be listened on."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        health: Health,
        metrics: Render | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._limits = limits or Limits()
        self._socket = _listening(address)
        host, port = self._socket.getsockname()[:2]
        self.port: int = port
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="endpoints", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up on everybody and free the port. Again does nothing."""
        if not self._loop.is_closed():
            with suppress(RuntimeError):  # it closed in between
                self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- connections

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._socket, limit=self._limits.head)
        await self._end.wait()
        # Nobody is let in any more, and who was let in a moment ago gets as far as to be hung up on: a server that is closed
        # before that forgets him, and his socket stays open.
        self._loop.remove_reader(self._socket)
        await _turns()
        server.close()
        for task, writer in tuple(self._open.items()):
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*tuple(self._open), return_exceptions=True)
        await _turns()  # sockets are closed in the turn after their transport is

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """No coroutine: one that is cancelled before its first step would hang up on nobody."""
        task = self._loop.create_task(self._serve_one(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._open.pop)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._talk(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it hung up, or was too slow
        finally:
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) > self._limits.connections:
            answer, body = _plain(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections"), True
        else:
            answer, body = self._answer(await _head(reader))
        writer.write(_head_of(answer) + (answer.body if body else b""))
        await writer.drain()
        writer.write_eof()
        while await reader.read(
            4096
        ):  # what was sent beyond the head would have the answer thrown away at its end
            pass

    # -- requests

    def _answer(self, head: bytes | None) -> tuple[_Answer, bool]:
        """The answer, and whether its body is sent too."""
        if head is None:
            return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long"), True
        request = _REQUEST.fullmatch(head.partition(b"\r\n")[0])
        if request is None:
            return _plain(HTTPStatus.BAD_REQUEST, "not a request"), True
        method, target = request[1], request[2].partition(b"?")[0]
        found = self._resource(target.decode("ascii"))
        if found is None:
            return _plain(HTTPStatus.NOT_FOUND, "there is /metrics, /healthz and /readyz"), method != b"HEAD"
        if method not in (b"GET", b"HEAD"):
            refused = _plain(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD", "Allow: GET, HEAD")
            return refused, True
        accept = _ACCEPT.search(head)
        return found(accept[1].decode("ascii") if accept else ""), method == b"GET"

    def _resource(self, path: str) -> Callable[[str], _Answer] | None:
        match path:
            case "/healthz":
                return lambda _: _health(self._health.dead(), self._health.role())
            case "/readyz":
                return lambda _: _health(self._health.unready(), self._health.role())
            case "/metrics" if self._metrics is not None:
                return self._measured
            case _:
                return None

    def _measured(self, accept: str) -> _Answer:
        assert self._metrics is not None
        try:
            body, kind = self._metrics(accept)
        except Exception as error:  # noqa: BLE001 - a bug there must not look like a network that fails
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: this is a bug")
        return _Answer(status=HTTPStatus.OK, body=body, kind=kind)


async def _head(reader: asyncio.StreamReader) -> bytes | None:
    """The head of a request, None when it is too long."""
    try:
        return await reader.readuntil(_END)
    except asyncio.LimitOverrunError:
        return None


def _health(trouble: str, role: str) -> _Answer:
    well = f"ok: {role}" if role else "ok"
    return _plain(HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK, trouble or well)


async def _turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def _plain(status: HTTPStatus, text: str, *headers: str) -> _Answer:
    return _Answer(status=status, body=f"{text}\n".encode(), headers=headers)


def _head_of(answer: _Answer) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(answer.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *answer.headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _listening(address: str) -> socket.socket:
    host, port = _parsed(address)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(place)
            sock.listen(128)
        except OSError:
            sock.close()
            raise
    except (OSError, UnicodeError) as error:  # a host such as `a..b` is not even a name
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ReconcilerError(
            f"cannot listen on {harmless(address)}: {why}",
            hint="choose another port, or 0 for any that is free; `127.0.0.1` and `[::1]` are this machine alone",
        ) from error
    return sock


def _parsed(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    port = int(found["port"]) if found else 65536
    if found is None or port > 65535:
        raise ReconcilerError(
            f"not an address to listen on: {harmless(address)}",
            hint="write it as 127.0.0.1:9464, [::1]:9464 or 9464; 0.0.0.0:9464 is open to other machines",
        )
    return found["six"] or found["host"] or "127.0.0.1", port
