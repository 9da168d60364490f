"""The lock of one stack: a record in `<stack>.lock`, changed only under the guard, and the lease of whoever holds it.

The record outlives its holders, because the fence in it must only ever grow. A holder on this machine is broken as
soon as its process is gone, and never before; a holder elsewhere once its lease has run out, since nothing but its
heartbeat can be seen of it. Every writer checks lease and fence under the guard, so that nobody can take the lock
between the check and the write. Clocks of different machines are assumed to agree within a few seconds.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reconciler.errors import LeaseLost, LockHeld, StateCorrupt, StoreError
from reconciler.stores.base import Lease, LockInfo
from reconciler.stores.file import disk
from reconciler.stores.file.host import Host

_Heard = Callable[[LockInfo], None]
_LATEST = 1e11  # seconds since the epoch; the year 5138


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds, and where they come from: `now` since the epoch, `monotonic` for waiting. A lease lasts `lease`
    seconds and is renewed every `renew`; a waiting run looks every `poll`."""

    lease: float = 30.0
    renew: float = 10.0
    poll: float = 0.2
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holder:
    """A holder as recorded: what everybody is told, and what only this machine can make use of."""

    info: LockInfo
    boot: str
    started: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    fence: int = 0
    holder: _Holder | None = None

    def to_dict(self) -> dict[str, Any]:
        held = self.holder
        who = held and {**held.info.to_dict(), "boot": held.boot, "started": held.started}
        return {"format": "1.0", "fence": self.fence, "holder": who}


