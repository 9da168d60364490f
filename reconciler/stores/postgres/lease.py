"""The lock of one stack: a row that outlives its holders, because the fence in it must only ever grow.

A holder on this machine is broken as soon as its process is gone, and never before; one elsewhere once its lease has
run out. All times are the server's, so clocks of clients need not agree. Every write holds the row from the look at the
fence until it is committed, and taking the lock changes that row: nobody can take it between the look and the write.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from reconciler.errors import LeaseLost, StoreError
from reconciler.stores.base import Lease, LockInfo, lease_lost, lock_held, nothing_to_unlock, other_lock
from reconciler.stores.host import Host
from reconciler.stores.postgres.layout import Tables
from reconciler.stores.postgres.session import Connection, Session

_Heard = Callable[[LockInfo], None]
_LOOK = """
    select fence, id, who, host, pid, operation, extract(epoch from since)::float8,
           extract(epoch from expires)::float8, boot, began, expires <= clock_timestamp(),
           extract(epoch from clock_timestamp())::float8
      from {lock} where stack = %s
"""


class Timing(Struct, frozen=True, kw_only=True):
    """Seconds. A lease lasts `lease` seconds by the server's clock and is renewed every `renew`; a waiting run looks
    every `poll`, by `monotonic`."""

    lease: float = 30.0
    renew: float = 10.0
    poll: float = 0.2
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class _Row(Struct, frozen=True, kw_only=True):
    """The lock as the server has it, at `now` by its clock. `late`: the holder's lease has run out."""

    fence: int
    holder: LockInfo | None
    boot: str
    began: str
    late: bool
    now: float


def _row(values: tuple[Any, ...]) -> _Row:
    fence, lock_id, who, host, pid, operation, since, expires, boot, began, late, now = values
    holder = None
    if lock_id is not None:
        holder = LockInfo(
            id=lock_id,
            who=who,
            host=host,
            pid=pid,
            operation=operation,
            since=since,
            expires=expires,
            fence=fence,
        )
    return _Row(fence=fence, holder=holder, boot=boot or "", began=began or "", late=late is True, now=now)


