"""A command in a container over a WebSocket, as the API server speaks it (`v4.channel.k8s.io` and newer): the first byte of each
message says which stream it belongs to. RFC 6455, as far as a client of that needs it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.kubeapi.paced import PacedSocket

_MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of the RFC
_PROTOCOLS = "v5.channel.k8s.io, v4.channel.k8s.io"
_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_LARGEST = 64 * 2**20  # bytes of one message
STDOUT, STDERR, STATUS = 1, 2, 3
FORWARDED, FORWARD_FAILED = 0, 1  # of the first port
_SENT_AT_ONCE = 124  # bytes of one message of ours: its length needs no more than a byte


class Broken(Exception):
    """What came is no WebSocket, or it broke off."""


def upgraded(
    connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    """The answer: with status 101 it is a WebSocket from here on, read from its `fp`. Raises Broken, and what a connection
    raises."""
    key = base64.b64encode(os.urandom(16)).decode()
    asked = {
        **headers,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Protocol": _PROTOCOLS,
    }
    connection.request("GET", target, headers=asked)
    response = connection.getresponse()
    proof = base64.b64encode(hashlib.sha1(f"{key}{_MAGIC}".encode()).digest()).decode()  # noqa: S324 - the RFC's
    if response.status == 101 and response.headers.get("Sec-WebSocket-Accept") != proof:
        response.close()
        raise Broken("the server did not take up the WebSocket")
    return response


def write(sock: PacedSocket, stream: int, content: bytes) -> None:
    """To one stream of an upgraded connection."""
    for at in range(0, len(content), _SENT_AT_ONCE):
        _send(sock, _BINARY, bytes([stream]) + content[at : at + _SENT_AT_ONCE])


def frames(sock: PacedSocket, reader: Any) -> Iterator[tuple[int, bytes]]:
    """(stream, content) of each message of an upgraded connection, until the server closes it. Raises TimeoutError when the
    socket's time is over, Broken when it breaks off."""
    message = b""
    while True:
        last, kind, content = _frame(reader)
        if kind == _PING:
            _send(sock, _PONG, content)
        elif kind == _CLOSE:
            with contextlib.suppress(OSError):
                _send(sock, _CLOSE, content[:2])
            return
        elif kind in (_CONTINUED, _TEXT, _BINARY):
            message += content
            if len(message) > _LARGEST:
                raise Broken("a message without an end")
            if last and message:
                yield message[0], message[1:]
            if last:
                message = b""


def _frame(reader: Any) -> tuple[bool, int, bytes]:
    first, second = _read(reader, 2)
    length = second & 0x7F
    if length >= 126:
        length = int.from_bytes(_read(reader, 2 if length == 126 else 8), "big")
    if length > _LARGEST:
        raise Broken("a message without an end")
    mask = _read(reader, 4) if second & 0x80 else b""
    content = _read(reader, length)
    if mask:
        content = bytes(byte ^ mask[at % 4] for at, byte in enumerate(content))
    return bool(first & 0x80), first & 0x0F, content


def _read(reader: Any, count: int) -> bytes:
    found: bytes = reader.read(count)
    if len(found) < count:
        raise Broken("the stream broke off")
    return found


def _send(sock: PacedSocket, kind: int, content: bytes) -> None:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(content[:125]))
    sock.sendall(bytes([0x80 | kind, 0x80 | len(masked)]) + mask + masked)
