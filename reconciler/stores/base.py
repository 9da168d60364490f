"""`Store`: state, journal, lock and key of one stack, behind one interface.

Write order of a run: lock → read (snapshot, with the journal folded in) → for every effect: append intent, act,
append outcome → write snapshot (which empties the journal) → unlock. Whatever dies in between, `read` knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from reconciler.errors import LeaseLost, LockHeld, StoreError
from reconciler.model.outcome import Entry
from reconciler.model.state import State


class LockInfo(Struct, frozen=True, kw_only=True):
    """Who holds the lock. `fence` grows with every taking of it; times in seconds since the epoch. `expires` and `fence`
    are 0 where a lock has neither end nor number; what a server does not tell of a holder is "" or 0."""

    id: str
    who: str  # user@host
    host: str
    pid: int
    operation: str  # "apply"
    since: float
    expires: float
    fence: int

    @property
    def holder(self) -> str:
        known = [f"pid {self.pid}"] * (self.pid > 0) + [self.operation] * (self.operation != "")
        who = self.who or "somebody whom the server does not name"
        return f"{who} ({', '.join(known)})" if known else who

    def lasts(self, now: float) -> str:
        """How long the lease still is, for people; "" where there is none to speak of."""
        if self.expires <= self.since:
            return ""
        left = round(self.expires - now)
        return f"its lease lasts {left} s unless renewed" if left > 0 else f"its lease ran out {-left} s ago"

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__struct_fields__}


def lock_held(subject: str, held: LockInfo, now: float) -> LockHeld:
    """What `Store.lock` raises when it may not wait any longer: who, where, pid, what, since when, and how long still, as
    far as that is known. `subject` is what is locked: "the state state/research.json". `now` is by the clock that
    `held.since` was taken from."""
    from datetime import UTC, datetime  # only who is refused pays for it

    since = ""
    if held.since:
        at = datetime.fromtimestamp(held.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        since = f" since {at} ({max(0, round(now - held.since))} s ago)"
    lasts = held.lasts(now)
    return LockHeld(
        f"{subject} is locked by {held.holder}{since}{lasts and f'; {lasts}'}",
        holder=held.holder,
        hint="wait for it with `--lock-timeout 5m`, or, if that run is certainly dead, "
        f"`reconciler force-unlock {held.id}`",
    )


class Version(Struct, frozen=True, kw_only=True):
    """One snapshot that can be had: `at` is when it was written, in seconds since the epoch, `size` in bytes,
    `sandboxes` how many it records. `damage` is why it cannot be read, and then only `serial` is known."""

    serial: int
    at: float = 0.0
    sandboxes: int = 0
    size: int = 0
    lineage: str = ""
    current: bool = False
    damage: str = ""


def no_version(place: str, serial: int, there: Sequence[Version]) -> StoreError:
    """What `Store.version` raises for a serial that it has not."""
    known = ", ".join(str(version.serial) for version in there)
    return StoreError(
        f"{place} has no version of serial {serial}",
        hint=f"there is: {known}" if known else "there is no state yet, so there are no versions of it",
    )


def no_place_for_key(place: str) -> StoreError:
    """What `Store.take_key` raises where no key can be kept."""
    return StoreError(
        f"{place} cannot keep the key of the secrets' digests",
        hint="its key comes from elsewhere, such as RECONCILER_STATE_KEY: begin with a new one by taking the secrets out, "
        "applying, moving the state, and putting them in again",
    )


def lease_lost(subject: str, holder: LockInfo | None) -> LeaseLost:
    """What every write raises once the lock is somebody else's, or nobody's."""
    now = "nobody holds it" if holder is None else f"{holder.holder} holds it"
    return LeaseLost(
        f"the lock of {subject} was taken from this run: {now} now, so nothing more is written",
        hint="run the command again once the other is done; it starts from what is really there",
    )


def nothing_to_unlock(subject: str) -> StoreError:
    """What `Store.force_unlock` raises when the lock is free."""
    return StoreError(f"nobody holds the lock of {subject}", hint="there is nothing to unlock")


def other_lock(subject: str, holder: LockInfo, asked: str) -> StoreError:
    """What it raises when the lock has another id than the one that was asked for."""
    return StoreError(
        f"the lock of {subject} has the id {holder.id}, not {asked}; {holder.holder} holds it",
        hint="look again with `reconciler lock show`: it may have changed hands",
    )


class Lease(ABC):
    """A held lock. A heartbeat of its own keeps it alive until `release`. Usable as a context manager."""

    info: LockInfo
    lost: LeaseLost | None = None  # what the heartbeat has found out; asking costs nothing, unlike `check`

    @abstractmethod
    def check(self) -> None:
        """Raise LeaseLost if somebody else holds the lock by now."""

    @abstractmethod
    def release(self) -> None:
        """Give it back; never raises, and does nothing when it is lost already."""

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()


class Candidate(ABC):
    """One of several watches of a stack, of which one at a time leads. `poll` are the seconds between two attempts, `leader` who
    leads as far as the last attempt saw."""

    poll: float
    leader: LockInfo | None = None

    @abstractmethod
    def attempt(self) -> Lease | None:
        """The leadership, if it can be had now: held until `release`, or until `lost` says that it is over, which is at the
        latest before anybody else can have it. Raises StoreError."""

    @abstractmethod
    def close(self) -> None:
        """Release connections."""


class Store(ABC):
    """State of one stack. Reading never writes. Writing needs the lease and raises LeaseLost without it.

    `keeps_key`: there is a place for the key of the secrets' digests. Where there is none, RECONCILER_STATE_KEY has to
    be set before there are secrets, and `secret_key(create=True)` raises StoreError without it.
    `keeps_versions`: what a write replaces can be had again with `version`.

    Every store raises StoreError, StateCorrupt or StateTooNew, with the place and the next step in the message.
    """

    keeps_key: bool = True
    keeps_versions: bool = True

    @abstractmethod
    def describe(self) -> str:
        """Where it is, for people: "state/research.json"."""

    def place(self) -> str:
        """The same for people who stand elsewhere: what tells this store's state from every other."""
        return self.describe()

    @abstractmethod
    def read(self) -> State | None:
        """The snapshot with the journal folded in; None only when there has never been a state here."""

    @abstractmethod
    def lock(
        self,
        operation: str,
        *,
        timeout: float = 0.0,
        on_wait: Callable[[LockInfo], None] | None = None,
        on_broken: Callable[[LockInfo], None] | None = None,
    ) -> Lease:
        """Take the lock, waiting up to `timeout` seconds. `on_wait` is called once when it must wait, `on_broken`
        when a dead holder's lock was broken. Raises LockHeld, naming the holder."""

    @abstractmethod
    def append(self, lease: Lease, entries: Sequence[Entry]) -> None:
        """Keep the entries, all of them and in order: whatever kills this process, they are read again. With an intent
        among them they are durable before this returns, and all before them; outcomes alone may still wait for
        that, because a look at what is live tells them again."""

    @abstractmethod
    def write(self, lease: Lease, state: State) -> State:
        """Replace the snapshot atomically, keep the last one as backup and version, empty the journal. Returns the
        state as written: serial one higher."""

    @abstractmethod
    def history(self) -> Sequence[Version]:
        """The versions that can be had, newest first: the current snapshot, if it can be read, and at least the
        last few that were replaced."""

    @abstractmethod
    def version(self, serial: int) -> State:
        """The snapshot of that serial as it was written: without the journal, for the current one too. Raises
        StoreError, naming what there is, when it is not there, and StateCorrupt or StateTooNew."""

    @abstractmethod
    def secret_key(self, *, create: bool) -> bytes | None:
        """The key of the secrets' digests. Made once when `create`; None when there is none yet."""

    def take_key(self, lease: Lease, key: bytes) -> None:
        """Keep this key of the secrets' digests, which another store had, from now on. Raises StoreError where keys
        are not kept."""
        raise no_place_for_key(self.describe())

    def keep(self, lease: Lease, versions: Sequence[State]) -> int:
        """Keep older versions, which another store had, as they are; how many of them are new here. None where a store
        cannot."""
        return 0

    def unsealed(self, data: bytes, *, place: str) -> bytes:
        """A snapshot as it stands where this store keeps its own, fetched past it, in clear; what is in clear as it is.
        `place` is where it is from, for messages. Raises StoreError where no key fits, and StateCorrupt."""
        return data

    @abstractmethod
    def lock_info(self) -> LockInfo | None:
        """Who holds the lock, None when nobody does."""

    def abandoned(self) -> bool:
        """Whether whoever holds the lock is certainly gone, so that the next run takes it over at once."""
        return False

    @abstractmethod
    def force_unlock(self, lock_id: str) -> LockInfo:
        """Break the lock of that id. Raises StoreError when the id is another or nobody holds it."""

    def candidate(self, *, on_lost: Callable[[], None]) -> Candidate | None:
        """For a watch that is to look and act only while it leads; None where the store has no place for leadership. `on_lost`
        is called, by any thread, as soon as an attempt's lease is lost."""
        return None

    def notes(self) -> Sequence[str]:
        """What whoever writes here must know, one sentence each, such as that others may write too. Raises nothing."""
        return ()

    def check(self) -> Sequence[tuple[str, bool, str]]:
        """For `doctor`: (what was checked, is it well, detail or fix). Raises nothing."""
        return ()

    def close(self) -> None:  # noqa: B027 - most stores hold nothing
        """Release connections."""
