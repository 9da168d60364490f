"""`/metrics`, `/healthz` and `/readyz` asked over real sockets, by good and by bad clients."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from reconciler.errors import ReconcilerError
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.watching import LeadershipChanged, Looked, Reloaded, WatchStarted, WatchStopped
from reconciler.operations.endpoints import Endpoints, Limits
from reconciler.operations.health import Health

STARTED = WatchStarted(at=1.0, stack="research", interval=30.0)
LOOK = Looked(at=1.0, seconds=0.1, desired=1, observed=1, ready=1, drifted=0)
WRONG = Diagnostic(severity=Severity.ERROR, code="x", summary="wrong")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    made = Health(monotonic=clock)
    made(STARTED)
    return made


@pytest.fixture
def served(health: Health) -> Iterator[Endpoints]:
    with Endpoints(
        "127.0.0.1:0",
        health=health,
        metrics=lambda accept: (b"a 1\n", "text/plain"),
        limits=Limits(seconds=0.5),
    ) as made:
        yield made


def asked(served: Endpoints, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode().strip()


class TestHealth:
    def test_it_is_ready_when_a_look_was_whole(self, served: Endpoints, health: Health) -> None:
        assert asked(served, "/readyz")[0] == 503
        health(LOOK)
        assert asked(served, "/readyz") == (200, "ok")
        health(
            Looked(at=1.0, seconds=0.1, desired=1, observed=0, ready=0, drifted=0, failures={"far": "secret"})
        )
        status, why = asked(served, "/readyz")
        assert status == 503
        assert "far" in why
        assert "secret" not in why

    def test_it_is_not_while_the_configuration_is_invalid(self, served: Endpoints, health: Health) -> None:
        health(LOOK)
        health(Reloaded(at=1.0, problems=(WRONG,)))
        assert asked(served, "/readyz")[0] == 503
        health(Reloaded(at=1.0))
        assert asked(served, "/readyz")[0] == 200

    def test_who_stands_by_is_ready_to_take_over_and_says_who_leads(
        self, served: Endpoints, health: Health, clock: Clock
    ) -> None:
        health(LeadershipChanged(at=1.0, leads=False, leader="ann@there (pid 7, watch)"))
        for path in ("/healthz", "/readyz"):
            assert asked(served, path) == (200, "ok: stands by; ann@there (pid 7, watch) leads")
        health(LeadershipChanged(at=1.0, leads=True, leader="ann@here"))
        assert asked(served, "/readyz")[0] == 503  # it has not looked yet
        health(LOOK)
        assert asked(served, "/readyz") == (200, "ok: leads")
        health(WatchStopped(at=1.0))
        health(LeadershipChanged(at=1.0, leads=False, why="not renewed"))
        assert asked(served, "/healthz") == (200, "ok: stands by; nobody is known to lead")
        clock.now = 1000.0
        assert asked(served, "/readyz")[0] == 503

    def test_it_lives_while_the_loop_moves(self, served: Endpoints, health: Health, clock: Clock) -> None:
        assert asked(served, "/healthz") == (200, "ok")
        clock.now = 1000.0
        status, why = asked(served, "/healthz")
        assert (status, "has not moved for 1000 s" in why) == (503, True)
        health(LOOK)
        clock.now = 2000.0
        assert asked(served, "/readyz")[0] == 503  # a look that long ago says nothing of today
        health.tick()
        assert asked(served, "/readyz")[0] == 200
        assert asked(served, "/healthz")[0] == 200
        health(WatchStopped(at=1.0))
        assert asked(served, "/healthz")[0] == 503


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 200),
        ("GET", "/metrics?x=1", 200),
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/healthz", 405),
    ],
)
def test_what_is_there(served: Endpoints, method: str, path: str, status: int) -> None:
    assert asked(served, path, method)[0] == status


def test_head_has_no_body(served: Endpoints) -> None:
    assert asked(served, "/metrics", "HEAD") == (200, "")


@pytest.mark.parametrize(
    "said", [b"nonsense\r\n\r\n", b"GET /\x00 HTTP/1.1\r\n\r\n", b"GET /" + b"x" * 40_000]
)
def test_what_is_no_request_is_answered_or_hung_up_on(served: Endpoints, said: bytes) -> None:
    with (
        socket.create_connection(("127.0.0.1", served.port), 5) as client,
        contextlib.suppress(ConnectionError),
    ):
        client.sendall(said)
        assert client.recv(100).split(b" ")[1:2] in ([b"400"], [b"431"], [])
    assert asked(served, "/metrics")[0] == 200


def test_a_slow_client_holds_up_nobody_and_is_hung_up_on(served: Endpoints) -> None:
    with socket.create_connection(("127.0.0.1", served.port), 5) as slow:
        slow.sendall(b"GET /metr")
        began = time.monotonic()
        assert asked(served, "/metrics")[0] == 200
        assert time.monotonic() - began < 0.4
        slow.settimeout(5)
        while slow.recv(100):
            pass
        assert time.monotonic() - began < 4


def test_a_port_that_is_taken_is_told_with_what_to_do(served: Endpoints, health: Health) -> None:
    with pytest.raises(ReconcilerError, match=str(served.port)) as raised:
        Endpoints(f"127.0.0.1:{served.port}", health=health)
    assert raised.value.hint


@pytest.mark.parametrize(
    "address", ["", "nonsense", "127.0.0.1:99999", "host:", "[::1", "1.2.3.4:80", "a..b:80"]
)
def test_what_cannot_be_listened_on_is_told(health: Health, address: str) -> None:
    with pytest.raises(ReconcilerError):
        Endpoints(address, health=health)


def test_six_is_spoken_too(health: Health) -> None:
    if not socket.has_ipv6:
        pytest.skip("there is no IPv6 on this machine")
    with Endpoints("[::1]:0", health=health) as served:
        assert served.address == f"[::1]:{served.port}"
        with contextlib.closing(http.client.HTTPConnection("::1", served.port, timeout=5)) as connection:
            connection.request("GET", "/healthz")
            with connection.getresponse() as answer:
                assert (answer.status, answer.read()) == (200, b"ok\n")


def test_closed_it_leaves_nothing(health: Health) -> None:
    before = threading.active_count()
    served = Endpoints("127.0.0.1:0", health=health)
    with socket.create_connection(("127.0.0.1", served.port), 5):
        served.close()
        served.close()
    assert threading.active_count() == before
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", served.port), 5).close()
    again = Endpoints(f"127.0.0.1:{served.port}", health=health)
    again.close()


def test_without_metrics_there_is_no_page_of_them(health: Health) -> None:
    with Endpoints("127.0.0.1:0", health=health) as served:
        assert asked(served, "/metrics")[0] == 404
