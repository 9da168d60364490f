"""Builders for the postgres store's tests: a schema for each home, other machines pretended."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from reconciler.stores.host import Host, this_host
from reconciler.stores.postgres import PostgresStore
from reconciler.stores.postgres.lease import Timing
from reconciler.testing.store_conformance import STACK


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
