"""`Store`: state, journal, lock and key of one stack, behind one interface.

Write order of a run: lock → read (snapshot, with the journal folded in) → for every effect: append intent, act,
append outcome → write snapshot (which empties the journal) → unlock. Whatever dies in between, `read` knows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reconciler.errors import StoreError
from reconciler.model.outcome import Entry
from reconciler.model.state import State


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInfo:
    """Who holds the lock. `fence` grows with every taking of it; times in seconds since the epoch."""

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
        return f"{self.who} (pid {self.pid}, {self.operation})"

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
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


class Lease(ABC):
    """A held lock. A heartbeat of its own keeps it alive until `release`. Usable as a context manager."""

    info: LockInfo

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


class Store(ABC):
    """State of one stack. Reading never writes. Writing needs the lease and raises LeaseLost without it.

    Every store raises StoreError, StateCorrupt or StateTooNew, with the place and the next step in the message.
    """

    @abstractmethod
    def describe(self) -> str:
        """Where it is, for people: "state/research.json"."""

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
        """Make the entries durable, all of them, with one sync. Returns only when they are."""

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

    @abstractmethod
    def lock_info(self) -> LockInfo | None:
        """Who holds the lock, None when nobody does."""

    @abstractmethod
    def force_unlock(self, lock_id: str) -> LockInfo:
        """Break the lock of that id. Raises StoreError when the id is another or nobody holds it."""

    def notes(self) -> Sequence[str]:
        """What whoever writes here must know, one sentence each, such as that others may write too. Raises nothing."""
        return ()

    def check(self) -> Sequence[tuple[str, bool, str]]:
        """For `doctor`: (what was checked, is it well, detail or fix). Raises nothing."""
        return ()

    def close(self) -> None:  # noqa: B027 - most stores hold nothing
        """Release connections."""
