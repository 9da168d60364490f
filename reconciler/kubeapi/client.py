"""HTTP to an API server: one question and its answer, or a stream. Knows no object.

Every wait is bounded, bodies are bounded, redirects are not followed, connections are kept. What a server asks to wait for
(429, and 503 to a look) is waited for as long as the time for the call lasts. Must never let a bare OSError out.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlencode

from reconciler.errors import BackendError, Permanent, Unavailable
from reconciler.kubeapi import websocket
from reconciler.kubeapi.failures import Refusal
from reconciler.kubeapi.kubeconfig import Access
from reconciler.kubeapi.paced import PacedSocket
from reconciler.transport.connection import connection_to

_LARGEST = 64 * 2**20  # bytes of one answer
_LONGEST_LINE = 16 * 2**20  # bytes of one line of a stream
_KEPT = 32  # idle connections
_LONGEST_PAUSE = 10.0  # seconds between two tries of one call
_QUIET = 330.0  # seconds of silence after which a stream is taken for broken: a server ends a watch sooner
AGENT = "sandbox-reconciler"


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Client:
    """Of one API server, for all threads. `timeout` bounds each call, in seconds."""

    def __init__(self, access: Access, timeout: float) -> None:
        self.server = access.server.rstrip("/")
        self.timeout = timeout
        self.access = access
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._closed = False

    def headers(self) -> Mapping[str, str]:
        return self.access.headers()

    # -- questions

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        content: str,
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """The JSON object that it answers. Raises Refused, and Unavailable when no answer can be had."""
        text = self.text(method, path, query, body, content, accept)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.nonsense("an answer that is no JSON") from error
        if not isinstance(found, dict):
            raise self.nonsense("an answer that is no object")
        return found

    def text(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        content: str = "application/json",
        accept: str = "application/json",
    ) -> bytes:
        sent = None if body is None else json.dumps(body).encode()
        deadline, pause, renewed = time.monotonic() + self.timeout, 0.5, False
        while True:
            status, headers, text = self._once(method, _target(path, query), sent, content, accept)
            if status < 300:
                return text
            refusal = refusal_of(status, headers, text)
            if status == 401 and not renewed and self.access.forget():
                renewed = True
                continue
            wait = min(refusal.retry_after or pause, _LONGEST_PAUSE)
            asked_to_wait = status == 429 or (status == 503 and method == "GET")
            if not asked_to_wait or time.monotonic() + wait > deadline:
                raise Refused(refusal)
            time.sleep(wait)
            pause *= 2

    def _once(
        self, method: str, target: str, body: bytes | None, content: str, accept: str
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Over a connection that was kept, if one still stands; a look once more over a fresh one when it broke."""
        headers = self._introduction(content if body is not None else "", accept)
        kept = self._standing()
        if kept is not None:
            try:
                return self._answer(kept, method, target, body, headers)
            except TimeoutError as error:
                raise self.unreachable(error) from error
            except (OSError, http.client.HTTPException) as error:
                if method != "GET":  # it may have been done all the same
                    raise self.unreachable(error) from error
        try:
            return self._answer(self._connection(), method, target, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self.unreachable(error) from error

    def _introduction(self, content: str, accept: str = "application/json") -> dict[str, str]:
        said = {"Accept": accept, "User-Agent": AGENT, **self.headers()}
        return {**said, "Content-Type": content} if content else said

    def _connection(self) -> http.client.HTTPConnection:
        """Connected, with the time of one call left."""
        deadline = time.monotonic() + self.timeout
        made, _ = connection_to(self.server, self.timeout, context=self.access.context)
        try:
            made.connect()
        except BaseException:
            made.close()
            raise
        made.sock = cast("socket.socket", PacedSocket(made.sock, deadline))
        return made

    def _connected(self) -> http.client.HTTPConnection:
        try:
            return self._connection()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self.unreachable(error) from error

    def _standing(self) -> http.client.HTTPConnection | None:
        """What a server has closed meanwhile shows as something to read."""
        with contextlib.suppress(IndexError):  # other threads take from it too
            while True:
                kept = self._idle.pop()
                paced = _paced(kept)
                if paced is not None and not select.select([paced], [], [], 0)[0]:
                    paced.deadline = time.monotonic() + self.timeout
                    return kept
                kept.close()
        return None

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[int, Mapping[str, str], bytes]:
        response: http.client.HTTPResponse | None = None
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            response = connection.getresponse()
            text = _bounded(response)
        except BaseException:
            _end(connection, response)
            raise
        if response.will_close or self._closed or len(self._idle) >= _KEPT:
            connection.close()
        else:
            self._idle.append(connection)
        return response.status, dict(response.headers), text

    # -- streams

    def stream(self, path: str, query: Mapping[str, str]) -> Stream:
        """Of lines. Raises as `request` does."""
        headers = self._introduction("", "*/*")
        connection = self._connected()
        paced = _paced(connection)
        assert paced is not None
        response: http.client.HTTPResponse | None = None
        try:
            connection.request("GET", _target(path, query), headers=headers)
            response = connection.getresponse()
            if response.status >= 300:
                text = _bounded(response)
                raise Refused(refusal_of(response.status, dict(response.headers), text))
        except (OSError, http.client.HTTPException) as error:
            _end(connection, response)
            raise self.unreachable(error) from error
        except BaseException:
            _end(connection, response)
            raise
        return Stream(self, connection, response, paced)

    def command(
        self, path: str, query: Sequence[tuple[str, str]], timeout: float
    ) -> tuple[bytes, bytes, Mapping[str, Any]]:
        """What a command in a container wrote to both streams, and the `Status` of its end. Raises Refused, Unavailable, and
        TimeoutError when it has not ended after `timeout` seconds."""
        parts: dict[int, list[bytes]] = {}
        for stream, content in self.messages(path, query, timeout, {}):
            parts.setdefault(stream, []).append(content)
        out, error_out, ended = (
            b"".join(parts.get(n, ())) for n in (websocket.STDOUT, websocket.STDERR, websocket.STATUS)
        )
        with contextlib.suppress(ValueError, RecursionError):
            status = json.loads(ended or b"{}")
            return out, error_out, status if isinstance(status, dict) else {}
        return out, error_out, {}

    def messages(
        self, path: str, query: Sequence[tuple[str, str]], timeout: float, sent: Mapping[int, bytes]
    ) -> Iterator[tuple[int, bytes]]:
        """(stream, content) of what the server says over a WebSocket after it was `sent` this, until it closes it. Raises as
        `command` does."""
        connection = self._connected()
        response: http.client.HTTPResponse | None = None
        try:
            response = websocket.upgraded(
                connection, f"{path}?{urlencode(query)}", self._introduction("", "*/*")
            )
            if response.status != 101:
                raise Refused(refusal_of(response.status, dict(response.headers), _bounded(response)))
            paced = _paced(connection)
            assert paced is not None
            paced.deadline = time.monotonic() + timeout
            for stream, content in sent.items():
                websocket.write(paced, stream, content)
            yield from websocket.frames(paced, response.fp)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException, websocket.Broken) as error:
            raise self.unreachable(error) from error
        finally:
            _end(connection, response)

    def nonsense(self, gave: str) -> Unavailable:
        return Unavailable(
            f"the server at {self.server} gave {gave}",
            hint="is that an API server? the kubeconfig's `server:` says where it is",
        )

    def unreachable(self, error: BaseException) -> BackendError:
        """What a failed connection means."""
        told = f"the API server at {self.server}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return Permanent(
                f"{told} shows a certificate that is not trusted: {error.verify_message}",
                hint="the cluster's `certificate-authority` in the kubeconfig has to be the one that signed it",
            )
        if isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in str(error).upper():
            return Permanent(
                f"{told} wants a client certificate", hint="check the user of the kubeconfig's context"
            )
        if isinstance(error, TimeoutError):
            hint = "it may be overloaded: try again, or raise `timeout:`"
            return Unavailable(f"{told} did not answer within {self.timeout:g}s", hint=hint)
        if isinstance(error, ConnectionRefusedError):
            return Unavailable(f"{told} refuses connections", hint="is it running? `kubectl cluster-info`")
        said = str(error) or type(error).__name__
        return Unavailable(f"{told} cannot be reached: {said}", hint="`reconciler doctor` looks into it")

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def __del__(self) -> None:
        """Plain callers of a backend need not close it."""
        with contextlib.suppress(Exception):  # half made, or at the end of the interpreter
            self.close()