class Lock(Struct, frozen=True, kw_only=True):
    """The lock of `stack`; `subject` is what it protects, for messages. `beside` makes a session of its own for a
    heartbeat."""

    stack: str
    subject: str
    tables: Tables
    session: Session
    beside: Callable[[], Session]
    host: Host
    timing: Timing

    def acquire(
        self, operation: str, *, timeout: float, on_wait: _Heard | None, on_broken: _Heard | None
    ) -> PostgresLease:
        """Takes the lock, waiting up to `timeout` seconds for it. Raises LockHeld."""
        gives_up = self.timing.monotonic() + timeout
        lock_id, waited = uuid.uuid4().hex, False
        while True:
            row, taken = self.session.run(
                "lock", lambda connection: self._try(connection, lock_id, operation)
            )
            if taken is not None:
                if row.holder is not None and row.holder.id != lock_id and on_broken is not None:
                    on_broken(row.holder)
                return PostgresLease(self, taken)
            if row.holder is None:
                continue  # another was faster, and is done already
            remaining = gives_up - self.timing.monotonic()
            if remaining <= 0:
                raise lock_held(self.subject, row.holder, now=row.now)
            if not waited and on_wait is not None:
                on_wait(row.holder)
            waited = True
            self.timing.sleep(min(self.timing.poll, remaining))

    def _try(self, connection: Connection, lock_id: str, operation: str) -> tuple[_Row, LockInfo | None]:
        """What was there, and the lock if it is ours now. The look takes nothing, so those who wait do not stand in the
        holder's way."""
        row = self.look(connection)
        if row is None:
            connection.execute(
                self.tables.sql("insert into {lock} (stack) values (%s) on conflict do nothing"),
                (self.stack,),
            )
            row = self.look(connection)
            assert row is not None
        if row.holder is not None and row.holder.id == lock_id:
            return row, row.holder  # by a connection that broke before it could say so
        if row.holder is not None and not self._gone(row, row.holder):
            return row, None
        self._take(connection, row, lock_id, operation)
        after = self.look(connection)
        assert after is not None
        if after.holder is not None and after.holder.id == lock_id:
            return row, after.holder
        return after, None

    def _gone(self, row: _Row, holder: LockInfo) -> bool:
        """Whether its lock may be broken: its process is certainly gone, or it is elsewhere and out of time."""
        if not self.host.judges(name=holder.host, boot=row.boot):
            return row.late
        return self.host.ended(holder.pid, began=row.began)

    def _take(self, connection: Connection, seen: _Row, lock_id: str, operation: str) -> None:
        """Take it, if it is still as it was seen: a heartbeat may have come in between, or another taker."""
        here = seen.holder is not None and self.host.judges(name=seen.holder.host, boot=seen.boot)
        connection.execute(
            self.tables.sql(
                """update {lock} set fence = fence + 1, id = %(id)s, who = %(who)s, host = %(host)s, pid = %(pid)s,
                    operation = %(operation)s, since = now(), expires = now() + make_interval(secs => %(lease)s),
                    boot = %(boot)s, began = %(began)s
                where stack = %(stack)s and fence = %(fence)s and id is not distinct from %(seen)s
                    and (id is null or %(here)s or expires <= clock_timestamp())"""
            ),
            {
                "id": lock_id,
                "who": self.host.who,
                "host": self.host.name,
                "pid": self.host.pid,
                "operation": operation,
                "lease": self.timing.lease,
                "boot": self.host.boot,
                "began": self.host.began(),
                "stack": self.stack,
                "fence": seen.fence,
                "seen": None if seen.holder is None else seen.holder.id,
                "here": here,
            },
        )

    def look(self, connection: Connection, *, keep: bool = False) -> _Row | None:
        """The row; None before the first taking. `keep` holds it until the end of the transaction."""
        statement = self.tables.sql(_LOOK) + self.tables.sql(" for update" if keep else "")
        values = connection.execute(statement, (self.stack,)).fetchone()
        return None if values is None else _row(values)

    def demand(self, connection: Connection, mine: LockInfo, *, keep: bool = False) -> float:
        """What time it is by the server's clock. Raises LeaseLost unless the lock is `mine`."""
        row = self.look(connection, keep=keep)
        holder = None if row is None else row.holder
        if row is None or holder is None or (holder.id, holder.fence) != (mine.id, mine.fence):
            raise lease_lost(self.subject, holder)
        return row.now

    def renew(self, session: Session, mine: LockInfo) -> None:
        """Another `timing.lease` seconds from now. Raises LeaseLost."""

        def work(connection: Connection) -> None:
            done = connection.execute(
                self.tables.sql(
                    """update {lock} set expires = now() + make_interval(secs => %s)
                    where stack = %s and id = %s and fence = %s"""
                ),
                (self.timing.lease, self.stack, mine.id, mine.fence),
            )
            if done.rowcount == 0:
                self.demand(connection, mine)

        session.run("renew the lock of", work, patient=False)

    def give_back(self, lock_id: str) -> None:
        """Frees it; nothing happens when it is another's by now."""
        self.session.run("unlock", lambda connection: self._free(connection, lock_id), patient=False)

    def _free(self, connection: Connection, lock_id: str) -> None:
        connection.execute(
            self.tables.sql(
                """update {lock} set id = null, who = null, host = null, pid = null, operation = null, since = null,
                    expires = null, boot = null, began = null where stack = %s and id = %s"""
            ),
            (self.stack, lock_id),
        )

    def break_by_force(self, lock_id: str) -> LockInfo:
        """Frees it whoever holds it; the fence stays, so its holder is refused from now on."""

        def work(connection: Connection) -> LockInfo:
            with connection.transaction():
                row = self.look(connection, keep=True)
                if row is None or row.holder is None:
                    raise nothing_to_unlock(self.subject)
                if row.holder.id != lock_id:
                    raise other_lock(self.subject, row.holder, lock_id)
                self._free(connection, lock_id)
            return row.holder

        return self.session.run("unlock", work)


class PostgresLease(Lease):
    """A held lock. A daemon thread renews it until `release`, on a connection of its own, so that no long statement
    delays it; when it finds the lock taken it stops, and `check` raises from then on."""

    def __init__(self, lock: Lock, info: LockInfo) -> None:
        self.info = info
        self._lock = lock
        self._session = lock.beside()
        self._released = threading.Event()
        self.lost: LeaseLost | None = None  # what the heartbeat has found out
        self._heart = threading.Thread(target=self._live, name=f"lease {info.id[:8]}", daemon=True)
        self._heart.start()

    def _live(self) -> None:
        try:
            while not self._released.wait(self._lock.timing.renew):
                if not self.beat():
                    return
        finally:
            self._session.close()

    def beat(self) -> bool:
        """Renew the lease once, as the thread does in its time; False when the lock is somebody else's."""
        try:
            self._lock.renew(self._session, self.info)
        except LeaseLost as lost:
            self.lost = lost
            return False
        except StoreError:
            return True  # the server may be back by the next beat; `check` reads the truth anyway
        return True

    def check(self) -> None:
        if self.lost is not None:
            raise LeaseLost(self.lost.message, hint=self.lost.hint)
        if self._released.is_set():
            raise LeaseLost(f"the lock of {self._lock.subject} was released already")
        self._lock.session.run(
            "read the lock of", lambda connection: self._lock.demand(connection, self.info)
        )

    def release(self) -> None:
        if self._released.is_set():
            return
        self._released.set()
        if threading.current_thread() is not self._heart:
            self._heart.join(timeout=1.0)
        with contextlib.suppress(StoreError):
            self._lock.give_back(self.info.id)
