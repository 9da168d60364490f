"""The server's side of a WebSocket (RFC 6455), for what is streamed both ways."""

from __future__ import annotations

import base64
import hashlib
import socket
import struct
import threading

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def accept_key(key: str) -> str:
    """The answer to a client's Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode(), usedforsecurity=False).digest()).decode()


class WebSocket:
    """Frames over a connection whose handshake is done. Writing is for several threads, reading for one."""

    def __init__(self, connection: socket.socket, reader: object) -> None:
        self._connection = connection
        self._reader = reader
        self._lock = threading.Lock()

    def _exactly(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            data = self._reader.read(count - len(out))  # type: ignore[attr-defined]
            if not data:
                raise ConnectionError("the client hung up")
            out += data
        return out

    def receive(self) -> bytes | None:
        """One whole message; None once the client has closed. Pings are answered on the way."""
        whole = b""
        while True:
            first, second = self._exactly(2)
            length = second & 0x7F
            if length == 126:
                [length] = struct.unpack(">H", self._exactly(2))
            elif length == 127:
                [length] = struct.unpack(">Q", self._exactly(8))
            if not second & 0x80:
                raise ConnectionError("a client's frame must be masked")
            mask = self._exactly(4)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self._exactly(length)))
            kind = first & 0x0F
            if kind == CLOSE:
                return None
            if kind == PING:
                self.send(data, PONG)
                continue
            if kind == PONG:
                continue
            whole += data
            if first & 0x80:
                return whole

    def send(self, data: bytes, kind: int = BINARY) -> None:
        head = bytes([0x80 | kind])
        if len(data) < 126:
            head += bytes([len(data)])
        elif len(data) < 65536:
            head += bytes([126]) + struct.pack(">H", len(data))
        else:
            head += bytes([127]) + struct.pack(">Q", len(data))
        with self._lock:
            self._connection.sendall(head + data)

    def close(self, code: int = 1000) -> None:
        self.send(struct.pack(">H", code), CLOSE)
