"""The current snapshot's row: its text, which may be sealed, and the columns that are compared where no key is.

How many sandboxes a sealed snapshot records its row does not tell. Must never believe a row before its text says the same.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from reconciler.errors import StateCorrupt
from reconciler.model.state import State
from reconciler.stores import snapshot
from reconciler.stores.postgres.layout import Tables
from reconciler.stores.postgres.session import Connection
from reconciler.stores.sealing import SNAPSHOT, Sealer

Row = tuple[int, str, str]
"""Serial, lineage, text."""

_UNTOLD = -1  # in place of a number of sandboxes


class Written(Struct, frozen=True, kw_only=True):
    """A state, and the text of its row: sealed twice it would not be the same."""

    state: State
    text: str
    sandboxes: int


def written(state: State, sealer: Sealer) -> Written:
    """Raises StoreError for a state that cannot be stored, and where the key cannot be had."""
    clear = snapshot.encode(state)
    return Written(
        state=state,
        text=sealer.seal(SNAPSHOT, clear).decode(),
        sandboxes=_UNTOLD if sealer.seals else len(state.sandboxes),
    )


def count(clear: bytes, sealer: Sealer) -> int:
    """What the row of a snapshot says of its sandboxes. Raises StateCorrupt or StateTooNew."""
    return _UNTOLD if sealer.seals else snapshot.outline(clear, place="a snapshot", hint="").sandboxes


def decoded(row: Row, sealer: Sealer, *, stack: str, place: str, hint: str) -> State:
    """A row's state. Raises StateCorrupt, also where the row says something else than the text in it, StateTooNew, and
    StoreError where no key fits."""
    serial, lineage, text = row
    clear = sealer.open(SNAPSHOT, text.encode(), place=place, hint=hint)
    state = snapshot.decode(clear, place=place, hint=hint)
    if (state.stack, state.serial, state.lineage) != (stack, serial, lineage):
        raise StateCorrupt(
            f"{place} holds serial {state.serial} of stack {state.stack!r} and lineage {state.lineage}, but its row "
            f"says serial {serial} of {stack!r} and {lineage}",
            hint=hint,
        )
    return state


def row(connection: Connection, tables: Tables, stack: str, *, keep: bool = False) -> Row | None:
    """None when there is none. `keep` holds it until the end of the transaction."""
    statement = tables.sql("select serial, lineage, snapshot from {state} where stack = %s")
    found: Any = connection.execute(
        statement + tables.sql(" for update" if keep else ""), (stack,)
    ).fetchone()
    return None if found is None else (found[0], found[1], found[2])


def put(connection: Connection, tables: Tables, stack: str, new: Written) -> None:
    """In place of what is there."""
    connection.execute(
        tables.sql(
            """insert into {state} (stack, serial, lineage, written_at, sandboxes, snapshot)
            values (%s, %s, %s, %s, %s, %s)
            on conflict (stack) do update set serial = excluded.serial, lineage = excluded.lineage,
                written_at = excluded.written_at, sandboxes = excluded.sandboxes, snapshot = excluded.snapshot"""
        ),
        (stack, new.state.serial, new.state.lineage, new.state.updated_at, new.sandboxes, new.text),
    )
