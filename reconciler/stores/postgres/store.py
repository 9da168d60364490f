"""`PostgresStore`: state, journal, lock and key of one stack in a database that many machines share.

Reading never writes, and sees one moment: snapshot and journal come from one repeatable read. Each write is one
transaction that holds the lock's row, compares fence and serial, and is committed durably before it returns. When the
connection breaks, what was asked is asked again on a new one; every write can tell whether it was done before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.fold import fold_all
from reconciler.errors import ConfigError, StateCorrupt, StoreError
from reconciler.model.desired import Secret
from reconciler.model.outcome import Entry
from reconciler.model.state import State
from reconciler.stores import chained, keys
from reconciler.stores.base import Lease, LockInfo, Store, Version, no_place_for_key, no_version
from reconciler.stores.host import Host, this_host
from reconciler.stores.postgres import address, checks, history, journal, sealed, snapshots
from reconciler.stores.postgres.layout import Tables, encoding_problem
from reconciler.stores.postgres.lease import Lock, Timing
from reconciler.stores.postgres.session import Connection, Session
from reconciler.stores.postgres.snapshots import Row, Written
from reconciler.stores.sealing import KEY, PLAIN, SNAPSHOT, Sealer


class _Found(Struct, frozen=True, kw_only=True):
    """What one look saw: the snapshot's row, the journal's rows from it on, and whether anything else is there."""

    row: Row | None
    entries: Sequence[tuple[Any, ...]] = ()
    remains: str = ""


class PostgresStore(Store):
    """One stack's state at `url`, in tables of `schema` whose names begin with `table`. `timeout` bounds each answer of
    the server, in seconds; `sealer` encrypts all of it but the lock. The keyword arguments after it are seams for tests: the
    lease's times, this machine, the environment (for RECONCILER_STATE_KEY)."""

    options: tuple[str, ...] = ("url", "schema", "table", "timeout")

    def __init__(
        self,
        stack: str,
        *,
        url: Secret | str,
        schema: str = "public",
        table: str = "reconciler",
        timeout: float = 10.0,
        sealer: Sealer = PLAIN,
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
        self._sealer = sealer
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
        state = self._decoded(found.row, place=self.describe(), hint=self._mend)
        return fold_all(state, self._journal(found.row, found.entries).entries)

    def _look(self, connection: Connection) -> _Found:
        if not self._there(connection):
            return _Found(row=None)
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            return self._rows(connection)

    def _rows(self, connection: Connection) -> _Found:
        """In the running transaction."""
        row = snapshots.row(connection, self._tables, self.stack)
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

    def _journal(self, row: Row, entries: Sequence[tuple[Any, ...]]) -> chained.Journal:
        place = self._tables.name("journal")
        return journal.decode(entries, row, place=place, stack=self.stack, sealer=self._sealer)

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

    def _decoded(self, row: Row, *, place: str, hint: str) -> State:
        return snapshots.decoded(row, self._sealer, stack=self.stack, place=place, hint=hint)

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
        mine = lease.info
        at = self._tail
        self._tail = None  # until the write is known to have worked
        if at is None or at.fence != mine.fence:
            at = self._session.run(
                "read the journal of", lambda connection: self._find_tail(connection, mine)
            )
        there = at
        lines, chain = journal.encode(entries, there.chain, self._sealer)

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
        self._tail = replace(there, chain=chain)

    def _find_tail(self, connection: Connection, mine: LockInfo) -> journal.Tail:
        """Where this holder's first entry goes: after what another left, sealed anew if its key has changed."""
        with connection.transaction():
            self._lock.demand(connection, mine, keep=True)
            found = self._rows(connection)
            if found.row is None:
                raise StoreError(
                    f"{self.describe()} has no snapshot yet, so nothing can be noted in its journal",
                    hint="write the first snapshot, which holds the lineage, before the first entry",
                )
            self._open_snapshot(found.row[2])
            kept = self._journal(found.row, found.entries)
            tail = journal.Tail(fence=mine.fence, base=found.row[0], chain=kept.chain)
            if not kept.fresh:
                lines, chain = journal.encode(kept.entries, chained.on(found.row[2].encode()), self._sealer)
                journal.rewrite(connection, self._tables, self.stack, tail, lines)
                tail = replace(tail, chain=chain)
        return tail

    def _open_snapshot(self, text: str) -> None:
        """Raises StoreError for one that no key opens: nothing is written after, or over, what cannot be opened."""
        self._sealer.open(SNAPSHOT, text.encode(), place=self.describe(), hint=self._mend)

    def write(self, lease: Lease, state: State) -> State:
        if state.stack != self.stack:
            raise StoreError(f"the state of stack {state.stack!r} cannot be written to {self.describe()}")
        snapshots.written(state, self._sealer)  # what cannot be stored is told before anything is touched
        tried: Written | None = None

        def work(connection: Connection) -> Written:
            nonlocal tried
            with connection.transaction():
                now = self._lock.demand(connection, lease.info, keep=True)
                if tried is None:  # the same to the byte, should it be asked again
                    made = replace(state, serial=state.serial + 1, updated_at=now)
                    tried = snapshots.written(made, self._sealer)
                self._replace(connection, state.serial, tried)
            return tried

        done = self._session.run("write", work)
        self._tail = journal.Tail(
            fence=lease.info.fence, base=done.state.serial, chain=chained.on(done.text.encode())
        )
        return done.state

    def _replace(self, connection: Connection, serial: int, new: Written) -> None:
        """The snapshot by this one, in the running transaction; nothing when that was done before the connection broke.
        Raises StoreError when what is there is newer than `serial`, or no key opens it. When keys changed since it was
        written, all that is kept beside it is sealed anew first."""
        there = snapshots.row(connection, self._tables, self.stack, keep=True)
        if there is None:
            self._refuse_lost_snapshot(_Found(row=None, remains=self._remains(connection)))
        elif there[2] == new.text:
            return
        elif there[0] > serial:
            raise StoreError(
                f"{self.describe()} is at serial {there[0]} already, newer than the {serial} to be written",
                hint="read the state again; to go back on purpose, push it with the current serial",
            )
        else:
            self._open_snapshot(there[2])
        if there is None or not self._sealer.fresh(there[2].encode()):
            sealed.reseal(connection, self._tables, self.stack, self._sealer)
        history.keep(connection, self._tables, self.stack)
        snapshots.put(connection, self._tables, self.stack, new)
        connection.execute(self._tables.sql("delete from {journal} where stack = %s"), (self.stack,))
        history.prune(connection, self._tables, self.stack)

    # -- versions

    def keep(self, lease: Lease, versions: Sequence[State]) -> int:
        older = [snapshots.written(state, self._sealer) for state in versions]

        def work(connection: Connection) -> int:
            with connection.transaction():
                self._lock.demand(connection, lease.info, keep=True)
                return history.take(connection, self._tables, self.stack, older)

        return self._session.run("write older versions of", work)

    def history(self) -> Sequence[Version]:
        def work(connection: Connection) -> Sequence[tuple[Version, str | None]]:
            if not self._there(connection):
                return ()
            return history.rows(connection, self._tables, self.stack, texts=self._sealer.enforced)

        found = self._session.run("read the versions of", work)
        return history.versions(found, self._sealer, stack=self.stack, place=self.describe())

    def version(self, serial: int) -> State:
        def work(connection: Connection) -> Row | None:
            return (
                history.row(connection, self._tables, self.stack, serial) if self._there(connection) else None
            )

        found = self._session.run("read a version of", work)
        if found is None:
            raise no_version(self.describe(), serial, self.history())
        place = f"version {serial} of {self.describe()}"
        return self._decoded(found, place=place, hint=history.ANOTHER)

    def unsealed(self, data: bytes, *, place: str) -> bytes:
        return self._sealer.unsealed(data, place=place)

    # -- key

    def secret_key(self, *, create: bool) -> bytes | None:
        given = keys.given(self._environ, instead=f"the key in {self._address.shown}")
        if given is not None:
            return given
        found = self._session.run("read the key of", self._read_key)
        if found is not None or not create:
            return found
        self._make()
        made = self._sealer.seal(KEY, keys.encode(keys.new())).decode()

        def work(connection: Connection) -> None:
            connection.execute(
                self._tables.sql("insert into {key} (stack, key) values (%s, %s) on conflict do nothing"),
                (self.stack, made),
            )

        self._session.run("write the key of", work)  # another may have been faster
        return self._session.run("read the key of", self._read_key)

    def take_key(self, lease: Lease, key: bytes) -> None:
        if self._environ.get(keys.KEY_VARIABLE) is not None:
            raise no_place_for_key(self.describe())
        text = self._sealer.seal(KEY, keys.encode(key)).decode()

        def work(connection: Connection) -> None:
            with connection.transaction():
                self._lock.demand(connection, lease.info, keep=True)
                connection.execute(
                    self._tables.sql(
                        """insert into {key} (stack, key) values (%s, %s)
                        on conflict (stack) do update set key = excluded.key"""
                    ),
                    (self.stack, text),
                )

        self._session.run("write the key of", work)

    def _read_key(self, connection: Connection) -> bytes | None:
        if not self._there(connection):
            return None
        row = connection.execute(
            self._tables.sql("select key from {key} where stack = %s"), (self.stack,)
        ).fetchone()
        if row is None:
            return None
        place = sealed.key_place(self._tables, self.stack)
        return keys.decode(self._sealer.open(KEY, row[0].encode(), place=place), place=place)

    # -- people

    def check(self) -> Sequence[tuple[str, bool, str]]:
        found = checks.all_of(
            self._session, self._tables, read=self.read, history=self.history, holder=self.lock_info
        )
        if self._sealer.seals:
            found += checks.encryption(self._session, self._tables, self.stack)
        return found

    def close(self) -> None:
        self._session.close()
