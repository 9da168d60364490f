"""HTTP as it arrives: over a real socket pair, in pieces, malformed, too large."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator

import pytest

from reconciler.sandboxd.wire import MAX_BODY, MAX_HEAD, Answer, Connection, Refusal, parse_head


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Connection]]:
    client, server = socket.socketpair()
    with client, server:
        yield client, Connection(server)


def test_a_request_comes_in_pieces_and_another_right_behind(ends: tuple[socket.socket, Connection]) -> None:
    client, connection = ends
    data = b"POST /v1/x?a=b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX-A: 1\r\nx-a: 2\r\n\r\nhelloGET /y HTTP/1.1\r\n\r\n"
    thread = threading.Thread(target=lambda: [client.sendall(bytes([byte])) for byte in data])
    thread.start()
    first, second = connection.read(), connection.read()
    thread.join()
    assert first is not None
    assert second is not None
    assert (first.method, first.path, first.query, first.body) == ("POST", "/v1/x", "a=b", b"hello")
    assert first.headers["x-a"] == "1, 2"
    assert (second.method, second.path, second.keep_alive) == ("GET", "/y", True)
    client.shutdown(socket.SHUT_WR)
    assert connection.read() is None


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"hello\r\n\r\n", 400, id="no request line"),
        pytest.param(b"GET x HTTP/1.1\r\n\r\n", 400, id="a target without a slash"),
        pytest.param(b"GET / HTTP/2.0\r\n\r\n", 505, id="another version"),
        pytest.param(b"GET / HTTP/1.1\r\nbroken\r\n\r\n", 400, id="a header without a colon"),
        pytest.param(b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400, id="a space before the colon"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="a negative length"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, id="two lengths"
        ),
        pytest.param(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411, id="chunks"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413, id="too large a body"
        ),
        pytest.param(b"GET /" + b"x" * (MAX_HEAD + 1), 431, id="too large a head"),
    ],
)
def test_what_cannot_be_served_is_refused_and_ends_the_connection(
    ends: tuple[socket.socket, Connection], data: bytes, status: int
) -> None:
    client, connection = ends
    client.sendall(data)
    with pytest.raises(Refusal) as refused:
        connection.read()
    assert (refused.value.status, refused.value.close) == (status, True)


def test_a_client_that_waits_for_100_gets_it(ends: tuple[socket.socket, Connection]) -> None:
    client, connection = ends
    client.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    answer: list[object] = []
    thread = threading.Thread(target=lambda: answer.append(connection.read()))
    thread.start()
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"ok")
    thread.join()
    assert answer[0].body == b"ok"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("version", "header", "kept"),
    [
        ("HTTP/1.1", "", True),
        ("HTTP/1.1", "close", False),
        ("HTTP/1.0", "", False),
        ("HTTP/1.0", "keep-alive", True),
    ],
)
def test_keep_alive_follows_version_and_header(version: str, header: str, kept: bool) -> None:
    head = f"GET / {version}" + (f"\r\nConnection: {header}" if header else "")
    assert parse_head(head.encode()).keep_alive is kept


def test_a_file_that_shrinks_while_it_is_sent_breaks_the_connection(
    ends: tuple[socket.socket, Connection],
) -> None:
    client, connection = ends
    with pytest.raises(OSError, match="shrank"):
        connection.write(Answer(file=io.BytesIO(b"short"), length=10), keep_alive=True)
    assert b"Content-Length: 10\r\n" in client.recv(4096)
