"""Builders for the postgres store's tests: a schema for each home, and processes of their own.

`python -m tests.stores.databases URL HOME` holds the lock until it is taken away.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

from reconciler.stores.host import Host, this_host
from reconciler.stores.postgres import PostgresStore
from reconciler.stores.postgres.lease import Timing
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import STACK
from tests.stores.contender import hold


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
    sealer: Sealer = PLAIN,
) -> PostgresStore:
    return PostgresStore(
        STACK,
        url=url,
        schema=schema_of(home),
        timeout=timeout,
        host=host or this_host(),
        timing=timing,
        environ=environ or {},
        sealer=sealer,
    )


def a_contender(where: str) -> PostgresStore:
    """For `tests.stores.contention`: `where` is a URL and a schema, with a space between."""
    url, schema = where.split(" ")
    return PostgresStore(STACK, url=url, schema=schema, environ={})


if __name__ == "__main__":
    hold(a_store(sys.argv[1], Path(sys.argv[2]), timing=Timing(renew=1e6)))
