"""An answer of the engine that goes on: JSON, one object a line, on a connection where a wait has no end.

Over the same way as every other question; its head has to come within the engine's `timeout`. Must never keep a thread that was told to end.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from reconciler.backends.docker.engine import Engine, Json, SocketConnection, message_of
from reconciler.backends.docker.failures import failure
from reconciler.backends.docker.images import lines
from reconciler.errors import Unavailable

_PIECE = 64 * 1024
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))  # seconds, seconds, times


class Stream:
    """One GET. Opened, read and closed by one thread; `cut` may be called by any other, at any moment."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._socket: Any = None
        self._is_cut = False
        self._pieces: Iterable[bytes] = ()
        self._opened = contextlib.ExitStack()

    def open(self, path: str, query: Mapping[str, object]) -> None:
        """Returns when the engine has begun to answer. Raises what every question raises, with nothing left open."""
        target = f"{path}?{urlencode({key: str(value) for key, value in query.items()})}"
        with self._engine.translated(), contextlib.ExitStack() as opened:
            way = self._directly if self._engine.socket_path is not None else self._by_sdk
            self._pieces = way(target, opened.callback)
            self._opened = opened.pop_all()

    def _directly(self, target: str, afterwards: Callable[..., object]) -> Iterator[bytes]:
        connection = SocketConnection(self._engine.socket_path or "", self._engine.timeout)
        afterwards(connection.close)
        connection.connect()
        self._hold(connection.sock)
        connection.request("GET", target, headers={"Host": "docker"})
        response = connection.getresponse()
        afterwards(response.close)
        if response.status != 200:
            raise failure(response.status, message_of(response.read()), self._engine.name)
        self._wait_without_end()
        return iter(lambda: response.read1(_PIECE), b"")

    def _by_sdk(self, target: str, afterwards: Callable[..., object]) -> Iterator[bytes]:
        client = self._engine.sdk()
        response = client._get(f"{client.base_url}{target}", stream=True)
        afterwards(response.close)
        client._raise_for_status(response)
        self._hold(_socket_of(response))
        self._wait_without_end()
        pieces: Iterator[bytes] = response.iter_content(_PIECE)
        return pieces

    def _hold(self, held: Any) -> None:
        """From now on a cut reaches it."""
        with self._lock:
            self._socket = held
            if self._is_cut:
                raise Unavailable("nobody waits for the answer any more")

    def _wait_without_end(self) -> None:
        """Whether the other machine is still there the kernel finds out."""
        self._socket.settimeout(None)
        if isinstance(self._socket, socket.socket) and self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE:
                if hasattr(socket, name):
                    self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def objects(self) -> Iterator[Json]:
        """As they come, until the engine ends it, or a cut does. Raises Unavailable when it breaks, or is no JSON."""
        with self._engine.translated():
            for line in lines(self._pieces):
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise self._engine.nonsense("an event that is no JSON") from error
                if isinstance(found, dict):
                    yield found

    def cut(self) -> None:
        """Wakes whoever waits for it."""
        with self._lock:
            self._is_cut = True
            if isinstance(self._socket, socket.socket):
                with contextlib.suppress(OSError):  # it is gone already
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # also below TLS, which would wait
            elif self._socket is not None:
                self._socket.close()  # a channel of SSH

    def close(self) -> None:
        """Give everything back."""
        with self._lock:
            self._socket = None
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._opened.close()


def _socket_of(response: Any) -> Any:
    """Below the SDK's answer, where the SDK looks for it too."""
    reader = response.raw._fp.fp
    channel = getattr(reader, "channel", None)
    return channel if channel is not None else reader.raw._sock
