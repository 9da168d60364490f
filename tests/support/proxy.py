"""A proxy before a container engine's socket: it passes every byte on, and counts the requests it sees go by.

It reads HTTP/1.1 as far as needed to know where one request ends and the next begins, and changes nothing. For the
number of calls a run costs; and for an engine that is slow, or gone.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from urllib.parse import urlsplit

_VERSION = re.compile(r"^/v\d+\.\d+")
_IDENTITY = re.compile(
    r"/(containers|exec|images|networks|volumes)/(?!create$|json$|prune$|load$|search$)([^/]+)"
)


class Proxy:
    """`url` is what to give as DOCKER_HOST. `requests` are `METHOD path` in order, without API version and query.

    `delay` are seconds before each request reaches the engine. `refuse` closes connections at once, open ones too.
    """

    def __init__(self, path: Path, engine: str) -> None:
        self.url = f"unix://{path}"
        self.requests: list[str] = []
        self.delay = 0.0
        self._engine = engine.removeprefix("unix://")
        self._refuse = False
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(256)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def calls(self) -> Counter[str]:
        """How often each `METHOD path` was asked, with `{id}` for what names one object."""
        with self._lock:
            return Counter(_IDENTITY.sub(r"/\1/{id}", request) for request in self.requests)

    def reset(self) -> None:
        with self._lock:
            self.requests.clear()

    @property
    def refuse(self) -> bool:
        return self._refuse

    @refuse.setter
    def refuse(self, value: bool) -> None:
        self._refuse = value
        if value:
            self._hang_up()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()

    def _hang_up(self) -> None:
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
            if self._refuse:
                return
            with self._lock:
                self._open |= {client, engine}
            try:
                engine.connect(self._engine)
                back = threading.Thread(target=_copy, args=(engine, client), daemon=True)
                back.start()
                self._forward(client, engine)
                back.join()
            except OSError:
                pass  # one of the two hung up; the other learns it now
            finally:
                with self._lock:
                    self._open -= {client, engine}

    def _forward(self, client: socket.socket, engine: socket.socket) -> None:
        with client.makefile("rb") as requests:
            while head := _read_head(requests):
                method, target, *_ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
                with self._lock:
                    self.requests.append(f"{method} {_VERSION.sub('', urlsplit(target).path)}")
                if self.delay:
                    time.sleep(self.delay)
                engine.sendall(head)
                fields = head.decode("latin-1").lower()
                if "\r\nupgrade:" in fields:  # from here on it is no HTTP any more: an exec or an attach
                    while data := requests.read1(65536):
                        engine.sendall(data)
                elif "\r\ntransfer-encoding: chunked" in fields:
                    _forward_chunks(requests, engine)
                elif length := re.search(r"\r\ncontent-length: *(\d+)", fields):
                    _forward_bytes(requests, engine, int(length[1]))
        with contextlib.suppress(OSError):
            engine.shutdown(socket.SHUT_WR)


def _read_head(requests: BufferedReader) -> bytes:
    lines = []
    while line := requests.readline():
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def _forward_bytes(requests: BufferedReader, engine: socket.socket, length: int) -> None:
    while length and (data := requests.read1(min(length, 65536))):
        engine.sendall(data)
        length -= len(data)


def _forward_chunks(requests: BufferedReader, engine: socket.socket) -> None:
    while line := requests.readline():
        engine.sendall(line)
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            while line := requests.readline():  # trailers, and the empty line that ends them
                engine.sendall(line)
                if line == b"\r\n":
                    return
            return
        _forward_bytes(requests, engine, size + 2)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def proxy(folder: Path, engine: str) -> Iterator[Proxy]:
    """Before the engine at `engine` (unix://...), listening in `folder`, whose path has to be short."""
    made = Proxy(folder / "engine.sock", engine)
    try:
        yield made
    finally:
        made.close()