def _record_from_dict(data: Any) -> _Record:
    """Raises KeyError, TypeError or ValueError on anything that `to_dict` did not write."""
    held = data["holder"]
    if held is None:
        return _Record(fence=int(data["fence"]))
    info = LockInfo(
        id=str(held["id"]),
        who=str(held["who"]),
        host=str(held["host"]),
        pid=int(held["pid"]),
        operation=str(held["operation"]),
        since=float(held["since"]),
        expires=float(held["expires"]),
        fence=int(held["fence"]),
    )
    if not (0 <= info.since < _LATEST and 0 <= info.expires < _LATEST):
        raise ValueError("a time that is none")
    holder = _Holder(info=info, boot=str(held["boot"]), started=str(held["started"]))
    return _Record(fence=int(data["fence"]), holder=holder)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFile:
    """The lock at `path`; `subject` is what it protects, for messages. `prefix` names temporary files; `tidy` removes
    those of killed runs that are elsewhere than beside the lock."""

    path: Path
    subject: str
    prefix: str
    host: Host
    timing: Timing = field(default_factory=Timing)
    tidy: Callable[[], None] = lambda: None

    def guarded(self) -> contextlib.AbstractContextManager[None]:
        """Excludes every other thread and process that changes anything of this stack."""
        return disk.guard(self.path.with_name(self.path.name + ".guard"))

    def acquire(
        self, operation: str, *, timeout: float, on_wait: _Heard | None, on_broken: _Heard | None
    ) -> FileLease:
        """Takes the lock, waiting up to `timeout` seconds for it. Raises LockHeld."""
        gives_up = self.timing.monotonic() + timeout
        waited = False
        while True:
            taken, other = self._try(operation)
            if taken is not None:
                if other is not None and on_broken is not None:
                    on_broken(other)
                return FileLease(self, taken)
            assert other is not None
            remaining = gives_up - self.timing.monotonic()
            if remaining <= 0:
                raise self._held(other)
            if not waited and on_wait is not None:
                on_wait(other)
            waited = True
            self.timing.sleep(min(self.timing.poll, remaining))

    def _try(self, operation: str) -> tuple[LockInfo | None, LockInfo | None]:
        """(ours, the dead one whose lock was broken, if any) or (None, who holds it)."""
        disk.make_directory(self.path.parent)
        with self.guarded():
            record = self.record()
            other = record.holder
            if other is not None and not self._gone(other):
                return None, other.info
            disk.sweep(self.path.parent, prefix=self.prefix)
            self.tidy()
            mine = self._myself(operation, record.fence + 1)
            self._put(_Record(fence=mine.info.fence, holder=mine), durable=True)
        return mine.info, None if other is None else other.info

    def _myself(self, operation: str, fence: int) -> _Holder:
        now = self.timing.now()
        try:
            started = self.host.started(self.host.pid) or ""
        except OSError:
            started = ""  # then only the pid tells whether we live
        info = LockInfo(
            id=uuid.uuid4().hex,
            who=self.host.who,
            host=self.host.name,
            pid=self.host.pid,
            operation=operation,
            since=now,
            expires=now + self.timing.lease,
            fence=fence,
        )
        return _Holder(info=info, boot=self.host.boot, started=started)

    def _gone(self, holder: _Holder) -> bool:
        """Whether its lock may be broken: its process is certainly gone, or it is elsewhere and out of time."""
        here = holder.info.host == self.host.name and holder.boot == self.host.boot != ""
        if not here:
            return self.timing.now() >= holder.info.expires
        try:
            started = self.host.started(holder.info.pid)
        except OSError:
            return False
        return started is None or (holder.started != "" and started != holder.started)

    def record(self) -> _Record:
        """What the file says. Raises StateCorrupt when that is nothing of ours."""
        data = disk.read_bytes(self.path)
        if data is None:
            return _Record()
        try:
            return _record_from_dict(json.loads(data))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise StateCorrupt(
                f"the lock file {disk.shown(self.path)} is damaged",
                hint="remove it when no reconciler runs on this stack",
            ) from error

    def _put(self, record: _Record, *, durable: bool) -> None:
        text = json.dumps(record.to_dict(), sort_keys=True, indent=2) + "\n"
        disk.replace_file(self.path, text.encode(), prefix=self.prefix, durable=durable)

    @contextlib.contextmanager
    def held_by(self, lease: Lease) -> Iterator[None]:
        """The guard, with the certainty that the lease holds the lock inside. Raises LeaseLost."""
        with self.guarded():
            self.demand(lease.info)
            yield

    def demand(self, mine: LockInfo) -> _Holder:
        """The holder's record. Raises LeaseLost unless it says that the lock is `mine`."""
        held = self.record().holder
        if held is not None and (held.info.id, held.info.fence) == (mine.id, mine.fence):
            return held
        now = "nobody holds it" if held is None else f"{held.info.holder} holds it"
        raise LeaseLost(
            f"the lock of {self.subject} was taken from this run: {now} now, so nothing more is written",
            hint="run the command again once the other is done; it starts from what is really there",
        )

    def renew(self, mine: LockInfo) -> None:
        """Another `timing.lease` seconds from now. Raises LeaseLost."""
        with self.guarded():
            held = self.demand(mine)
            info = replace(held.info, expires=self.timing.now() + self.timing.lease)
            self._put(_Record(fence=info.fence, holder=replace(held, info=info)), durable=False)

    def give_back(self, mine: LockInfo) -> None:
        """Frees it; nothing happens when it is not `mine` any more."""
        with self.guarded():
            record = self.record()
            if record.holder is not None and record.holder.info.id == mine.id:
                self._put(replace(record, holder=None), durable=False)

    def break_by_force(self, lock_id: str) -> LockInfo:
        """Frees it whoever holds it; the fence stays, so its holder is refused from now on."""
        if not disk.exists(self.path):
            raise self._free()
        with self.guarded():
            record = self.record()
            if record.holder is None:
                raise self._free()
            info = record.holder.info
            if info.id != lock_id:
                raise StoreError(
                    f"the lock of {self.subject} has the id {info.id}, not {lock_id}; {info.holder} holds it",
                    hint="look again with `reconciler lock show`: it may have changed hands",
                )
            self._put(replace(record, holder=None), durable=True)
        return info

    def _free(self) -> StoreError:
        return StoreError(f"nobody holds the lock of {self.subject}", hint="there is nothing to unlock")

    def _held(self, info: LockInfo) -> LockHeld:
        since = datetime.fromtimestamp(info.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        age = max(0, round(self.timing.now() - info.since))
        return LockHeld(
            f"{self.subject} is locked by {info.holder} since {since} ({age} s ago)",
            holder=info.holder,
            hint="wait for it with `--lock-timeout 5m`, or, if that run is certainly dead, "
            f"`reconciler force-unlock {info.id}`",
        )


class FileLease(Lease):
    """A held lock. A daemon thread renews it until `release`; when it finds the lock taken it stops, and `check`
    raises from then on."""

    def __init__(self, lock: LockFile, info: LockInfo) -> None:
        self.info = info
        self._lock = lock
        self._released = threading.Event()
        self._lost: LeaseLost | None = None
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
            self._lost = lost
            return False
        except StoreError:
            return True  # a full disk may have room again by the next beat; `check` reads the truth anyway
        return True

    def check(self) -> None:
        if self._lost is not None:
            raise LeaseLost(self._lost.message, hint=self._lost.hint)
        if self._released.is_set():
            raise LeaseLost(f"the lock of {self._lock.subject} was released already")
        self._lock.demand(self.info)

    def release(self) -> None:
        if self._released.is_set():
            return
        self._released.set()
        if threading.current_thread() is not self._heart:
            self._heart.join(timeout=1.0)
        with contextlib.suppress(StoreError):
            self._lock.give_back(self.info)
