"""What is sealed of a stack's rows, and how all of them are sealed anew once a key has changed, or is used no more.

Sealed are texts: `snapshot`, `entry`, `key`. In clear stays what is compared, ordered and counted where no key is:
serial, lineage, time of writing, an entry's number and the fence. The columns are those of every version of this tool; one that cannot open a text takes it for damage.

Must never commit by itself: either all rows of a stack are sealed with another key, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, LiteralString

from reconciler.errors import StoreError
from reconciler.stores.postgres.layout import Tables
from reconciler.stores.postgres.session import Connection
from reconciler.stores.postgres.snapshots import count
from reconciler.stores.sealing import KEY, OPENING, SNAPSHOT, Sealer

_SNAPSHOTS: tuple[tuple[LiteralString, LiteralString], ...] = (
    (
        "select serial, snapshot from {version} where stack = %s order by kept",
        "update {version} set snapshot = %s, sandboxes = %s where stack = %s and serial = %s",
    ),
    (
        "select serial, snapshot from {state} where stack = %s",
        "update {state} set snapshot = %s, sandboxes = %s where stack = %s and serial = %s",
    ),
)
_CLEAR: tuple[tuple[str, LiteralString], ...] = (
    ("state", "select exists (select from {state} where stack = %s and left(snapshot, %s) <> %s)"),
    ("journal", "select exists (select from {journal} where stack = %s and left(entry, %s) <> %s)"),
    ("version", "select exists (select from {version} where stack = %s and left(snapshot, %s) <> %s)"),
    ("key", "select exists (select from {key} where stack = %s and left(key, %s) <> %s)"),
)


def reseal(connection: Connection, tables: Tables, stack: str, sealer: Sealer) -> None:
    """All that is not as it would be written now. What cannot be opened, or is damaged, stays as it is: it may be worth
    something to somebody yet."""
    for select, update in _SNAPSHOTS:
        for serial, text in connection.execute(tables.sql(select), (stack,)).fetchall():
            with suppress(StoreError):
                if not sealer.fresh(text.encode()):
                    clear = sealer.open(SNAPSHOT, text.encode(), place=f"serial {serial}")
                    new = sealer.seal(SNAPSHOT, clear).decode()
                    connection.execute(tables.sql(update), (new, count(clear, sealer), stack, serial))
    _reseal_key(connection, tables, stack, sealer)


def _reseal_key(connection: Connection, tables: Tables, stack: str, sealer: Sealer) -> None:
    row: Any = connection.execute(
        tables.sql("select key from {key} where stack = %s for update"), (stack,)
    ).fetchone()
    if row is not None and not sealer.fresh(row[0].encode()):
        clear = sealer.open(KEY, row[0].encode(), place=key_place(tables, stack))
        connection.execute(
            tables.sql("update {key} set key = %s where stack = %s"),
            (sealer.seal(KEY, clear).decode(), stack),
        )


def key_place(tables: Tables, stack: str) -> str:
    return f"the key of {stack} in {tables.name('key')}"


def in_clear(connection: Connection, tables: Tables, stack: str) -> Sequence[str]:
    """The tables that have something of the stack in clear."""
    opening = OPENING.decode()
    found = []
    for part, statement in _CLEAR:
        row = connection.execute(tables.sql(statement), (stack, len(opening), opening)).fetchone()
        if row is not None and row[0]:
            found.append(tables.name(part))
    return found
