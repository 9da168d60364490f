"""Older snapshots: each one that a write replaces stays as a row, the newest twenty of a stack.

Which are the newest is told by the order in which they were kept, not by serial: after an older state was restored by
hand, serials begin again lower down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from reconciler.errors import StateCorrupt, StateTooNew, StoreError
from reconciler.stores import snapshot
from reconciler.stores.base import Version
from reconciler.stores.postgres.layout import Tables
from reconciler.stores.postgres.session import Connection
from reconciler.stores.postgres.snapshots import Row, Written
from reconciler.stores.sealing import OPENING, SNAPSHOT, Sealer

KEPT = 20
UNREADABLE = (StateCorrupt, StateTooNew)
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


def take(connection: Connection, tables: Tables, stack: str, older: Sequence[Written]) -> int:
    """Make versions of snapshots that another store kept, the oldest first; how many of them are new. Those of a serial that is
    there already stay as they are, and what is more than is kept is left out, the oldest first."""
    found = connection.execute(
        tables.sql("select serial from {version} where stack = %s"), (stack,)
    ).fetchall()
    known = {serial for (serial,) in found}
    new = [
        each for each in sorted(older, key=lambda each: each.state.serial) if each.state.serial not in known
    ]
    new = new[max(0, len(new) - max(0, KEPT - len(known))) :]
    for each in new:
        connection.execute(
            tables.sql(
                """insert into {version} (stack, serial, lineage, written_at, sandboxes, snapshot)
                values (%s, %s, %s, %s, %s, %s)"""
            ),
            (stack, each.state.serial, each.state.lineage, each.state.updated_at, each.sandboxes, each.text),
        )
    return len(new)


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


def rows(
    connection: Connection, tables: Tables, stack: str, *, texts: bool
) -> Sequence[tuple[Version, str | None]]:
    """The current one first, then the others, the highest serial first, each as its columns tell it, and the snapshot's
    text where it is sealed, or for all of them. One statement, so it sees one moment."""
    found = connection.execute(
        tables.sql(
            """select true as current, serial, lineage, written_at, sandboxes, octet_length(snapshot),
                case when %(texts)s or left(snapshot, %(size)s) = %(opening)s then snapshot end
              from {state} where stack = %(stack)s
            union all
            select false, v.serial, v.lineage, v.written_at, v.sandboxes, octet_length(v.snapshot),
                case when %(texts)s or left(v.snapshot, %(size)s) = %(opening)s then v.snapshot end
              from {version} v where v.stack = %(stack)s
               and not exists (select from {state} s where s.stack = v.stack and s.serial = v.serial)
            order by current desc, serial desc"""
        ),
        {"stack": stack, "texts": texts, "size": len(OPENING), "opening": OPENING.decode()},
    ).fetchall()
    return [
        (
            Version(serial=serial, at=at, sandboxes=sandboxes, size=size, lineage=lineage, current=current),
            text,
        )
        for current, serial, lineage, at, sandboxes, size, text in found
    ]


def versions(
    found: Iterable[tuple[Version, str | None]], sealer: Sealer, *, stack: str, place: str
) -> Sequence[Version]:
    """The same, where there is a text as that tells it; what cannot be read says why. Raises StoreError where no key
    fits the current one."""
    told = []
    for version, text in found:
        where = place if version.current else f"version {version.serial} of {place}"
        try:
            told.append(version if text is None else _opened(version, text, sealer, stack, where))
        except StoreError as error:
            if not version.current:
                told.append(Version(serial=version.serial, damage=error.message))
            elif not isinstance(error, UNREADABLE):
                raise
    return told


def _opened(version: Version, text: str, sealer: Sealer, stack: str, where: str) -> Version:
    clear = sealer.open(SNAPSHOT, text.encode(), place=where, hint=ANOTHER)
    seen = snapshot.outline(clear, place=where, hint=ANOTHER)
    if (seen.stack, seen.serial, seen.lineage) != (stack, version.serial, version.lineage):
        raise StateCorrupt(f"{where} holds serial {seen.serial} of stack {seen.stack!r}", hint=ANOTHER)
    return replace(version, at=seen.at, sandboxes=seen.sandboxes)


def row(connection: Connection, tables: Tables, stack: str, serial: int) -> Row | None:
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
