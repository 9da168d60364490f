"""Requests to a provisioner: bounded in time and size, never redirected, tried again where that can do no harm.

The key goes to the configured host alone, and into no message. Whatever comes back that is no answer of a provisioner
becomes one of our errors, which says what it was instead.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

from reconciler.errors import BackendError, Permanent, Transient, Unavailable
from reconciler.model.desired import Secret
from reconciler.transport.connection import target_of
from reconciler.transport.pool import Connections

MOST = 16 * 1024 * 1024  # bytes of an answer: a listing of tens of thousands
_PIECE = 64 * 1024
_SAID = 200  # characters that are quoted of an answer
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_TRIES = 3
_FIRST_PAUSE = 0.2  # seconds, then twice that
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)
_BROKEN = (
    http.client.RemoteDisconnected,
    http.client.CannotSendRequest,
    http.client.ResponseNotReady,
    ConnectionResetError,
    ConnectionAbortedError,
    BrokenPipeError,
)


class Reply(Struct, frozen=True, kw_only=True):
    """`status` 404 has `data` None; otherwise `data` is what the JSON says."""

    status: int
    data: Any


class _Raw(Struct, frozen=True, kw_only=True):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_page(self) -> bool:
        return "html" in self.headers.get("content-type", "").lower() or self.body[
            :200
        ].lstrip().lower().startswith((b"<!doctype html", b"<html"))


class Wire(Struct, frozen=True, kw_only=True):
    """`base` is the provisioner's URL without a slash at its end; `most` are the bytes of an answer that are read."""

    base: str
    connections: Connections
    api_key: Secret | None = None
    most: int = MOST
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def ask(
        self, method: str, path: str, *, timeout: float, body: object = None, absent: bool = False
    ) -> Reply:
        """The answer to one request that may be carried out twice; `timeout` in seconds bounds each try, and how late
        another one begins. `absent` takes 404 for an answer. Raises from the BackendError tree."""
        began, pause = self.monotonic(), _FIRST_PAUSE
        for left in range(_TRIES - 1, -1, -1):
            try:
                return self._understood(method, path, self._answer(method, path, timeout, body), absent)
            except Transient as error:
                wait = pause if error.retry_after is None else error.retry_after
                if not left or self.monotonic() - began + wait >= timeout:
                    raise
            self.sleep(wait)
            pause *= 2
        raise AssertionError("the last try returns or raises")

    def _answer(self, method: str, path: str, timeout: float, body: object) -> _Raw:
        where = f"{self.base}{path}"
        try:
            return self._once(method, where, timeout, body)
        except TimeoutError:
            raise Unavailable(
                f"{where} did not answer within {timeout:g} s", hint="look whether the provisioner is up"
            ) from None
        except ssl.SSLError as error:
            raise self._tls(error) from None
        except ConnectionRefusedError:
            raise Unavailable(
                f"nobody listens at {self.base}", hint="start the provisioner, or check `url`"
            ) from None
        except socket.gaierror as error:
            raise Unavailable(
                f"the host of {self.base} has no address: {error.strerror}", hint="check `url`"
            ) from None
        except _BROKEN as error:
            raise Unavailable(
                f"{where} broke the connection off ({type(error).__name__})",
                hint="look whether the provisioner is up, and whether it speaks TLS: http or https?",
            ) from None
        except http.client.IncompleteRead:
            raise Unavailable(f"the answer of {where} was cut short", hint="try again") from None
        except http.client.HTTPException as error:
            raise Permanent(
                f"{self.base} answers with something that is no HTTP ({type(error).__name__})",
                hint="check the port, and whether it speaks TLS: http or https?",
            ) from None
        except OSError as error:
            raise Unavailable(
                f"{self.base} cannot be reached: {error.strerror or error}",
                hint="check `url`, the network and the proxy variables",
            ) from None

    def _once(self, method: str, url: str, timeout: float, body: object) -> _Raw:
        """A kept connection that the server has closed meanwhile costs a second, fresh one."""
        deadline = self.monotonic() + timeout
        connection, used = self.connections.take(timeout)
        try:
            return self._exchange(connection, method, url, body)
        except _BROKEN:
            connection.close()
            if not used:
                raise
        except BaseException:
            connection.close()
            raise
        connection, _ = self.connections.take(max(0.01, deadline - self.monotonic()), fresh=True)
        try:
            return self._exchange(connection, method, url, body)
        except BaseException:
            connection.close()
            raise

    def _exchange(self, connection: http.client.HTTPConnection, method: str, url: str, body: object) -> _Raw:
        headers = {"Accept": "application/json"}
        if self.api_key is not None:
            headers["X-API-Key"] = self.api_key.reveal()
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, target_of(url), body=data, headers=headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        raw = _Raw(status=response.status, headers=found, body=self._body(response, found))
        response.close()
        self.connections.give_back(connection)
        return raw

    def _body(self, response: http.client.HTTPResponse, headers: Mapping[str, str]) -> bytes:
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise Permanent(
                f"{self.base} sends its answer packed as {encoding[:20]}, which was not asked for",
                hint="turn that off at the proxy in between",
            )
        pieces: list[bytes] = []
        size, announced = 0, response.length
        while (announced or 0) <= self.most and size <= self.most and (piece := response.read(_PIECE)):
            size += len(piece)
            pieces.append(piece)
        if (announced or 0) > self.most or size > self.most:
            raise Permanent(
                f"{self.base} answers with more than {self.most // 1024 // 1024} MiB, which is no provisioner's answer",
                hint="check what is at `url`",
            )
        if announced is not None and size < announced:
            raise http.client.IncompleteRead(b"", announced - size)
        return b"".join(pieces)

    def _tls(self, error: ssl.SSLError) -> BackendError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return Permanent(
                f"the certificate of {self.base} is not trusted: {error.verify_message}",
                hint="name the certificate of your own authority: `tls: {ca_cert: PATH}`",
            )
        why = (error.reason or "handshake failed").replace("_", " ").lower()
        hint = "check that it speaks TLS at that port"
        if "certificate required" in why or "alert" in why:
            hint = "it may want a client's certificate: `tls: {client_cert: PATH, client_key: PATH}`"
        return Permanent(f"TLS with {self.base} failed: {why}", hint=hint)

    # -- what an answer means

    def _understood(self, method: str, path: str, raw: _Raw, absent: bool) -> Reply:
        where = f"{method} {self.base}{path}"
        status = raw.status
        if 300 <= status < 400:
            raise Permanent(
                f"{where} sends us elsewhere ({status}, to {_host(raw, self.base)}), where our key must not go",
                hint="write the final address as `url`",
            )
        if status in (401, 403):
            raise Permanent(
                f"{self.base} refuses us ({status}): "
                + ("it wants a key" if self.api_key is None else "the key is not the one it knows"),
                hint="set `api_key: {env: NAME}` on the backend"
                if self.api_key is None
                else "check where `api_key` comes from; a provisioner without a key of its own refuses every one",
            )
        if status in _PASSING:
            raise Transient(
                f"{where} failed with {status}{self._said(raw)}",
                retry_after=_retry_after(raw.headers.get("retry-after", "")),
                hint="look into the provisioner's log",
            )
        if raw.is_page:
            raise Permanent(
                f"{where} answers with a web page ({status}), which is not from a provisioner",
                hint="check `url`: a proxy or a log-in page answers in its place",
            )
        if status == 404 and absent:
            return Reply(status=404, data=None)
        if not 200 <= status < 300:
            hint = "check `url`: it is the provisioner's root, without /api" if status == 404 else ""
            raise Permanent(f"{where} failed with {status}{self._said(raw)}", hint=hint)
        try:
            return Reply(status=status, data=json.loads(raw.body))
        except (ValueError, RecursionError):
            raise Permanent(
                f"{where} answers with something that is no JSON", hint="check what is at `url`"
            ) from None

    def _said(self, raw: _Raw) -> str:
        """What the provisioner says for people, on one line, short and without our key."""
        try:
            detail = json.loads(raw.body)["detail"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return ""
        text = " ".join((detail if isinstance(detail, str) else json.dumps(detail)).split())
        text = "".join(c for c in text if c.isprintable())
        if self.api_key is not None:
            text = text.replace(self.api_key.reveal(), "•••")
        return f": {text[:_SAID]}{'…' if len(text) > _SAID else ''}" if text else ""


def _host(raw: _Raw, base: str) -> str:
    """Where a redirect points, without what may be a credential."""
    try:
        parts = urlsplit(urljoin(base, raw.headers.get("location", "")))
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"[:_SAID]
    except ValueError:
        return "an address that is none"
    return "".join(c for c in place if c.isprintable())


def _retry_after(text: str) -> float | None:
    return float(text.strip()) if _SECONDS.fullmatch(text.strip()) else None
