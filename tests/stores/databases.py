"""Builders for the postgres store's tests: a schema for each home, and processes of their own.

`python -m tests.stores.databases URL HOME` holds the lock until it is taken away.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from reconciler.errors import StoreError
from reconciler.stores.host import Host, this_host
from reconciler.stores.postgres import PostgresStore
from reconciler.stores.postgres.lease import Timing
from reconciler.testing.store_conformance import STACK, a_state, created


def schema_of(home: Path) -> str:
    """Each test's folder has a schema of its own in the one cluster."""
    return f"t_{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"


def a_store(
    url: str,
    home: Path,
    *,
    host: Host | None = None,
    timing: Timing | None = None,
    timeout: float = 10.0,
    environ: Mapping[str, str] | None = None,
) -> PostgresStore:
    return PostgresStore(
        STACK,
        url=url,
        schema=schema_of(home),
        timeout=timeout,
        host=host or this_host(),
        timing=timing,
        environ=environ or {},
    )


def a_contender(where: str) -> PostgresStore:
    """For `tests.stores.contention`: `where` is a URL and a schema, with a space between."""
    url, schema = where.split(" ")
    return PostgresStore(STACK, url=url, schema=schema, environ={})


def hold(url: str, home: Path) -> None:
    """A process that takes the lock, prints its id, and writes every few milliseconds until that is refused."""
    store = a_store(url, home, timing=Timing(renew=1e6))
    lease = store.lock("apply")
    state = store.write(lease, a_state())
    print(lease.info.id, flush=True)
    while True:
        time.sleep(0.005)
        try:
            lease.check()
        except StoreError:
            break
    for write in (lambda: store.append(lease, created("late")), lambda: store.write(lease, state)):
        try:
            write()
        except StoreError as error:
            print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    hold(sys.argv[1], Path(sys.argv[2]))
