"""`FileStore`: state, journal, lock and key of one stack in a directory.

`<stack>.json` snapshot, `.json.backup` the one before, `.history/` the last twenty before, `.journal.jsonl` what
happened since, `.lock` (and its guard) who may write, `.key` what the secrets' digests are keyed with. All of mode 0600.
Must never write while reading, and never write without holding the lock, which is checked under the same guard as the
write.

Reading takes no lock: the journal is read before the snapshot, and a journal is never emptied in place but removed,
so a reader beside a writer sees the moment before or after a write, and nothing in between.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.fold import fold_all
from reconciler.errors import StateCorrupt, StoreError
from reconciler.model.outcome import Entry, Intent
from reconciler.model.state import State
from reconciler.stores import keys, snapshot
from reconciler.stores.base import Lease, LockInfo, Store, Version, no_place_for_key, no_version
from reconciler.stores.checks import state
from reconciler.stores.file import checks, disk, journal
from reconciler.stores.file.history import UNREADABLE, History, version_of
from reconciler.stores.file.journal import Header, Journal, Link
from reconciler.stores.file.lease import LockFile, Timing
from reconciler.stores.host import Host
from reconciler.stores.sealing import KEY, PLAIN, SNAPSHOT, Sealer, is_sealed

_STACK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)


class _Tail(Struct, frozen=True, kw_only=True):
    """Where the next entry goes, as long as nobody else has written: valid for one taking of the lock."""

    fence: int
    size: int
    link: Link


class _Standing(Struct, frozen=True, kw_only=True):
    """The snapshot that a journal would build on. `sealed` says whether it is, `fresh` whether as it would be now."""

    header: Header
    sealed: bool
    fresh: bool


class FileStore(Store):
    """One stack's state in the directory `path`. `sealer` encrypts all of it but the lock. The keyword arguments after
    that are seams for tests: the clock, this machine, the environment (for RECONCILER_STATE_KEY)."""

    options: tuple[str, ...] = ("path",)

    def __init__(
        self,
        stack: str,
        *,
        path: str | Path = "state/",
        sealer: Sealer = PLAIN,
        timing: Timing | None = None,
        host: Host | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if not _STACK.fullmatch(stack):
            raise StoreError(
                f"the stack name {stack!r} cannot be a file name", hint="use letters, digits, `-`, `_`, `.`"
            )
        self.stack = stack
        self.directory = Path(path)
        self._sealer = sealer
        self._environ = os.environ if environ is None else environ
        self._timing = timing or Timing()
        self._snapshot = self.directory / f"{stack}.json"
        self._backup = self.directory / f"{stack}.json.backup"
        self._journal = self.directory / f"{stack}.journal.jsonl"
        self._key = self.directory / f"{stack}.key"
        self._prefix = f".{stack}.tmp-"
        self._history = History(
            directory=self.directory / f"{stack}.history", stack=stack, prefix=self._prefix, sealer=sealer
        )
        self._tail: _Tail | None = None
        self._known: tuple[object, _Standing] | None = None
        self._lock = LockFile(
            path=self.directory / f"{stack}.lock",
            subject=f"the state {self.describe()}",
            prefix=self._prefix,
            host=host,
            timing=self._timing,
            tidy=self._history.tidy,
        )

    def describe(self) -> str:
        return disk.shown(self._snapshot)

    def place(self) -> str:
        return os.path.abspath(self._snapshot)

    def read(self) -> State | None:
        found = self._read_journal()
        loaded = self._load()
        if loaded is None:
            if disk.exists(self._snapshot):  # somebody's first run, this very moment
                return self.read()
            self._refuse_lost_snapshot()
            return None
        state, kept = loaded
        if found is None or not self._continues(found, self._standing_of(state, kept)):
            return state
        return fold_all(state, found.entries)

    def _read_snapshot(self) -> State | None:
        loaded = self._load()
        return None if loaded is None else loaded[0]

    def _load(self) -> tuple[State, bytes] | None:
        """The snapshot, and its bytes as they are kept."""
        data = disk.read_bytes(self._snapshot)
        if data is None:
            return None
        place = self.describe()
        clear = self._sealer.open(SNAPSHOT, data, place=place, hint=self._mend)
        state = snapshot.decode(clear, place=place, hint=self._mend)
        if state.stack != self.stack:
            raise StateCorrupt(
                f"{place} holds the state of stack {state.stack!r}, not of {self.stack!r}",
                hint="put the right file there; to rename a stack, change `stack` in the file as well",
            )
        return state, data

    @property
    def _mend(self) -> str:
        return (
            f"look at {disk.shown(self._backup)}: if it is whole, copy it to {self.describe()}, and move the journal "
            "beside it away"
        )

    def _standing(self) -> _Standing | None:
        """What a journal would build on now: the snapshot's stack, lineage and serial. A run that writes often
        need not read again what it wrote: a file of the same signature is the same file."""
        seen = disk.signature(self._snapshot)
        if seen is not None and self._known is not None and self._known[0] == seen:
            return self._known[1]
        loaded = self._load()
        if loaded is None:
            return None
        self._known = (seen, self._standing_of(*loaded))
        return self._known[1]

    def _standing_of(self, state: State, kept: bytes) -> _Standing:
        header = Header(stack=state.stack, lineage=state.lineage, base=state.serial)
        return _Standing(header=header, sealed=is_sealed(kept), fresh=self._sealer.fresh(kept))

    def _read_journal(self) -> Journal | None:
        data = disk.read_bytes(self._journal)
        if data is None:
            return None
        return journal.decode(data, place=disk.shown(self._journal), sealer=self._sealer)

    def _refuse_lost_snapshot(self) -> None:
        """No state has ever been here only if nothing of one is here: an empty state must never come of a lost
        file."""
        for remains in (self._backup, self._journal):
            if disk.exists(remains):
                raise StateCorrupt(
                    f"{self.describe()} is missing, but {disk.shown(remains)} is there",
                    hint=f"restore {self.describe()} (from the backup), or move both leftovers away to begin anew",
                )
        if self._history.any():
            raise StateCorrupt(
                f"{self.describe()} is missing, but {disk.shown(self._history.directory)} is there",
                hint=f"copy its newest version to {self.describe()}, or move it away to begin anew",
            )

    def _continues(self, found: Journal, below: _Standing) -> bool:
        """Whether the journal's entries come after the snapshot; False when the snapshot contains them already,
        because a run died between writing the one and removing the other."""
        header, standing = found.header, below.header
        if header.base < standing.base:
            return False
        place = disk.shown(self._journal)
        if (header.stack, header.lineage) != (standing.stack, standing.lineage):
            raise StateCorrupt(
                f"{place} belongs to stack {header.stack!r} of lineage {header.lineage}, "
                f"{self.describe()} to {standing.stack!r} of {standing.lineage}",
                hint=f"restore the {self.describe()} that it belongs to, or move {place} away",
            )
        if header.base > standing.base:
            raise StateCorrupt(
                f"{place} continues serial {header.base}, but {self.describe()} is of serial {standing.base}: "
                "an older state was restored under it",
                hint=f"if the older state is meant, move {place} away: what is live is found again by its labels",
            )
        if self._sealer.seals and below.sealed and not found.sealed:
            raise StateCorrupt(
                f"{place} is not encrypted, but {self.describe()}, which it continues, is",
                hint=f"nothing of ours writes that; move {place} away, and find out what did",
            )
        return True

    def lock(
        self,
        operation: str,
        *,
        timeout: float = 0.0,
        on_wait: Callable[[LockInfo], None] | None = None,
        on_broken: Callable[[LockInfo], None] | None = None,
    ) -> Lease:
        return self._lock.acquire(operation, timeout=timeout, on_wait=on_wait, on_broken=on_broken)

    def append(self, lease: Lease, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        with self._lock.held_by(lease):
            tail = self._tail
            if tail is None or tail.fence != lease.info.fence:
                tail = self._find_tail(lease.info.fence)
            self._tail = None  # until the write is known to have worked
            data, link = journal.encode_entries(entries, tail.link, self._sealer)
            announces = any(isinstance(entry, Intent) for entry in entries)
            if not disk.append_bytes(self._journal, data, at=tail.size, synced=announces):
                raise StateCorrupt(
                    f"{disk.shown(self._journal)} was changed by something that does not hold the lock",
                    hint="find out what else writes there, then run the command again",
                )
            self._tail = replace(tail, size=tail.size + len(data), link=link)

    def _find_tail(self, fence: int) -> _Tail:
        """Where this holder's first entry goes: after what another left, without its torn end, or in a new
        journal."""
        standing = self._standing()
        if standing is None:
            self._refuse_lost_snapshot()
            raise StoreError(
                f"{self.describe()} does not exist yet, so nothing can be noted beside it",
                hint="write the first snapshot, which holds the lineage, before the first entry",
            )
        data = disk.read_bytes(self._journal) or b""
        found = journal.decode(data, place=disk.shown(self._journal), sealer=self._sealer)
        if found is None or not self._continues(found, standing):
            whole, link = journal.encode_header(standing.header, self._sealer)
        elif not found.fresh:
            line, link = journal.encode_header(found.header, self._sealer)
            lines, link = journal.encode_entries(found.entries, link, self._sealer)
            whole = line + lines
        else:
            whole, link = data[: found.size].removesuffix(b"\n") + b"\n", found.link
        if whole != data:
            self._replace(self._journal, whole)
        return _Tail(fence=fence, size=len(whole), link=link)

    def write(self, lease: Lease, state: State) -> State:
        if state.stack != self.stack:
            raise StoreError(f"the state of stack {state.stack!r} cannot be written to {self.describe()}")
        written = replace(state, serial=state.serial + 1, updated_at=self._timing.now())
        data = self._sealer.seal(SNAPSHOT, snapshot.encode(written))
        with self._lock.held_by(lease):
            self._keep_backup(state.serial)
            self._replace(self._snapshot, data)
            self._known = (disk.signature(self._snapshot), self._standing_of(written, data))
            self._tail = None
            disk.remove(self._journal)
            self._history.prune()
        return written

    def history(self) -> Sequence[Version]:
        current = (
            self._current_version()
        )  # before the others: a writer keeps it there and only then replaces it
        kept = [
            found for found in self._history.versions() if current is None or found.serial != current.serial
        ]
        return kept if current is None else [current, *kept]

    def _current_version(self) -> Version | None:
        with contextlib.suppress(*UNREADABLE):
            data = disk.read_bytes(self._snapshot)
            if data is not None:
                clear = self._sealer.open(SNAPSHOT, data, place=self.describe(), hint=self._mend)
                outlined = snapshot.outline(clear, place=self.describe(), hint=self._mend)
                return version_of(data, outlined, current=True)
        return None

    def version(self, serial: int) -> State:
        with contextlib.suppress(*UNREADABLE):  # an older one can be had all the more
            current = self._read_snapshot()
            if current is not None and current.serial == serial:
                return current
        found = self._history.read(serial)
        if found is None:
            raise no_version(self.describe(), serial, self.history())
        return found

    def keep(self, lease: Lease, versions: Sequence[State]) -> int:
        with self._lock.held_by(lease):
            taken = [self._history.take(state) for state in versions]
            self._history.prune()
        return sum(taken)

    def _keep_backup(self, serial: int) -> None:
        """The snapshot that is about to be replaced, byte for byte, as backup and as version. Raises StoreError when that
        one is newer than what is to replace it, and StateCorrupt when it cannot be read: a good backup is worth more then.
        When keys changed since it was written, all that is kept beside it is sealed anew first."""
        old = self._standing()
        if old is None:
            self._refuse_lost_snapshot()
            return
        if serial < old.header.base:
            raise StoreError(
                f"{self.describe()} is at serial {old.header.base} already, newer than the {serial} to be written",
                hint="read the state again; to go back on purpose, push it with the current serial",
            )
        data = disk.read_bytes(self._snapshot)
        assert data is not None
        if not old.fresh:
            self._history.reseal()
            self._reseal_key()
            data = self._sealer.seal(SNAPSHOT, self._sealer.open(SNAPSHOT, data, place=self.describe()))
        self._replace(self._backup, data)
        self._history.keep(old.header.base, data)

    def _reseal_key(self) -> None:
        data = disk.read_bytes(self._key)
        if data is not None and not self._sealer.fresh(data):
            clear = self._sealer.open(KEY, data, place=disk.shown(self._key))
            self._replace(self._key, self._sealer.seal(KEY, clear))

    def _replace(self, path: Path, data: bytes) -> None:
        disk.replace_file(path, data, prefix=self._prefix)

    def unsealed(self, data: bytes, *, place: str) -> bytes:
        return self._sealer.unsealed(data, place=place)

    def secret_key(self, *, create: bool) -> bytes | None:
        given = keys.given(self._environ, instead=disk.shown(self._key))
        if given is not None:
            return given
        found = self._read_key()
        if found is not None or not create:
            return found
        disk.make_directory(self.directory)
        with self._lock.guarded():
            found = self._read_key()  # another may have been faster
            if found is None:
                found = keys.new()
                self._put_key(found)
        return found

    def _put_key(self, key: bytes) -> None:
        self._replace(self._key, self._sealer.seal(KEY, keys.encode(key) + b"\n"))

    def take_key(self, lease: Lease, key: bytes) -> None:
        if self._environ.get(keys.KEY_VARIABLE) is not None:
            raise no_place_for_key(self.describe())
        with self._lock.held_by(lease):
            self._put_key(key)

    def _read_key(self) -> bytes | None:
        data = disk.read_bytes(self._key)
        if data is None:
            return None
        data = self._sealer.open(KEY, data, place=disk.shown(self._key))
        return keys.decode(data.removesuffix(b"\n"), place=disk.shown(self._key))

    def lock_info(self) -> LockInfo | None:
        held = self._lock.record().holder
        return None if held is None else held.info

    def abandoned(self) -> bool:
        return self._lock.abandoned()

    def force_unlock(self, lock_id: str) -> LockInfo:
        return self._lock.break_by_force(lock_id)

    def notes(self) -> Sequence[str]:
        told = checks.exposure(self.directory)
        return (told,) if told else ()

    def check(self) -> Sequence[tuple[str, bool, str]]:
        files = (self._snapshot, self._backup, self._journal, self._key, self._lock.path)
        return (
            checks.directory(self.directory),
            checks.modes(self.directory, files, self._history),
            state(self.read),
            checks.history(self._history),
            *checks.encryption(self._sealer, (self._snapshot, self._backup, self._journal, self._key)),
            checks.lock(self.lock_info, self.abandoned),
        )
