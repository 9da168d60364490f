"""Older snapshots: each one that a write replaces stays as a row, the newest twenty of a stack.

Which are the newest is told by the order in which they were kept, not by serial: after an older state was restored by
hand, serials begin again lower down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reconciler.stores.base import Version
from reconciler.stores.postgres.layout import Tables
from reconciler.stores.postgres.session import Connection

KEPT = 20
ANOTHER = "`reconciler state history` shows what else there is"


def keep(connection: Connection, tables: Tables, stack: str) -> None:
    """Make a version of the current snapshot, if there is one, byte for byte."""
    connection.execute(
        tables.sql(
            """insert into {version} (stack, serial, lineage, written_at, sandboxes, snapshot)
            select stack, serial, lineage, written_at, sandboxes, snapshot from {state} where stack = %s
            on conflict (stack, serial) do update set kept = default, lineage = excluded.lineage,
                written_at = excluded.written_at, sandboxes = excluded.sandboxes, snapshot = excluded.snapshot"""
        ),
        (stack,),
    )


def prune(connection: Connection, tables: Tables, stack: str) -> None:
    """Remove all but the newest."""
    connection.execute(
        tables.sql(
            """delete from {version} where stack = %(stack)s and kept <= (
                select kept from {version} where stack = %(stack)s order by kept desc offset %(kept)s limit 1
            )"""
        ),
        {"stack": stack, "kept": KEPT},
    )


def versions(connection: Connection, tables: Tables, stack: str) -> Sequence[Version]:
    """The current one first, then the others, the highest serial first. One statement, so it sees one moment."""
    rows = connection.execute(
        tables.sql(
            """select true as current, serial, lineage, written_at, sandboxes, octet_length(snapshot)
              from {state} where stack = %(stack)s
            union all
            select false, v.serial, v.lineage, v.written_at, v.sandboxes, octet_length(v.snapshot)
              from {version} v where v.stack = %(stack)s
               and not exists (select from {state} s where s.stack = v.stack and s.serial = v.serial)
            order by current desc, serial desc"""
        ),
        {"stack": stack},
    ).fetchall()
    return [
        Version(serial=serial, at=at, sandboxes=sandboxes, size=size, lineage=lineage, current=current)
        for current, serial, lineage, at, sandboxes, size in rows
    ]


def row(connection: Connection, tables: Tables, stack: str, serial: int) -> tuple[int, str, str] | None:
    """(serial, lineage, snapshot) of that serial, the current one before an older one; None when it is not there."""
    found: Any = connection.execute(
        tables.sql(
            """select serial, lineage, snapshot from {state} where stack = %(stack)s and serial = %(serial)s
            union all
            select serial, lineage, snapshot from {version} where stack = %(stack)s and serial = %(serial)s
            limit 1"""
        ),
        {"stack": stack, "serial": serial},
    ).fetchone()
    return None if found is None else (found[0], found[1], found[2])