class Stream:
    """Lines as they come. `close` may be called by another thread: it wakes whoever reads."""

    def __init__(
        self,
        client: Client,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        sock: PacedSocket,
    ) -> None:
        self._client = client
        self._connection = connection
        self._response = response
        self._sock = sock
        self._closing = threading.Lock()
        self._closed = False
        sock.quiet = _QUIET

    def __iter__(self) -> Iterator[bytes]:
        """Ends when the server ends it, or `close` was called; raises Unavailable when it breaks."""
        while True:
            try:
                line = self._response.readline(_LONGEST_LINE)
            except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
                if self._closed:
                    return
                raise self._client.unreachable(error) from error
            if not line or self._closed:
                return
            if len(line) >= _LONGEST_LINE:
                raise self._client.nonsense("a line without an end")
            yield line

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        # The reader may be inside: what it holds is closed once it has come back, or with it.
        with contextlib.suppress(OSError, ValueError):
            self._connection.close()

    def finish(self) -> None:
        """By the reader itself, when it reads no more."""
        self.close()
        with contextlib.suppress(OSError, ValueError):
            self._response.close()


def _end(connection: http.client.HTTPConnection, response: http.client.HTTPResponse | None) -> None:
    """Both: an answer that the server closes after is not the connection's any more, and holds the socket until it is read."""
    if response is not None:
        response.close()
    connection.close()


