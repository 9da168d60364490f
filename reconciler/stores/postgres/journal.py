"""The journal as rows: each entry has a number of its own after the snapshot that it builds on.

The number is what makes an append safe to repeat: a row that is there was committed, and the same number cannot be
there twice. Entries that build on an older snapshot are contained in the newer one already and are passed over; that is
what becomes of an append which the server carries out late, after its run has gone on without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from reconciler.errors import StateCorrupt
from reconciler.model.outcome import Entry, entry_from_dict
from reconciler.stores.base import LockInfo
from reconciler.stores.postgres.layout import Tables
from reconciler.stores.postgres.session import Connection

_AWAY = "delete the rows of this stack there: what is live is found again by its labels at the next plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Where the next entry goes, as long as nobody else writes: valid for one taking of the lock."""

    fence: int
    base: int
    number: int


def encode(entry: Entry) -> str:
    return json.dumps(entry.to_dict(), sort_keys=True, allow_nan=False, separators=(",", ":"))


def tail(connection: Connection, tables: Tables, stack: str, fence: int) -> Tail | None:
    """After what is there; None when there is no snapshot to build on."""
    row = connection.execute(
        tables.sql(
            """select s.serial, coalesce(max(j.number), 0) from {state} s
            left join {journal} j on j.stack = s.stack and j.base = s.serial
            where s.stack = %s group by s.serial"""
        ),
        (stack,),
    ).fetchone()
    return None if row is None else Tail(fence=fence, base=row[0], number=row[1])


def insert(
    connection: Connection, tables: Tables, stack: str, mine: LockInfo, at: Tail, lines: Sequence[str]
) -> bool:
    """All of them in one statement, which holds the lock's row until it is committed: False, and nothing is written,
    when the lock is not ours or the snapshot is another one by now."""
    done = connection.execute(
        tables.sql(
            """with held as (
                select 1 from {lock} where stack = %(stack)s and id = %(id)s and fence = %(fence)s for update
            )
            insert into {journal} (stack, base, number, fence, lineage, entry)
            select %(stack)s, s.serial, %(number)s + line.number, %(fence)s, s.lineage, line.entry
            from held, {state} s, unnest(%(lines)s::text[]) with ordinality as line (entry, number)
            where s.stack = %(stack)s and s.serial = %(base)s"""
        ),
        {
            "stack": stack,
            "id": mine.id,
            "fence": mine.fence,
            "base": at.base,
            "number": at.number,
            "lines": list(lines),
        },
    )
    return done.rowcount == len(lines)


def insert_again(
    connection: Connection, tables: Tables, stack: str, mine: LockInfo, at: Tail, lines: Sequence[str]
) -> bool:
    """The same when nobody knows whether it was done before. What the server is still doing for a connection that broke
    keeps the numbers too, so one of the two finds them taken."""
    if _are_there(connection, tables, stack, mine, at, lines):
        return True
    try:
        return insert(connection, tables, stack, mine, at, lines)
    except psycopg.errors.UniqueViolation:
        return _are_there(connection, tables, stack, mine, at, lines)


def _are_there(
    connection: Connection, tables: Tables, stack: str, mine: LockInfo, at: Tail, lines: Sequence[str]
) -> bool:
    rows = connection.execute(
        tables.sql(
            """select entry from {journal} where stack = %s and base = %s and fence = %s and number > %s
            order by number"""
        ),
        (stack, at.base, mine.fence, at.number),
    ).fetchall()
    return [row[0] for row in rows] == list(lines)


def entries(
    rows: Iterable[tuple[Any, ...]], *, base: int, lineage: str, place: str, stack: str
) -> list[Entry]:
    """Rows of (base, number, lineage, entry), in order, as entries after the snapshot `base`. Raises StateCorrupt."""
    found = []
    for expected, (of, number, line, text) in enumerate(rows, 1):
        where = f"entry {number} of {stack} in {place}"
        if of != base:
            raise StateCorrupt(
                f"{where} continues serial {of}, but the snapshot is of serial {base}: an older state was restored under it",
                hint=f"if the older state is meant, {_AWAY}",
            )
        if line != lineage:
            raise StateCorrupt(
                f"{where} belongs to lineage {line}, the snapshot to {lineage}",
                hint=f"restore the snapshot that it belongs to, or {_AWAY}",
            )
        if number != expected:
            raise StateCorrupt(
                f"entry {expected} of {stack} in {place} is missing",
                hint=f"restore the table from a backup, or {_AWAY}",
            )
        found.append(_decoded(text, where))
    return found


def _decoded(text: str, where: str) -> Entry:
    try:
        return entry_from_dict(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise StateCorrupt(
            f"{where} is no journal entry ({type(error).__name__}: {error})",
            hint=f"restore the table from a backup, or {_AWAY}",
        ) from error
