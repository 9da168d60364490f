"""`PostgresStore`: state, journal, lock and key of one stack in a database that many machines share.

Reading never writes, and sees one moment: snapshot and journal come from one repeatable read. Each write is one
transaction that holds the lock's row, compares fence and serial, and is committed durably before it returns. When the
connection breaks, what was asked is asked again on a new one; every write can tell whether it was done before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reconciler.core.fold import fold_all
from reconciler.errors import ConfigError, StateCorrupt, StoreError
from reconciler.model.desired import Secret
from reconciler.model.outcome import Entry
from reconciler.model.state import State
from reconciler.stores import keys, snapshot
from reconciler.stores.base import Lease, LockInfo, Store, Version, no_version
from reconciler.stores.host import Host, this_host
from reconciler.stores.postgres import address, checks, history, journal
from reconciler.stores.postgres.layout import Tables, encoding_problem
from reconciler.stores.postgres.lease import Lock, Timing
from reconciler.stores.postgres.session import Connection, Session

_SNAPSHOT = "select serial, lineage, snapshot from {state} where stack = %s"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What one look saw: the snapshot's row, the journal's rows from it on, and whether anything else is there."""

    row: tuple[int, str, str] | None
    entries: Sequence[tuple[Any, ...]] = ()
    remains: str = ""


