"""The lock that the server keeps: taken, looked at, given back, and broken where its holder is certainly dead.

The protocol has no lease. Nothing tells a holder elsewhere that died from one that is slow, so its lock is broken by
people alone (`force-unlock`); that of a process on this machine is broken as soon as the process is gone. Nor can one
look at a lock: who wants to know takes it, and gives it back if that worked.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from msgspec import Struct

from reconciler.errors import LeaseLost, StoreError
from reconciler.stores.base import Lease, LockInfo, lease_lost, lock_held, nothing_to_unlock, other_lock
from reconciler.stores.http.addresses import Addresses, shown
from reconciler.stores.http.answers import DONE, TAKEN, refused, web_page
from reconciler.stores.http.holder import Myself, is_look, told
from reconciler.stores.http.wire import Wire

_Heard = Callable[[LockInfo], None]
_LOOK_PATIENCE = 2.0  # seconds; who only looks is gone in a moment
_LOOK_POLL = 0.05
_BREAKS = 5  # of dead holders in a row, before something else is wrong


class HttpLock(Struct, frozen=True, kw_only=True):
    """The lock of one state; `subject` is what it protects, for messages."""

    wire: Wire
    addresses: Addresses
    myself: Myself
    subject: str

    def acquire(
        self, operation: str, *, timeout: float, on_wait: _Heard | None, on_broken: _Heard | None
    ) -> HttpLease:
        """Takes the lock, waiting up to `timeout` seconds for it. Raises LockHeld."""
        pace = self.wire.pace
        mine = self.myself.holds(operation, now=pace.now())
        started = pace.monotonic()
        waited = False
        broken: list[LockInfo] = []
        while True:
            other = self._take(mine)
            if other is None:
                for dead in broken[:1]:
                    if on_broken is not None:
                        on_broken(dead)
                return HttpLease(self, mine)
            if self.myself.outlived(other.id) and len(broken) < _BREAKS:
                self._break(other)
                broken.append(other)
                continue
            gone_by = pace.monotonic() - started
            if is_look(other) and gone_by < _LOOK_PATIENCE:
                pace.sleep(_LOOK_POLL)
                continue
            if gone_by >= timeout:
                raise self._held(other)
            if not waited and on_wait is not None:
                on_wait(other)
            waited = True
            pace.sleep(min(pace.poll, timeout - gone_by))

    def look(self) -> LockInfo | None:
        """Who holds it, None when nobody does. Takes it for a moment to find out."""
        pace = self.wire.pace
        started = pace.monotonic()
        while True:
            mine = self.myself.looks(now=pace.now())
            other = self._take(mine)
            if other is None:
                self.give_back(mine)
                return None
            if not is_look(other) or pace.monotonic() - started >= _LOOK_PATIENCE:
                return other
            if self.myself.outlived(other.id):
                return other
            pace.sleep(_LOOK_POLL)

    def excludes(self) -> bool:
        """Whether a second taking is refused while the lock is held; False shows a server that keeps no lock. To be
        asked while nobody holds it."""
        first = self.myself.looks(now=self.wire.pace.now())
        if self._take(first) is not None:
            return True
        try:
            return self._take(self.myself.looks(now=self.wire.pace.now())) is not None
        finally:
            self.give_back(first)

    def _take(self, mine: LockInfo) -> LockInfo | None:
        """None once it is ours; else who has it. Asked again after an answer got lost, it finds our own id."""
        doing, url = "take the lock", self.addresses.lock
        answer = self.wire.ask(self.addresses.lock_method, url, self.myself.written(mine))
        if answer.status in DONE:
            if answer.page:
                raise web_page(doing=doing, url=url)
            return None
        if answer.status in TAKEN:
            other = told(answer.body)
            return None if other.id == mine.id else other
        raise refused(answer, doing=doing, url=url, wire=self.wire)

    def _break(self, dead: LockInfo) -> None:
        """Give back what a dead process held. Its id goes with it, so that a server which looks at it refuses to take
        the lock from somebody who was faster; then it is not free, which the next try shows."""
        with contextlib.suppress(_NotOurs):
            self.give_back(dead)

    def give_back(self, info: LockInfo) -> None:
        """Raises StoreError when the server does not take it back."""
        doing, url = "give the lock back", self.addresses.unlock
        answer = self.wire.ask(self.addresses.unlock_method, url, self.myself.written(info))
        if answer.status in TAKEN:
            raise _NotOurs(f"the lock of {self.subject} is not the one of id {info.id}")
        if answer.status not in DONE:
            error = refused(answer, doing=doing, url=url, wire=self.wire)
            raise StoreError(
                error.message, hint=f"{error.hint}; then `reconciler force-unlock {info.id}` frees it"
            )
        if answer.page:
            raise web_page(doing=doing, url=url)

    def demand(self, mine: LockInfo) -> None:
        """Raises LeaseLost unless the lock is `mine`. A server that does not tell who holds it leaves that open: it
        refuses what is written under the wrong id, or it does not."""
        other = self.look()
        if other is None or (other.id and other.id != mine.id):
            raise lease_lost(self.subject, other)

    def break_by_force(self, lock_id: str) -> LockInfo:
        """Frees it whoever holds it. Raises StoreError when the id is another or nobody holds it."""
        other = self.look()
        if other is None:
            raise nothing_to_unlock(self.subject)
        if not other.id:  # not told: the server has to know whether it is that one
            other = LockInfo(
                id=lock_id, who="", host="", pid=0, operation="", since=0.0, expires=0.0, fence=0
            )
        if other.id != lock_id:
            raise other_lock(self.subject, other, lock_id)
        self.give_back(other)
        return other

    def _held(self, other: LockInfo) -> StoreError:
        error = lock_held(self.subject, other, now=self.wire.pace.now())
        if other.id:
            return error
        error.hint = (
            f"wait for it with `--lock-timeout 5m`; {shown(self.addresses.lock)} does not tell the lock's id, so look "
            "at the server for it if that run is certainly dead"
        )
        return error


class _NotOurs(StoreError):
    """What was to be given back is somebody else's by now."""


class HttpLease(Lease):
    """A held lock. Nothing keeps it alive, for nothing ends it but giving it back."""

    def __init__(self, lock: HttpLock, info: LockInfo) -> None:
        self.info = info
        self._lock = lock
        self._released = False

    def check(self) -> None:
        self.check_here()
        self._lock.demand(self.info)

    def check_here(self) -> None:
        """The same without asking the server, which looks at the id of each write itself."""
        if self._released:
            raise LeaseLost(f"the lock of {self._lock.subject} was released already")

    def release(self) -> None:
        if self._released:
            return
        self._released = True
        with contextlib.suppress(StoreError):
            self._lock.give_back(self.info)
