"""Builders for the http store's tests: a store on a given server, as one process of a pretended machine."""

from __future__ import annotations

from typing import Any

from reconciler.stores.host import Host
from reconciler.stores.http import HttpStore
from reconciler.stores.http.wire import Pace
from reconciler.testing.store_conformance import STACK
from tests.stores.places import Clock, Machine
from tests.support.states import StateServer


def a_host(machine: Machine | None = None, pid: int = 4711) -> Host:
    return (machine or Machine()).process(pid)


def paced(clock: Clock, **fields: Any) -> Pace:
    """Waiting passes in no time, and is noted in `clock.slept`."""
    return Pace(now=clock.now, monotonic=clock.now, sleep=clock.sleep, **fields)


def a_store(server: StateServer, **fields: Any) -> HttpStore:
    """A store of the stack "research"; `fields` go before what the server asks for."""
    return HttpStore(
        STACK,
        **{
            "host": a_host(),
            "pace": paced(Clock()),
            "environ": {},
            "timeout": 20.0,
            **server.options(),
            **fields,
        },
    )


def a_store_at(url: str, **fields: Any) -> HttpStore:
    """The same at any address."""
    return HttpStore(
        STACK,
        **{"url": url, "host": a_host(), "pace": paced(Clock()), "environ": {}, "timeout": 20.0, **fields},
    )
