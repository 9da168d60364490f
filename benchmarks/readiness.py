"""Readiness: how late it is noticed that a real HTTP server began to answer; beside a fixed poll once a second."""

from __future__ import annotations

import http.server
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.figures import Figure, Relation
from reconciler.engine.ready import wait_for_sandbox_ready

SEED = 1
SOONEST, LATEST = 0.05, 1.0  # seconds after the wait began


class Late(http.server.ThreadingHTTPServer):
    """503 until `ready_at` on the monotonic clock, then 200."""

    ready_at = 0.0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Late)
        self.send_response(200 if time.monotonic() >= self.server.ready_at else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nobody reads it."""


def measure(quick: bool) -> Iterator[Figure]:
    with _server() as server:
        chance = random.Random(SEED)
        rounds = 8 if quick else 40
        moments = [chance.uniform(SOONEST, LATEST) for _ in range(rounds)]
        ours, poll = [], []
        for moment in moments:  # by turns, and each waits for the same
            ours.append(_lag(server, moment, adaptive=True))
            poll.append(_lag(server, moment, adaptive=False))
    yield Figure(name="readiness noticed late by", unit="s", samples=tuple(ours), goal=0.010)
    yield Figure(
        name="readiness noticed late, beside",
        unit="s",
        samples=tuple(ours),
        peer="a poll every second",
        peer_samples=tuple(poll),
        relation=Relation.TIMES,
        goal=1 / 50,
    )


@contextmanager
def _server() -> Iterator[Late]:
    server = Late(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def _lag(server: Late, moment: float, *, adaptive: bool) -> float:
    """Seconds from readiness until it is noticed."""
    url = f"http://127.0.0.1:{server.server_port}"
    server.ready_at = time.monotonic() + moment
    if not adaptive:
        fixed_poll(url)
    elif not wait_for_sandbox_ready(url, 30):
        raise SystemExit("a server that is ready was not noticed")
    return time.monotonic() - server.ready_at


def fixed_poll(url: str) -> None:
    """Our forerunner's loop, from its description: ask, sleep one second, ask again."""
    while True:
        try:
            with urllib.request.urlopen(f"{url}/v1/sandbox", timeout=5):
                return
        except urllib.error.HTTPError:
            time.sleep(1)
