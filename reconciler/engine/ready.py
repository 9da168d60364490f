"""`wait_for_sandbox_ready` and its async twin: two thin drivers of `core.readiness`.

Signatures and observable behaviour are the seed's: `GET {url}/v1/sandbox`, only 200 is ready, True or False. Both
end within a few milliseconds of their budget, and neither ever raises for what a sandbox does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from reconciler.core.readiness import Again, Ready, Waiting, decide, probe_timeout
from reconciler.engine.probe import probe_http
from reconciler.model.desired import Readiness
from reconciler.transport.proxies import goes_direct

if TYPE_CHECKING:
    import httpx


class _Adaptive(float):
    """A default that can be told from the same number given by the caller, whose wish for a fixed pace counts."""


_ADAPTIVE = _Adaptive(1.0)


def wait_for_sandbox_ready(
    sandbox_url: str,
    timeout: float = 30,
    *,
    headers: Mapping[str, str] | None = None,
    alive: Callable[[], bool] | None = None,
) -> bool:
    """Block until the sandbox answers 200 or `timeout` seconds are over.

    `alive`, if given, is asked after a failed probe and ends the wait at once when it says False (pass the
    backend's `is_alive`). Its exceptions are the caller's.
    """
    waiting = Waiting(readiness=Readiness(timeout=timeout), started=time.monotonic())
    url = _probe_url(sandbox_url)
    while True:
        limit = probe_timeout(waiting, time.monotonic())
        answer = probe_http(url, timeout=limit, headers=headers)
        dead = not answer.ready and alive is not None and not alive()
        verdict = decide(waiting, ready=answer.ready, dead=dead, detail=answer.detail, now=time.monotonic())
        if not isinstance(verdict, Again):
            return isinstance(verdict, Ready)
        waiting = verdict.waiting
        time.sleep(max(0.0, verdict.at - time.monotonic()))


async def wait_for_sandbox_ready_async(
    sandbox_url: str,
    timeout: float = 30,
    poll_interval: float = _ADAPTIVE,
    *,
    headers: Mapping[str, str] | None = None,
    alive: Callable[[], Awaitable[bool]] | None = None,
) -> bool:
    """The same without blocking the event loop. Left out, `poll_interval` adapts; given, it is kept (seconds)."""
    import httpx

    loop = asyncio.get_running_loop()
    interval = None if isinstance(poll_interval, _Adaptive) else poll_interval
    waiting = Waiting(readiness=Readiness(timeout=timeout, interval=interval), started=loop.time())
    url = _probe_url(sandbox_url)
    async with httpx.AsyncClient(
        trust_env=not goes_direct(url),
        verify=url.startswith("https:"),
        follow_redirects=False,
        headers=headers,
    ) as client:
        while True:
            answered = await _probe(client, url, probe_timeout(waiting, loop.time()))
            dead = not answered and alive is not None and not await alive()
            verdict = decide(waiting, ready=answered, dead=dead, detail="", now=loop.time())
            if not isinstance(verdict, Again):
                return isinstance(verdict, Ready)
            waiting = verdict.waiting
            await asyncio.sleep(max(0.0, verdict.at - loop.time()))


async def _probe(client: httpx.AsyncClient, url: str, timeout: float) -> bool:
    import httpx

    if timeout <= 0:
        return False
    try:
        async with asyncio.timeout(timeout), client.stream("GET", url, timeout=timeout) as response:
            return response.status_code == 200
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError):
        return False


def _probe_url(sandbox_url: str) -> str:
    return f"{sandbox_url.rstrip('/')}/v1/sandbox"
