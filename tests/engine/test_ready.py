"""Readiness as the seed has it, minus its weaknesses; every test runs on the sync and the async function."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx  # noqa: F401 - imported before any budget runs: the async function imports it when first called
import pytest

import reconciler
from reconciler.engine.ready import wait_for_sandbox_ready, wait_for_sandbox_ready_async
from reconciler.transport.proxies import goes_direct
from tests.support.servers import drip, endless, free_port, garbage, hang, serving, status

Wait = Callable[..., bool]
FAR_BELOW_A_REQUEST_TIMEOUT = 3.0  # seconds; without the clamp these waits take 5 or more


def _in_a_loop(url: str, timeout: float = 30, **kwargs: Any) -> bool:
    alive = kwargs.pop("alive", None)
    if alive is not None:

        async def ask() -> bool:
            return bool(alive())

        kwargs["alive"] = ask
    return asyncio.run(wait_for_sandbox_ready_async(url, timeout, **kwargs))


@pytest.fixture(params=["sync", "async"])
def wait(request: pytest.FixtureRequest) -> Wait:
    return wait_for_sandbox_ready if request.param == "sync" else _in_a_loop


def test_the_seeds_signatures_are_kept() -> None:
    sync = inspect.signature(reconciler.wait_for_sandbox_ready).parameters
    assert list(sync)[:2] == ["sandbox_url", "timeout"]
    assert sync["timeout"].default == 30
    poll = inspect.signature(reconciler.wait_for_sandbox_ready_async).parameters
    assert list(poll)[:3] == ["sandbox_url", "timeout", "poll_interval"]
    assert (poll["timeout"].default, poll["poll_interval"].default) == (30, 1.0)
    assert inspect.iscoroutinefunction(reconciler.wait_for_sandbox_ready_async)


def test_200_is_ready_and_the_path_is_v1_sandbox(wait: Wait) -> None:
    with serving(status(200)) as server:
        assert wait(server.url, 5) is True
    assert server.heads[0].startswith("GET /v1/sandbox HTTP/1.1\r\n")


def test_a_slash_at_the_end_of_the_url_is_not_doubled(wait: Wait) -> None:
    with serving(status(200)) as server:
        assert wait(server.url + "/", 5) is True
    assert server.heads[0].startswith("GET /v1/sandbox ")


@pytest.mark.parametrize("code", [201, 204, 301, 401, 403, 404, 500, 503])
def test_nothing_but_200_is_ready(wait: Wait, code: int) -> None:
    with serving(status(code)) as server:
        assert wait(server.url, 0.6) is False
        assert server.heads


def test_redirects_are_not_followed(wait: Wait) -> None:
    with serving(status(200)) as target, serving(status(302, f"Location: {target.url}/v1/sandbox")) as server:
        assert wait(server.url, 0.2) is False
        assert target.heads == []


def test_it_keeps_trying_until_it_answers(wait: Wait) -> None:
    with serving(status(503)) as server:
        threading.Timer(0.3, lambda: setattr(server, "talk", status(200))).start()
        assert wait(server.url, 20) is True
    assert len(server.heads) > 1


def test_it_keeps_trying_while_nothing_listens(wait: Wait) -> None:
    port = free_port()
    stop = threading.Event()

    def later() -> None:
        time.sleep(0.3)
        with serving(status(200), port):
            stop.wait(20)

    thread = threading.Thread(target=later)
    thread.start()
    try:
        assert wait(f"http://127.0.0.1:{port}", 20) is True
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("talk", [hang, drip], ids=["hangs", "sends one byte at a time"])
def test_a_request_is_cut_off_at_the_deadline(wait: Wait, talk: Any) -> None:
    with serving(talk) as server:
        started = time.monotonic()
        assert wait(server.url, 0.4) is False
        assert time.monotonic() - started < FAR_BELOW_A_REQUEST_TIMEOUT


def test_a_body_without_end_is_not_read(wait: Wait) -> None:
    with serving(endless) as server:
        assert wait(server.url, 5) is True


def test_an_answer_that_is_not_http_is_not_ready(wait: Wait) -> None:
    with serving(garbage) as server:
        assert wait(server.url, 0.2) is False


@pytest.mark.parametrize("url", ["http://", "ftp://127.0.0.1", "not a url", "http://[::1"])
def test_a_url_that_is_none_is_never_ready(wait: Wait, url: str) -> None:
    assert wait(url, 0.1) is False


def test_no_time_at_all_asks_nobody(wait: Wait) -> None:
    with serving(status(200)) as server:
        assert wait(server.url, 0) is False


def test_a_dead_sandbox_is_not_waited_for(wait: Wait) -> None:
    started = time.monotonic()
    assert wait(f"http://127.0.0.1:{free_port()}", 60, alive=lambda: False) is False
    assert time.monotonic() - started < FAR_BELOW_A_REQUEST_TIMEOUT


def test_headers_are_sent(wait: Wait) -> None:
    with serving(status(200)) as server:
        assert wait(server.url, 5, headers={"X-AIO-API-Key": "k"}) is True
    assert "x-aio-api-key: k" in server.heads[0].lower()


def test_polling_starts_quick_and_slows_down() -> None:
    with serving(status(503)) as server:
        wait_for_sandbox_ready(server.url, 1.0)
        assert 20 < len(server.heads) < 120


def test_an_explicit_interval_is_kept() -> None:
    with serving(status(503)) as server:
        assert _in_a_loop(server.url, 0.5, poll_interval=1.0) is False
        assert len(server.heads) <= 2


def test_the_event_loop_goes_on_meanwhile() -> None:
    async def count_while_waiting(url: str) -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticker = asyncio.create_task(tick())
        await wait_for_sandbox_ready_async(url, 0.6)
        ticker.cancel()
        return ticks

    with serving(hang) as server:
        assert asyncio.run(count_while_waiting(server.url)) > 10


class TestProxies:
    def test_loopback_goes_direct_and_public_hosts_through_the_proxy(
        self, wait: Wait, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with serving(status(200)) as proxy, serving(status(200)) as server:
            for name in ("http_proxy", "HTTP_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            assert wait(server.url, 5) is True
            assert proxy.heads == []
            assert wait("http://sandbox.example.com:8080", 5) is True
            assert proxy.heads[0].startswith("GET http://sandbox.example.com:8080/v1/sandbox ")

    @pytest.mark.parametrize(
        ("host", "direct"),
        [
            ("127.0.0.1", True),
            ("[::1]", True),
            ("10.1.2.3", True),
            ("192.168.0.7", True),
            ("169.254.1.1", True),
            ("[fe80::1]", True),
            ("localhost", True),
            ("k3s", True),
            ("host.docker.internal", True),
            ("host.containers.internal", True),
            ("docker.internal.example.com", False),
            ("sandbox.example.com", False),
            ("8.8.8.8", False),
        ],
    )
    def test_which_hosts_go_direct(self, host: str, direct: bool) -> None:
        assert goes_direct(f"http://{host}:8080/x") is direct
