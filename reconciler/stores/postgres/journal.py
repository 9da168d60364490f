"""The journal as rows: each entry has a number of its own after the snapshot that it builds on.

The number is what makes an append safe to repeat: a row that is there was committed, and the same number cannot be
there twice. Entries that build on an older snapshot are contained in the newer one already and are passed over; that is
what becomes of an append which the server carries out late, after its run has gone on without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg
from msgspec import Struct

from reconciler.errors import StateCorrupt
from reconciler.model.outcome import Entry
from reconciler.stores import chained
from reconciler.stores.base import LockInfo
from reconciler.stores.chain import Chain
from reconciler.stores.postgres.layout import Tables
from reconciler.stores.postgres.session import Connection
from reconciler.stores.postgres.snapshots import Row
from reconciler.stores.sealing import Sealer

_AWAY = "delete the rows of this stack there: what is live is found again by its labels at the next plan"
_ADVICE = chained.Advice(restore=f"restore the table from a backup, or {_AWAY}", away=_AWAY)


class Tail(Struct, frozen=True, kw_only=True):
    """Where the next entry goes, as long as nobody else writes: valid for one taking of the lock."""

    fence: int
    base: int
    chain: Chain

    @property
    def number(self) -> int:
        """How many are there: the chain begins with the snapshot."""
        return self.chain.count - 1


def encode(entries: Iterable[Entry], chain: Chain, sealer: Sealer) -> tuple[list[str], Chain]:
    """The entries' texts that hook into `chain`, and what the next hooks into."""
    texts, chain = chained.encode(entries, chain, sealer)
    return [text.decode() for text in texts], chain


def rewrite(connection: Connection, tables: Tables, stack: str, at: Tail, lines: Sequence[str]) -> None:
    """Other texts of the same entries, in the running transaction: their key has changed."""
    connection.execute(
        tables.sql(
            """update {journal} j set entry = line.entry
            from unnest(%(lines)s::text[]) with ordinality as line (entry, number)
            where j.stack = %(stack)s and j.base = %(base)s and j.number = line.number"""
        ),
        {"stack": stack, "base": at.base, "lines": list(lines)},
    )


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


def decode(
    rows: Iterable[tuple[Any, ...]], row: Row, *, place: str, stack: str, sealer: Sealer
) -> chained.Journal:
    """Rows of (base, number, lineage, entry), in order, as what comes after the snapshot in `row`: (serial, lineage, text).
    Raises StateCorrupt, and StoreError where no key fits."""
    base, lineage, below = row
    texts = _texts(rows, base, lineage, f"{stack} in {place}")
    return chained.decode(texts, below.encode(), sealer=sealer, advice=_ADVICE)


def _texts(
    rows: Iterable[tuple[Any, ...]], base: int, lineage: str, of_what: str
) -> Iterator[tuple[str, bytes]]:
    """Each with where it stands, as long as they are of this snapshot and none is missing."""
    for expected, (of, number, line, text) in enumerate(rows, 1):
        where = f"entry {number} of {of_what}"
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
            raise StateCorrupt(f"entry {expected} of {of_what} is missing", hint=_ADVICE.restore)
        yield where, text.encode()
