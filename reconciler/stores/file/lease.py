"""The lock of one stack: a record in `<stack>.lock`, changed only under the guard, and the lease of whoever holds it.

The record outlives its holders, because the fence in it must only ever grow. A holder on this machine is broken as
soon as its process is gone, and never before. Of a holder elsewhere nothing but its heartbeat can be seen, so it is
broken when it was watched for a whole lease without one. Every writer checks lease and fence under the guard, so
that nobody can take the lock between the check and the write.

No decision rests on what time it is: wall clocks of different machines disagree, and jump. They only tell people how
old things are, and a run that was not to wait whether watching is worth it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.errors import LeaseLost, LockHeld, StoreError
from reconciler.stores.base import Lease, LockInfo, lease_lost, lock_held, nothing_to_unlock, other_lock
from reconciler.stores.file import disk
from reconciler.stores.file.record import Holder, Record, read_record
from reconciler.stores.host import Host, this_host

_Heard = Callable[[LockInfo], None]


def _chance() -> float:
    """In [0, 1). Not `random`, which takes longer to import than a lock to take."""
    return int.from_bytes(os.urandom(2)) / 65536


class Timing(Struct, frozen=True, kw_only=True):
    """Seconds, and where they come from: `now` since the epoch, `monotonic` for waiting. A lease lasts `lease`
    seconds and is renewed every `renew`; a waiting run looks every `poll`, give or take a half by `jitter`, which is in
    [0, 1), so that many of them do not come at once."""

    lease: float = 30.0
    renew: float = 10.0
    poll: float = 0.2
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = _chance


class _Watch:
    """What one waiting run has seen of a holder elsewhere, by its own monotonic clock.

    Time in which it did not look itself counts little: what stopped it, a suspended machine or a frozen container,
    may have stopped the holder as well, which must get the time to show that it lives."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._most = timing.lease / 6
        self._sign: object = None
        self._at = 0.0
        self._silent = 0.0
        self.lives = False  # it was seen to renew its lease

    def left(self, holder: Holder) -> float:
        """Look once more. Seconds without a sign of life that are missing until it counts as gone; 0 when it does."""
        now = self._timing.monotonic()
        if holder.sign == self._sign:
            self._silent += min(max(0.0, now - self._at), self._most)
        else:
            self.lives = isinstance(self._sign, tuple) and self._sign[0] == holder.info.id
            self._sign, self._silent = holder.sign, 0.0
        self._at = now
        return max(0.0, self._timing.lease - self._silent)


