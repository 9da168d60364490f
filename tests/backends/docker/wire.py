"""A wire to a real engine that can be cut, clogged, or made to lie: for one kind of request at a time.

Byte for byte the engine's own answers otherwise. Listens on a Unix socket or on TCP of loopback.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Fault:
    """What happens to requests whose first line (`POST /v1.41/containers/create?name=… HTTP/1.1`) matches. The first
    `times` of them; without end when None.

    `lose`: the engine gets it and acts, its answer is lost. `swallow`: the engine never gets it, and nothing comes
    back. `answer`: these bytes come back instead of the engine's. `first`: called before anything else.
    """

    pattern: str
    lose: bool = False
    swallow: bool = False
    answer: bytes | None = None
    first: Callable[[], object] | None = None
    times: int | None = None
    met: int = field(default=0, init=False)

    def takes(self, line: str) -> bool:
        if not re.search(self.pattern, line) or (self.times is not None and self.met >= self.times):
            return False
        self.met += 1
        return True


class Wire:
    """`url` is the engine's address for a client; `seen` are the first lines of the requests so far."""

    def __init__(self, engine: str, path: Path | None = None) -> None:
        self._engine = engine.removeprefix("unix://")
        self._faults: list[Fault] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.seen: list[str] = []
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen(64)
            self.url = f"unix://{path}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def fault(self, pattern: str, **how: object) -> Iterator[Fault]:
        made = Fault(pattern, **how)  # type: ignore[arg-type]
        self._faults.append(made)
        try:
            yield made
        finally:
            self._faults.remove(made)

    def count(self, pattern: str) -> int:
        """How many requests so far match."""
        return sum(bool(re.search(pattern, line)) for line in list(self.seen))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX)
        with self._lock:
            self._open |= {client, engine}
        try:
            with client, engine, client.makefile("rb") as requests:
                engine.connect(self._engine)
                lost = threading.Event()
                back = threading.Thread(target=_back, args=(engine, client, lost), daemon=True)
                back.start()
                while head := _head(requests):
                    self._one(head, requests, client, engine, lost)
                _shut(engine, socket.SHUT_WR)
                back.join()
        except (OSError, ValueError):
            pass  # one of the two hung up; the other learns it now
        finally:
            with self._lock:
                self._open -= {client, engine}

    def _one(
        self,
        head: bytes,
        requests: object,
        client: socket.socket,
        engine: socket.socket,
        lost: threading.Event,
    ) -> None:
        line = head.partition(b"\r\n")[0].decode("latin-1")
        self.seen.append(line)
        fault = next((fault for fault in list(self._faults) if fault.takes(line)), None)
        length = _LENGTH.search(head)
        body = requests.read(int(length[1])) if length else b""  # type: ignore[attr-defined]
        if fault is not None and fault.first is not None:
            fault.first()
        if fault is not None and fault.swallow:
            return
        if fault is not None and fault.answer is not None:
            client.sendall(fault.answer)
            _shut(client, socket.SHUT_RDWR)
            return
        if fault is not None and fault.lose:
            lost.set()
        engine.sendall(head + body)
        if b"\r\nupgrade:" in head.lower():  # no HTTP any more: an exec
            while data := requests.read1(65536):  # type: ignore[attr-defined]
                engine.sendall(data)


def _head(requests: object) -> bytes:
    lines = []
    while line := requests.readline():  # type: ignore[attr-defined]
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""


def _back(engine: socket.socket, client: socket.socket, lost: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while data := engine.recv(65536):
            if lost.is_set():
                break
            client.sendall(data)
    _shut(client, socket.SHUT_RDWR)


def _shut(one: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(how)


def answer(status: int, body: str, *, length: int | None = None) -> bytes:
    """An answer of an engine; `length` is what it claims to be long, where that is not so."""
    text = body.encode()
    return (
        f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text) if length is None else length}\r\nConnection: close\r\n\r\n"
    ).encode() + text


def within(seconds: float, began: float) -> bool:
    """Whether no more than `seconds` have gone by since `began`, a monotonic time."""
    return time.monotonic() - began <= seconds