def _paced(connection: http.client.HTTPConnection) -> PacedSocket | None:
    """Its socket, as we made it."""
    sock: object = connection.sock
    return sock if isinstance(sock, PacedSocket) else None


def _target(path: str, query: Mapping[str, str]) -> str:
    return path + (f"?{urlencode(query)}" if query else "")


def _bounded(response: http.client.HTTPResponse) -> bytes:
    """All of it. Raises IncompleteRead when it was cut short."""
    parts: list[bytes] = []
    size = 0
    while piece := response.read(2**16):
        parts.append(piece)
        size += len(piece)
        if size > _LARGEST:
            raise http.client.HTTPException(f"an answer of more than {_LARGEST // 2**20} MiB")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(parts)


def refusal_of(status: int, headers: Mapping[str, str], text: bytes) -> Refusal:
    """A `Status` object, or whatever else came with that number."""
    after = str(headers.get("Retry-After") or headers.get("retry-after") or "")
    retry_after = float(after) if after.isascii() and after.isdigit() else None
    if 300 <= status < 400:
        return Refusal(
            status=status, message=f"it leads on to {headers.get('Location')}, which is not followed"
        )
    with contextlib.suppress(ValueError, AttributeError, TypeError, RecursionError):
        found = json.loads(text)
        details = found.get("details") or {}
        return Refusal(
            status=status,
            reason=str(found.get("reason") or ""),
            message=str(found.get("message") or ""),
            kind=str(details.get("kind") or ""),
            about=str(details.get("name") or ""),
            retry_after=retry_after or details.get("retryAfterSeconds"),
        )
    return Refusal(status=status, message=text[:200].decode(errors="replace"), retry_after=retry_after)