class LockFile(Struct, frozen=True, kw_only=True):
    """The lock at `path`; `subject` is what it protects, for messages. `prefix` names temporary files; `tidy` removes
    those of killed runs that are elsewhere than beside the lock."""

    path: Path
    subject: str
    prefix: str
    host: Host | None = None  # None: this machine, looked at when a lock is
    timing: Timing = field(default_factory=Timing)
    tidy: Callable[[], None] = lambda: None

    @property
    def _host(self) -> Host:
        return self.host or this_host()

    def guarded(self) -> contextlib.AbstractContextManager[None]:
        """Excludes every other thread and process that changes anything of this stack."""
        return disk.guard(self.path.with_name(self.path.name + ".guard"))

    def acquire(
        self, operation: str, *, timeout: float, on_wait: _Heard | None, on_broken: _Heard | None
    ) -> FileLease:
        """Takes the lock, waiting up to `timeout` seconds for it. Raises LockHeld."""
        gives_up = self.timing.monotonic() + timeout
        watch = _Watch(self.timing)
        waited = False
        disk.make_directory(self.path.parent)
        if self._others_wait() and self.record().holder is None:
            self.timing.sleep(self._pace())  # they came before us
        while True:
            taken, other = self._try(operation, watch)
            if taken is not None:
                if other is not None and on_broken is not None:
                    on_broken(other.info)
                return FileLease(self, taken)
            assert other is not None
            remaining = max(gives_up - self.timing.monotonic(), self._worth_watching(other, watch))
            if remaining <= 0:
                raise self._held(other)
            if not waited and on_wait is not None:
                on_wait(other.info)
            waited = True
            self._wait_in_sight()
            self.timing.sleep(min(self._pace(), remaining))

    def _try(self, operation: str, watch: _Watch) -> tuple[LockInfo | None, Holder | None]:
        """(ours, the dead one whose lock was broken, if any) or (None, who holds it). Without the guard as long as
        somebody does: those who wait must not be in the way of the one who works."""
        other = self.record().holder
        if other is not None and not self._gone(other, watch):
            return None, other
        with self.guarded():
            record = self.record()
            other = record.holder
            if other is not None and not self._gone(other, watch):
                return None, other
            disk.sweep(self.path.parent, prefix=self.prefix)
            self.tidy()
            mine = self._myself(operation, record.next_fence)
            self._put(Record(fence=mine.info.fence, holder=mine), durable=True)
            with contextlib.suppress(OSError):
                self._waiting.unlink()
        return mine.info, other

    def _pace(self) -> float:
        """Seconds until the next look. The same however long it has been waited: who would look less often with the time
        would be overtaken by everybody who comes later."""
        return self.timing.poll * (0.5 + self.timing.jitter())

    @property
    def _waiting(self) -> Path:
        return self.path.with_name(self.path.name + ".waiting")

    def _wait_in_sight(self) -> None:
        """Leave a mark, which whoever gets the lock takes away: as long as there is one, those who come later, or had the
        lock and want it again, let others have a look first. Only a courtesy: it may be missing, and nobody trusts it."""
        with contextlib.suppress(OSError):
            os.close(os.open(self._waiting, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))

    def _others_wait(self) -> bool:
        return self._waiting.exists()

    def _myself(self, operation: str, fence: int) -> Holder:
        now = self.timing.now()
        info = LockInfo(
            id=uuid.uuid4().hex,
            who=self._host.who,
            host=self._host.name,
            pid=self._host.pid,
            operation=operation,
            since=now,
            expires=now + self.timing.lease,
            fence=fence,
        )
        return Holder(info=info, boot=self._host.boot, started=self._host.began())

    def _is_here(self, holder: Holder) -> bool:
        """Whether its pid means something to us."""
        return self._host.judges(name=holder.info.host, boot=holder.boot)

    def abandoned(self) -> bool:
        """Whether the process that holds the lock was one of this machine, and is certainly gone."""
        holder = self.record().holder
        return holder is not None and self._is_here(holder) and self._ended(holder)

    def _ended(self, holder: Holder) -> bool:
        return self._host.ended(holder.info.pid, began=holder.started)

    def _gone(self, holder: Holder, watch: _Watch) -> bool:
        """Whether its lock may be broken: its process is certainly gone, or it is elsewhere and was watched for a
        whole lease in vain."""
        if not self._is_here(holder):
            return watch.left(holder) <= 0
        return self._ended(holder)

    def _worth_watching(self, holder: Holder, watch: _Watch) -> float:
        """How long to go on even when nobody asked to wait, in seconds: until it is known whether a holder elsewhere
        lives, if its lease is over by our clock, or can only be of a clock that disagrees with ours."""
        lasts = holder.info.expires - self.timing.now()
        if watch.lives or self._is_here(holder) or 0 < lasts <= 2 * self.timing.lease:
            return 0.0
        return watch.left(holder)

    def record(self) -> Record:
        """What the file says. Raises StateCorrupt when that is nothing of ours."""
        return read_record(self.path)

    def _put(self, record: Record, *, durable: bool) -> None:
        disk.replace_file(self.path, record.encode(), prefix=self.prefix, durable=durable)

    @contextlib.contextmanager
    def held_by(self, lease: Lease) -> Iterator[None]:
        """The guard, with the certainty that the lease holds the lock inside. Raises LeaseLost."""
        with self.guarded():
            self.demand(lease.info)
            yield

    def demand(self, mine: LockInfo) -> Holder:
        """The holder's record. Raises LeaseLost unless it says that the lock is `mine`."""
        held = self.record().holder
        if held is not None and (held.info.id, held.info.fence) == (mine.id, mine.fence):
            return held
        raise lease_lost(self.subject, None if held is None else held.info)

    def renew(self, mine: LockInfo) -> None:
        """Another `timing.lease` seconds from now. Raises LeaseLost."""
        with self.guarded():
            held = self.demand(mine)
            info = replace(held.info, expires=self.timing.now() + self.timing.lease)
            beaten = replace(held, info=info, beats=held.beats + 1)
            self._put(Record(fence=info.fence, holder=beaten), durable=False)

    def give_back(self, mine: LockInfo) -> None:
        """Frees it; nothing happens when it is not `mine` any more."""
        with self.guarded():
            record = self.record()
            if record.holder is not None and record.holder.info.id == mine.id:
                self._put(replace(record, holder=None), durable=False)

    def break_by_force(self, lock_id: str) -> LockInfo:
        """Frees it whoever holds it; the fence stays, so its holder is refused from now on."""
        if not disk.exists(self.path):
            raise nothing_to_unlock(self.subject)
        with self.guarded():
            record = self.record()
            if record.holder is None:
                raise nothing_to_unlock(self.subject)
            info = record.holder.info
            if info.id != lock_id:
                raise other_lock(self.subject, info, lock_id)
            self._put(replace(record, holder=None), durable=True)
        return info

    def _held(self, holder: Holder) -> LockHeld:
        held = lock_held(self.subject, holder.info, self.timing.now())
        if self._is_here(holder) and self.timing.now() >= holder.info.expires:
            pid = holder.info.pid
            held.hint = (
                f"that process lives, but does nothing: let it go on (`kill -CONT {pid}`) or end it (`kill -KILL {pid}`), "
                "and run the command again"
            )
        return held


class FileLease(Lease):
    """A held lock. A daemon thread renews it until `release`; when it finds the lock taken it stops, and `check`
    raises from then on."""

    def __init__(self, lock: LockFile, info: LockInfo) -> None:
        self.info = info
        self._lock = lock
        self._released = threading.Event()
        self._heart = threading.Thread(target=self._live, name=f"lease {info.id[:8]}", daemon=True)
        self._heart.start()

    def _live(self) -> None:
        while not self._released.wait(self._lock.timing.renew):
            if not self.beat():
                return

    def beat(self) -> bool:
        """Renew the lease once, as the thread does in its time; False when the lock is somebody else's."""
        try:
            self._lock.renew(self.info)
        except LeaseLost as lost:
            self.lost = lost
            return False
        except StoreError:
            return True  # a full disk may have room again by the next beat; `check` reads the truth anyway
        return True

    def check(self) -> None:
        if self._released.is_set():
            raise LeaseLost(f"the lock of {self._lock.subject} was released already")
        self._lock.demand(self.info)  # first, because it knows who holds it by now
        if self.lost is not None:
            raise LeaseLost(self.lost.message, hint=self.lost.hint)

    def release(self) -> None:
        if self._released.is_set():
            return
        self._released.set()
        if threading.current_thread() is not self._heart:
            self._heart.join(timeout=1.0)
        with contextlib.suppress(StoreError):
            self._lock.give_back(self.info)
