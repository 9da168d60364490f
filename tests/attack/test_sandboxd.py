"""The server inside a sandbox, attacked by whoever reaches its port, with and without a key."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.sandboxd import wire
from reconciler.sandboxd.wire import Connection, Refusal

SCRIPT = Path(wire.__file__).with_name("__main__.py")
KEY = "k3y-that-must-stay-here"
AUTH = f"X-AIO-API-Key: {KEY}\r\n".encode()


@dataclass
class Running:
    port: int
    home: Path
    log: Path

    def raw(self, data: bytes) -> bytes:
        """Everything that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := sock.recv(65536):
                answer += chunk
            return answer

    def works(self) -> bool:
        return self.raw(b"GET /v1/sandbox HTTP/1.1\r\n" + AUTH + b"\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    here = tmp_path_factory.mktemp("sandboxd")
    (here / "key").write_text(KEY)
    (here / "home").mkdir()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening, (here / "log").open("wb") as log:
        words = ["--home", str(here / "home"), "--listen-fd", str(listening.fileno()), "--key-file", str(here / "key")]  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SCRIPT), *words],
            pass_fds=(listening.fileno(),),
            stderr=log,
            env={"PATH": os.environ["PATH"]},
        )
        port = listening.getsockname()[1]
    yield Running(port, here / "home", here / "log")
    process.terminate()
    process.wait(10)


REFUSED = {
    "a length of five thousand digits": b"Content-Length: " + b"9" * 5000 + b"\r\n",
    "a length with a sign": b"Content-Length: +1\r\n",
    "a length with a space in it": b"Content-Length: 1 1\r\n",
    "a length in other digits": "Content-Length: ١\r\n".encode(),
    "two lengths that are the same": b"Content-Length: 1\r\nContent-Length: 1\r\n",
    "a length and chunks": b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    "chunks by another name": b"Transfer-Encoding: xchunked\r\n",
    "a folded header": b"X-A: b\r\n c\r\n",
    "a line feed alone": b"X-A: b\nContent-Length: 100\r\n",
    "a carriage return alone": b"X-A: b\rContent-Length: 100\r\n",
    "a NUL": b"X-A: b\0c\r\n",
    "a space before the colon": b"Content-Length : 1\r\n",
    "two keys": AUTH,
}


@pytest.mark.parametrize("header", REFUSED.values(), ids=REFUSED.keys())
def test_a_request_that_two_readers_could_read_differently_is_refused_and_nothing_behind_it_is_served(
    server: Running, header: bytes
) -> None:
    behind = b"GET /v1/sandbox HTTP/1.1\r\n" + AUTH + b"\r\n"
    answer = server.raw(b"POST /v1/shell/sessions/create HTTP/1.1\r\n" + AUTH + header + b"\r\n" + behind)
    assert answer[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 411 "), answer[:200]
    assert answer.count(b"HTTP/1.1 ") == 1
    assert server.works()


def test_a_request_cannot_write_lines_of_its_own_into_the_log(server: Running) -> None:
    server.raw(b"GET /a\nforged\x1b[2J HTTP/1.1\r\n" + AUTH + b"\r\n")
    server.raw(b"GET /%0Aforged HTTP/1.1\r\n" + AUTH + b"\r\n")
    lines = server.log.read_bytes().splitlines()
    assert not [line for line in lines if line.startswith(b"forged") or b"\x1b" in line]


def test_without_a_key_the_body_is_not_waited_for(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(
            b"POST /v1/file/write HTTP/1.1\r\nContent-Length: 30000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert sock.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_no_key_is_ever_in_the_log(server: Running) -> None:
    server.raw(f"GET /v1/sandbox?api_key={KEY} HTTP/1.1\r\n\r\n".encode())
    server.raw(f"GET /v1/nowhere?api_key={KEY} HTTP/1.1\r\n\r\n".encode())
    server.raw(b"GET /v1/nowhere HTTP/1.1\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n\r\n")
    server.raw(b"GET /v1/nowhere HTTP/1.1\r\nX-AIO-API-Key: wrong-" + KEY.encode() + b"\r\n\r\n")
    logged = server.log.read_text()
    assert "/v1/nowhere" in logged
    assert KEY not in logged


def test_a_name_of_a_file_cannot_write_headers(server: Running) -> None:
    (server.home / "a\r\nX-Evil: 1").write_text("x")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/v1/file/download?path=a%0D%0AX-Evil:%201", headers={"X-AIO-API-Key": KEY})
    response = connection.getresponse()
    assert response.status == 200
    assert response.getheader("X-Evil") is None
    connection.close()


BODIES = {
    "brackets a hundred thousand deep": b"[" * 100_000,
    "a number of ten thousand digits": b'{"timeout": ' + b"9" * 10_000 + b"}",
    "a list": b"[]",
    "not a number": b'{"command": "true", "timeout": NaN}',
    "a timeout without end": b'{"command": "true", "timeout": 1e400}',
    "a NUL in a path": b'{"file": "a\\u0000b"}',
    "a lone surrogate in a path": b'{"file": "\\ud800"}',
    "a path without end": b'{"file": "' + b"a/" * 100_000 + b'"}',
    "a device without end": b'{"file": "/dev/zero"}',
    "bytes that are no text": b"\xff\xfe\x00",
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("path", ["/v1/file/read", "/v1/bash/exec", "/v1/file/list"])
def test_a_body_that_makes_no_sense_is_the_clients_mistake(server: Running, path: str, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", path, body, {"X-AIO-API-Key": KEY})
    status = connection.getresponse().status
    connection.close()
    assert 400 <= status < 500
    assert "Traceback" not in server.log.read_text()


def test_many_silent_clients_keep_nobody_out(server: Running) -> None:
    silent = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(100)]
    try:
        assert server.works()
    finally:
        for sock in silent:
            sock.close()


def test_a_head_that_comes_a_byte_at_a_time_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEAD_SECONDS", 0.2)
    client, end = socket.socketpair()
    with client, end:
        client.sendall(b"GET / HTTP/1.1\r\n")
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            Connection(end).read()
        assert time.monotonic() - began < 5


def test_whoever_is_not_admitted_has_no_byte_of_its_body_read() -> None:
    def refuse(_: object) -> None:
        raise Refusal(401, "no")

    client, end = socket.socketpair()
    with client, end:
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 30000000\r\n\r\n")
        with pytest.raises(Refusal, match="no"):
            Connection(end).read(refuse)