class PostgresStore(Store):
    """One stack's state at `url`, in tables of `schema` whose names begin with `table`. `timeout` bounds each answer of
    the server, in seconds. The keyword arguments after it are seams for tests: the lease's times, this machine, the
    environment (for RECONCILER_STATE_KEY)."""

    options: tuple[str, ...] = ("url", "schema", "table", "timeout")

    def __init__(
        self,
        stack: str,
        *,
        url: Secret | str,
        schema: str = "public",
        table: str = "reconciler",
        timeout: float = 10.0,
        timing: Timing | None = None,
        host: Host | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(url, Secret | str):
            raise ConfigError(
                "state: the `url` of store 'postgres' is no text",
                hint="write `url: {env: NAME}` and set NAME for this run",
            )
        timing = timing or Timing()
        self.stack = stack
        self._environ = os.environ if environ is None else environ
        self._address = address.parse(url.reveal() if isinstance(url, Secret) else url)
        self._tables = Tables(schema=schema, prefix=table)
        self._timeout = float(timeout)
        self._timing = timing
        self._session = self._new_session()
        self._made = False
        self._tail: journal.Tail | None = None
        self._lock = Lock(
            stack=stack,
            subject=f"the state {self.describe()}",
            tables=self._tables,
            session=self._session,
            beside=self._new_session,
            host=host or this_host(),
            timing=timing,
        )

    def _new_session(self) -> Session:
        timing = self._timing
        return Session(self._address, timeout=self._timeout, monotonic=timing.monotonic, sleep=timing.sleep)

    def describe(self) -> str:
        return f"{self.stack} in {self._address.shown}"

    # -- tables

    def _there(self, connection: Connection) -> bool:
        """Whether there are tables; looked for until they are seen once. Raises StateTooNew."""
        self._made = self._made or self._tables.version(connection) is not None
        return self._made

    def _make(self) -> None:
        """Make the tables if there are none."""

        def work(connection: Connection) -> None:
            if self._there(connection):
                return
            problem = encoding_problem(connection)
            if problem:
                raise StoreError(
                    f"cannot use {self._address.shown}: {problem}",
                    hint="create a database with `encoding 'UTF8'`: names and values may hold any character",
                )
            self._tables.make(connection)
            self._made = True

        if not self._made:
            self._session.run("make the tables in", work)

    # -- state

    def read(self) -> State | None:
        found = self._session.run("read", self._look)
        if found.row is None:
            self._refuse_lost_snapshot(found)
            return None
        state = self._decoded(*found.row, place=self.describe(), hint=self._mend)
        rows = journal.entries(
            found.entries,
            base=state.serial,
            lineage=state.lineage,
            place=self._tables.name("journal"),
            stack=self.stack,
        )
        return fold_all(state, rows)

    def _look(self, connection: Connection) -> _Found:
        if not self._there(connection):
            return _Found(row=None)
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            row: Any = connection.execute(self._tables.sql(_SNAPSHOT), (self.stack,)).fetchone()
            if row is None:
                return _Found(row=None, remains=self._remains(connection))
            entries = connection.execute(
                self._tables.sql(
                    """select base, number, lineage, entry from {journal} where stack = %s and base >= %s
                    order by base, number"""
                ),
                (self.stack, row[0]),
            ).fetchall()
        return _Found(row=row, entries=entries)

    def _remains(self, connection: Connection) -> str:
        """The table with something of a stack that has no snapshot; "" when there is none."""
        row = connection.execute(
            self._tables.sql(
                """select exists (select from {version} where stack = %(stack)s),
                    exists (select from {journal} where stack = %(stack)s)"""
            ),
            {"stack": self.stack},
        ).fetchone()
        assert row is not None
        return self._tables.name("version") if row[0] else self._tables.name("journal") if row[1] else ""

    def _refuse_lost_snapshot(self, found: _Found) -> None:
        """No state has ever been here only if nothing of one is here: an empty state must never come of a lost row."""
        if found.remains:
            raise StateCorrupt(
                f"the snapshot of {self.describe()} is missing, but {found.remains} has rows of this stack",
                hint=f"restore its row of {self._tables.name('state')}, or delete those rows to begin anew",
            )

    @property
    def _mend(self) -> str:
        return (
            "`reconciler state history` shows older versions; write a whole one into "
            f"{self._tables.name('state')}, or restore that table from a backup"
        )

    def _decoded(self, serial: int, lineage: str, text: str, *, place: str, hint: str) -> State:
        """A row's state. Raises StateCorrupt, also where the row says something else than the text in it."""
        state = snapshot.decode(text.encode(), place=place, hint=hint)
        if (state.stack, state.serial, state.lineage) != (self.stack, serial, lineage):
            raise StateCorrupt(
                f"{place} holds serial {state.serial} of stack {state.stack!r} and lineage {state.lineage}, but its row "
                f"says serial {serial} of {self.stack!r} and {lineage}",
                hint=hint,
            )
        return state

    # -- lock

    def lock(
        self,
        operation: str,
        *,
        timeout: float = 0.0,
        on_wait: Callable[[LockInfo], None] | None = None,
        on_broken: Callable[[LockInfo], None] | None = None,
    ) -> Lease:
        self._make()
        return self._lock.acquire(operation, timeout=timeout, on_wait=on_wait, on_broken=on_broken)

    def lock_info(self) -> LockInfo | None:
        row = self._session.run(
            "read the lock of",
            lambda connection: self._lock.look(connection) if self._there(connection) else None,
        )
        return None if row is None else row.holder

    def force_unlock(self, lock_id: str) -> LockInfo:
        self._make()
        return self._lock.break_by_force(lock_id)

    # -- writing

    def append(self, lease: Lease, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        lines = [journal.encode(entry) for entry in entries]
        mine = lease.info
        at = self._tail
        self._tail = None  # until the write is known to have worked
        if at is None or at.fence != mine.fence:
            at = self._session.run(
                "read the journal of", lambda connection: self._find_tail(connection, mine)
            )
        there = at

        def told(done: bool, connection: Connection) -> bool:
            if not done:
                self._lock.demand(connection, mine)
            return done

        place = (self._tables, self.stack, mine, there, lines)
        if not self._session.run(
            "write the journal of",
            lambda connection: told(journal.insert(connection, *place), connection),
            again=lambda connection: told(journal.insert_again(connection, *place), connection),
        ):
            raise StateCorrupt(
                f"{self.describe()} was changed by something that does not hold the lock",
                hint="find out what else writes there, then run the command again",
            )
        self._tail = replace(there, number=there.number + len(lines))

    def _find_tail(self, connection: Connection, mine: LockInfo) -> journal.Tail:
        """Where this holder's first entry goes."""
        self._lock.demand(connection, mine)
        found = journal.tail(connection, self._tables, self.stack, mine.fence)
        if found is None:
            raise StoreError(
                f"{self.describe()} has no snapshot yet, so nothing can be noted in its journal",
                hint="write the first snapshot, which holds the lineage, before the first entry",
            )
        return found

    def write(self, lease: Lease, state: State) -> State:
        if state.stack != self.stack:
            raise StoreError(f"the state of stack {state.stack!r} cannot be written to {self.describe()}")
        snapshot.encode(state)  # what cannot be stored is told before anything is touched
        tried: State | None = None

        def work(connection: Connection) -> State:
            nonlocal tried
            with connection.transaction():
                now = self._lock.demand(connection, lease.info, keep=True)
                if tried is None:
                    tried = replace(state, serial=state.serial + 1, updated_at=now)
                self._replace(connection, state.serial, tried)
            return tried

        written = self._session.run("write", work)
        self._tail = journal.Tail(fence=lease.info.fence, base=written.serial, number=0)
        return written

    def _replace(self, connection: Connection, serial: int, state: State) -> None:
        """The snapshot by this one, in the running transaction; nothing when that was done before the connection broke.
        Raises StoreError when what is there is newer than `serial`."""
        text = snapshot.encode(state).decode()
        there: Any = connection.execute(
            self._tables.sql(_SNAPSHOT) + self._tables.sql(" for update"), (self.stack,)
        ).fetchone()
        if there is None:
            self._refuse_lost_snapshot(_Found(row=None, remains=self._remains(connection)))
        elif there[2] == text:
            return
        elif there[0] > serial:
            raise StoreError(
                f"{self.describe()} is at serial {there[0]} already, newer than the {serial} to be written",
                hint="read the state again; to go back on purpose, push it with the current serial",
            )
        history.keep(connection, self._tables, self.stack)
        connection.execute(
            self._tables.sql(
                """insert into {state} (stack, serial, lineage, written_at, sandboxes, snapshot)
                values (%s, %s, %s, %s, %s, %s)
                on conflict (stack) do update set serial = excluded.serial, lineage = excluded.lineage,
                    written_at = excluded.written_at, sandboxes = excluded.sandboxes, snapshot = excluded.snapshot"""
            ),
            (self.stack, state.serial, state.lineage, state.updated_at, len(state.sandboxes), text),
        )
        connection.execute(self._tables.sql("delete from {journal} where stack = %s"), (self.stack,))
        history.prune(connection, self._tables, self.stack)

    # -- versions

    def history(self) -> Sequence[Version]:
        def work(connection: Connection) -> Sequence[Version]:
            return history.versions(connection, self._tables, self.stack) if self._there(connection) else ()

        return self._session.run("read the versions of", work)

    def version(self, serial: int) -> State:
        def work(connection: Connection) -> tuple[int, str, str] | None:
            return (
                history.row(connection, self._tables, self.stack, serial) if self._there(connection) else None
            )

        found = self._session.run("read a version of", work)
        if found is None:
            raise no_version(self.describe(), serial, self.history())
        place = f"version {serial} of {self.describe()}"
        return self._decoded(*found, place=place, hint=history.ANOTHER)

    # -- key

    def secret_key(self, *, create: bool) -> bytes | None:
        given = keys.given(self._environ, instead=f"the key in {self._address.shown}")
        if given is not None:
            return given
        found = self._session.run("read the key of", self._read_key)
        if found is not None or not create:
            return found
        self._make()
        made = keys.encode(keys.new()).decode()

        def work(connection: Connection) -> None:
            connection.execute(
                self._tables.sql("insert into {key} (stack, key) values (%s, %s) on conflict do nothing"),
                (self.stack, made),
            )

        self._session.run("write the key of", work)  # another may have been faster
        return self._session.run("read the key of", self._read_key)

    def _read_key(self, connection: Connection) -> bytes | None:
        if not self._there(connection):
            return None
        row = connection.execute(
            self._tables.sql("select key from {key} where stack = %s"), (self.stack,)
        ).fetchone()
        if row is None:
            return None
        return keys.decode(row[0].encode(), place=f"the key of {self.stack} in {self._tables.name('key')}")

    # -- people

    def check(self) -> Sequence[tuple[str, bool, str]]:
        return checks.all_of(
            self._session, self._tables, read=self.read, history=self.history, holder=self.lock_info
        )

    def close(self) -> None:
        self._session.close()
