"""The journal as rows: each entry has a number of its own after the snapshot that it builds on.

The number is what makes an append safe to repeat: a row that is there was committed, and the same number cannot be
there twice. Entries that build on an older snapshot are contained in the newer one already and are passed over; that is
what becomes of an append which the server carries out late, after its run has gone on without it.

Where the store encrypts, each entry's text is sealed, and bound to all before it and to the very text of the snapshot
that they build on. A journal is sealed from its first entry on, or in clear to its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from msgspec import Struct

from reconciler.errors import StateCorrupt
from reconciler.model.outcome import Entry, entry_from_dict
from reconciler.stores.base import LockInfo
from reconciler.stores.chain import Chain
from reconciler.stores.encoding import compact
from reconciler.stores.postgres.layout import Tables
from reconciler.stores.postgres.session import Connection
from reconciler.stores.postgres.snapshots import Row
from reconciler.stores.sealing import Sealer, is_sealed

_AWAY = "delete the rows of this stack there: what is live is found again by its labels at the next plan"
_RESTORE = f"restore the table from a backup, or {_AWAY}"


class Tail(Struct, frozen=True, kw_only=True):
    """Where the next entry goes, as long as nobody else writes: valid for one taking of the lock."""

    fence: int
    base: int
    chain: Chain

    @property
    def number(self) -> int:
        """How many are there: the chain begins with the snapshot."""
        return self.chain.count - 1


class Journal(Struct, frozen=True, kw_only=True):
    """A journal as read. `chain` is what the next entry hooks into, `fresh` whether all are as they would be written now."""

    entries: Sequence[Entry]
    chain: Chain
    fresh: bool


def on(text: str) -> Chain:
    """The chain of a journal that builds on a snapshot of this text."""
    return Chain().after(text.encode())


def encode(entries: Iterable[Entry], chain: Chain, sealer: Sealer) -> tuple[list[str], Chain]:
    """The entries' texts that hook into `chain`, and what the next hooks into."""
    lines = []
    for entry in entries:
        text = sealer.seal(chain.kind, compact(entry.to_dict()))
        lines.append(text.decode())
        chain = chain.after(text)
    return lines, chain


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


def decode(rows: Iterable[tuple[Any, ...]], row: Row, *, place: str, stack: str, sealer: Sealer) -> Journal:
    """Rows of (base, number, lineage, entry), in order, as what comes after the snapshot in `row`: (serial, lineage, text).
    Raises StateCorrupt, and StoreError where no key fits."""
    base, lineage, below = row
    chain, found, texts = on(below), [], list[bytes]()
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
            raise StateCorrupt(f"entry {expected} of {stack} in {place} is missing", hint=_RESTORE)
        texts.append(text.encode())
        _refuse_unlike(texts, below, sealer, where)
        clear = sealer.open(chain.kind, texts[-1], place=where, hint=_RESTORE)
        found.append(_decoded(clear, where))
        chain = chain.after(texts[-1])
    return Journal(entries=found, chain=chain, fresh=not texts or sealer.fresh(texts[0]))


def _refuse_unlike(texts: Sequence[bytes], below: str, sealer: Sealer, where: str) -> None:
    """The last text, when it is in clear where the others, or the snapshot, are sealed, or the other way round."""
    sealed = is_sealed(texts[-1])
    if sealed is not is_sealed(texts[0]):
        raise StateCorrupt(
            f"{where} is {'' if sealed else 'not '}encrypted, unlike those before it", hint=_RESTORE
        )
    if sealer.seals and is_sealed(below.encode()) and not sealed:
        raise StateCorrupt(
            f"{where} is not encrypted, but the snapshot, which it continues, is",
            hint=f"nothing of ours writes that; {_AWAY}, and find out what did",
        )


def _decoded(data: bytes, where: str) -> Entry:
    try:
        return entry_from_dict(json.loads(data))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise StateCorrupt(
            f"{where} is no journal entry ({type(error).__name__}: {error})", hint=_RESTORE
        ) from error
