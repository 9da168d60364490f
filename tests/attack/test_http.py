"""A sandbox that answers a probe or a command with anything: bounded in time and memory, and never believed by halves."""

from __future__ import annotations

import asyncio
import socket
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import httpx  # noqa: F401 - imported before any budget runs: the async function imports it when first called
import pytest

from reconciler.backends.process import request
from reconciler.engine.probe import probe_http
from reconciler.engine.ready import wait_for_sandbox_ready, wait_for_sandbox_ready_async
from reconciler.errors import BackendError, Permanent, Unavailable
from tests.support.servers import Talk, drip, serving

BUDGET = 0.6  # seconds for a wait
GENEROUS = 5.0  # seconds that none of them may take, however slow the machine
MB = 1024 * 1024


def _sends(data: bytes, *, then_hangs: bool = False) -> Talk:
    def talk(conn: socket.socket, _: str) -> None:
        conn.sendall(data)
        if then_hangs:
            conn.settimeout(20)
            while conn.recv(1024):
                pass

    return talk


def _for_ever(piece: bytes, begin: bytes = b"HTTP/1.1 200 OK\r\n") -> Talk:
    def talk(conn: socket.socket, _: str) -> None:
        conn.sendall(begin)
        while True:
            conn.sendall(piece)

    return talk


NEVER_READY: dict[str, Talk] = {
    "headers without end": _for_ever(b"X-A: b\r\n"),
    "one header without end": _for_ever(b"x" * 65536, b"HTTP/1.1 200 OK\r\nX-A: "),
    "a status line without end": _for_ever(b"x" * 65536, b"HTTP/1.1 200 "),
    "100 Continue without end": _for_ever(b"HTTP/1.1 100 Continue\r\n\r\n", b""),
    "a line of nothing without end": _for_ever(b"\r\n", b""),
    "one byte at a time": drip,
    "half a status line, then nothing": _sends(b"HTTP/1.1 20", then_hangs=True),
    "headers that never end, then nothing": _sends(b"HTTP/1.1 200 OK\r\nX-A: b\r\n", then_hangs=True),
    "a status that is no number": _sends(b"HTTP/1.1 two OK\r\n\r\n"),
    "a status of five digits": _sends(b"HTTP/1.1 20000 OK\r\n\r\n"),
    "a negative status": _sends(b"HTTP/1.1 -200 OK\r\n\r\n"),
    "another protocol": _sends(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "a redirect to itself": _sends(b"HTTP/1.1 302 Found\r\nLocation: /v1/sandbox\r\nContent-Length: 0\r\n\r\n"),
    "a redirect to a place that is none": _sends(
        b"HTTP/1.1 302 Found\r\nLocation: http://[::bad\r\nContent-Length: 0\r\n\r\n"
    ),
    "a redirect with a control character": _sends(
        b"HTTP/1.1 301 X\r\nLocation: http://a\x1b[2J\x00/\r\nContent-Length: 0\r\n\r\n"
    ),
}  # fmt: skip
READY: dict[str, Talk] = {
    "a body that never comes": _sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", then_hangs=True),
    "a body without end": _for_ever(b"x" * 65536, b"HTTP/1.1 200 OK\r\n\r\n"),
    "chunks that are none": _sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\x00"),
    "a chunk of all there is": _sends(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"
    ),
}


def _async(url: str, timeout: float) -> bool:
    return asyncio.run(wait_for_sandbox_ready_async(url, timeout))


WAITS = pytest.mark.parametrize("wait", [wait_for_sandbox_ready, _async], ids=["sync", "async"])


def _measured(act: Callable[[], Any]) -> tuple[Any, float, int]:
    """(what it gave, seconds, bytes at most)"""
    tracemalloc.start()
    try:
        began = time.monotonic()
        made = act()
        return made, time.monotonic() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@WAITS
@pytest.mark.parametrize("talk", NEVER_READY.values(), ids=NEVER_READY.keys())
def test_a_wait_ends_at_its_budget_in_little_memory_on(
    wait: Callable[[str, float], bool], talk: Talk
) -> None:
    with serving(talk) as server:
        ready, seconds, most = _measured(lambda: wait(server.url, BUDGET))
    assert ready is False
    assert seconds < GENEROUS
    assert most < 16 * MB


@WAITS
@pytest.mark.parametrize("talk", READY.values(), ids=READY.keys())
def test_a_body_is_nobodys_business(wait: Callable[[str, float], bool], talk: Talk) -> None:
    with serving(talk) as server:
        ready, seconds, most = _measured(lambda: wait(server.url, BUDGET))
    assert ready is True
    assert seconds < GENEROUS
    assert most < 16 * MB


def test_what_a_probe_says_of_garbage_is_short() -> None:
    with serving(_sends(b"\x1b[2J" + b"x" * 60_000 + b"\r\n\r\n")) as server:
        answer = probe_http(server.url, timeout=2.0)
    assert not answer.ready
    assert 0 < len(answer.detail) < 300


WRONG_ANSWERS: dict[str, Talk] = {
    "a list": _sends(b"HTTP/1.1 200 OK\r\n\r\n[]"),
    "no JSON": _sends(b"HTTP/1.1 200 OK\r\n\r\n<html>"),
    "brackets a hundred thousand deep": _sends(b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000),
    "no data": _sends(b'HTTP/1.1 200 OK\r\n\r\n{"data": null}'),
    "an exit code that is a word": _sends(
        b'HTTP/1.1 200 OK\r\n\r\n{"data": {"status": "completed", "exit_code": "0", "stdout": "", "stderr": ""}}'
    ),
    "an output that is a list": _sends(
        b'HTTP/1.1 200 OK\r\n\r\n{"data": {"status": "completed", "exit_code": 0, "stdout": [], "stderr": ""}}'
    ),
    "an error that is a list": _sends(b'HTTP/1.1 500 X\r\n\r\n{"message": ["x"]}'),
    "nothing but a byte now and then": drip,
    "a body without end": _for_ever(b" " * 65536, b"HTTP/1.1 200 OK\r\n\r\n"),
    "headers without end": _for_ever(b"X-A: b\r\n"),
}


@pytest.mark.parametrize("talk", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS.keys())
def test_a_command_gets_an_error_in_time_and_bounded_memory_for(talk: Talk) -> None:
    def ask() -> BackendError:
        with pytest.raises((Permanent, Unavailable)) as raised:
            request.run_command("127.0.0.1", server.port, {}, ["x"], 0.5 - request._MARGIN)
        return raised.value

    with serving(talk) as server:
        error, seconds, most = _measured(ask)
    assert len(error.message) < 700
    assert seconds < GENEROUS
    assert most < 3 * request._MOST
