"""One request after another: bounded in time and size, never redirected, tried again where that can do no harm.

A body of the other side is never quoted: a page that refuses us may hold what we sent. Must never follow a redirect,
which would carry the credentials, or turn a write into a read, wherever the other side likes.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import re
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from msgspec import Struct, field

from reconciler.errors import StoreError
from reconciler.stores.http.addresses import shown
from reconciler.stores.http.credentials import Credentials
from reconciler.transport.connection import connect_within, connection_to

MOST = 64 * 1024 * 1024  # bytes of an answer
_PIECE = 64 * 1024
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_SECONDS = re.compile(r"[0-9]{1,6}", re.ASCII)


class Pace(Struct, frozen=True, kw_only=True):
    """Seconds, and where they come from: `now` since the epoch, `monotonic` for waiting. What fails in passing is tried
    `tries` times, `first` apart, then twice that; a waiting run asks for the lock every `poll`."""

    tries: int = 3
    first: float = 1.0
    poll: float = 1.0
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Answer(Struct, frozen=True, kw_only=True):
    """`headers` by their names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def passing(self) -> bool:
        """Whether the same request may be answered otherwise in a moment."""
        return self.status in _PASSING

    @property
    def page(self) -> bool:
        """Whether it is something for a browser, such as the log-in page of a proxy in between."""
        return "html" in self.headers.get("content-type", "").lower()

    def retry_after(self, now: float) -> float | None:
        """Seconds that we are asked to wait; None when we are not. `now` in seconds since the epoch."""
        text = self.headers.get("retry-after", "").strip()
        if _SECONDS.fullmatch(text):
            return float(text)
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            at = parsedate_to_datetime(text)
            return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
        return None


class NoAnswer(StoreError):
    """Nothing that can be used came back; nobody knows whether the request was carried out."""


class Wire(Struct, frozen=True, kw_only=True):
    """`timeout` in seconds bounds one request; it also bounds how long after the first try another may begin. `most` are
    the bytes of an answer that are read."""

    credentials: Credentials
    timeout: float
    ca_cert: str | None = None
    most: int = MOST
    pace: Pace = field(default_factory=Pace)

    def ask(self, method: str, url: str, body: bytes | None = None, *, tries: int | None = None) -> Answer:
        """The answer, whatever its status. What fails in passing is asked again, so only for requests that may be
        carried out twice; `tries=1` asks once. Raises NoAnswer, and StoreError for what another try cannot mend."""
        gives_up = self.pace.monotonic() + self.timeout
        left = self.pace.tries if tries is None else tries
        wait = self.pace.first
        while True:
            left -= 1
            answer, missing = self._attempt(method, url, body)
            if answer is not None and not answer.passing:
                return answer
            asked = None if answer is None else answer.retry_after(self.pace.now())
            pause = wait if asked is None else asked
            if left <= 0 or self.pace.monotonic() + pause >= gives_up:
                if answer is not None:
                    return answer
                assert missing is not None
                raise missing
            self.pace.sleep(pause)
            wait *= 2

    def _attempt(self, method: str, url: str, body: bytes | None) -> tuple[Answer | None, NoAnswer | None]:
        where = shown(url)
        try:
            return self._once(method, url, body), None
        except TimeoutError:
            said = f"{where} did not answer within {self.timeout:g} s"
        except ssl.SSLCertVerificationError as error:
            raise StoreError(
                f"the certificate of {where} is not trusted: {error.verify_message}",
                hint="name the certificate of your own authority as `ca_cert`",
            ) from None
        except ConnectionRefusedError:
            said = f"nobody listens at {where}"
        except http.client.HTTPException as error:
            said = f"{where} answers with something that is no HTTP, or breaks off ({type(error).__name__})"
        except OSError as error:
            said = f"{where} cannot be reached: {error.strerror or error}"
        return None, NoAnswer(said, hint="look whether the server runs and the network lets you through")

    def _once(self, method: str, url: str, body: bytes | None) -> Answer:
        connection, target = connection_to(url, self.timeout, context=self._trust(url))
        try:
            connect_within(connection, self.timeout)
            connection.request(method, target, body=body, headers=self._headers(body))
            with connection.getresponse() as response:
                headers = {name.lower(): value for name, value in response.getheaders()}
                body = _body(response, headers, shown(url), self.most)
            return Answer(status=response.status, headers=headers, body=body)
        finally:
            connection.close()

    def _headers(self, body: bytes | None) -> dict[str, str]:
        headers = {"Accept": "*/*", "Cache-Control": "no-cache", "Connection": "close"}
        if self.credentials.header is not None:
            headers["Authorization"] = self.credentials.header.reveal()
        if body is not None:
            headers["Content-Type"] = "application/json"
            headers["Content-MD5"] = _md5(body)
        return headers

    def _trust(self, url: str) -> ssl.SSLContext | None:
        if not url.startswith("https:") or self.ca_cert is None:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_cert)
        except (OSError, ssl.SSLError):
            raise StoreError(
                f"`ca_cert` {self.ca_cert} is no file of certificates that can be read",
                hint="it holds certificates as PEM text",
            ) from None


def _body(response: http.client.HTTPResponse, headers: Mapping[str, str], where: str, most: int) -> bytes:
    """All of it. Raises StoreError for more than `most` bytes and for a body that is not what was announced."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise StoreError(
            f"{where} sends its answer packed as {encoding[:20]}, which was not asked for",
            hint="turn that off at the server, or at the proxy in between",
        )
    pieces: list[bytes] = []
    size = 0
    announced = response.length
    if (announced or 0) > most:
        raise _huge(where, most)
    while piece := response.read(_PIECE):
        size += len(piece)
        if size > most:
            raise _huge(where, most)
        pieces.append(piece)
    if announced is not None and size < announced:
        raise http.client.IncompleteRead(b"", announced - size)
    body = b"".join(pieces)
    if not _is_whole(body, headers.get("content-md5", "")):
        raise http.client.IncompleteRead(b"")
    return body


def _huge(where: str, most: int) -> StoreError:
    return StoreError(
        f"{where} answers with more than {most // 1024 // 1024} MiB, which is no state",
        hint="look what is at that address",
    )


def _is_whole(body: bytes, promised: str) -> bool:
    """Whether it has the checksum that stands beside it; one that is not written as Terraform does says nothing."""
    try:
        digest = base64.b64decode(promised, validate=True)
    except ValueError:
        return True
    return len(digest) != 16 or digest == hashlib.md5(body, usedforsecurity=False).digest()


def _md5(body: bytes) -> str:
    """As Terraform sends it; against accidents on the way, not against people."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
