"""`KubernetesStore`: state, journal, lock and key of one stack in a namespace of a Kubernetes cluster.

A Secret named after the stack is the head; it names the parts that the state, its versions and the journal's beginning are in,
and holds the journal's end (`index`, `shelf`). Taking the lock, a Lease, writes its fence into the head, and every write
replaces the head at the version that was read: whoever had the lock before is refused from that moment on. Reading never
writes, and sees one moment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.fold import fold_all
from reconciler.errors import ConfigError, StateCorrupt, StoreError
from reconciler.model.outcome import Entry
from reconciler.model.state import State
from reconciler.stores import chained, keys, snapshot
from reconciler.stores.base import Candidate, Lease, LockInfo, Store, Version, lease_lost, no_version
from reconciler.stores.chain import Chain
from reconciler.stores.host import Host, this_host
from reconciler.stores.kubernetes import checks, index, journal
from reconciler.stores.kubernetes.candidate import KubernetesCandidate
from reconciler.stores.kubernetes.index import Head, checked_name, content, marks
from reconciler.stores.kubernetes.lease import LEADING, KubernetesLease, Lock, Timing
from reconciler.stores.kubernetes.objects import SECRET, Moved, Objects
from reconciler.stores.kubernetes.shelf import Gone, Shelf
from reconciler.stores.kubernetes.versions import ANOTHER, Versions
from reconciler.stores.sealing import KEY, PLAIN, SNAPSHOT, Sealer


class _At(Struct, frozen=True, kw_only=True):
    """Where the next entry goes under one taking of the lock: after this head's journal."""

    head: Head
    chain: Chain


class KubernetesStore(Store):
    """One stack's state in `namespace`, in Secrets whose names begin with `name`. `kubeconfig` and `context` say which cluster, as
    for `kubectl`; without either the one that this process runs in. `versions` is how many snapshots are kept that were
    replaced, `timeout` bounds each answer of the server, in seconds; `sealer` encrypts all of it but the lock. The keyword
    arguments after it are seams for tests: the lease's times, this machine, the environment."""

    options: tuple[str, ...] = ("namespace", "name", "kubeconfig", "context", "versions", "timeout")

    def __init__(
        self,
        stack: str,
        *,
        namespace: str = "default",
        name: str | None = None,
        kubeconfig: str | None = None,
        context: str | None = None,
        versions: int = 20,
        timeout: float = 30.0,
        sealer: Sealer = PLAIN,
        timing: Timing | None = None,
        host: Host | None = None,
        leading: Timing = LEADING,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if not 0 <= versions <= 200:
            raise ConfigError("state: `versions` is not from 0 to 200", hint="20 are kept without a word")
        self.stack = stack
        self.name = checked_name(name, stack)
        self._timing = timing or Timing()
        self._leading = leading
        self._sealer = sealer
        self._environ = os.environ if environ is None else environ
        self._where = (kubeconfig, context, namespace)
        self._timeout = float(timeout)
        self._host = host or this_host()
        self._objects = self._new_objects(self._timeout)
        self._shelf = Shelf(self._objects, name=self.name, stack=stack, place=self.describe())
        self._versions = Versions(self._shelf, sealer, place=self.describe(), limit=int(versions))
        self._heartbeat = self._new_objects(min(self._timeout, self._timing.renew / 2))
        self._lock = Lock(
            self._objects,
            beside=self._heartbeat,
            name=self.name,
            labels=marks(self.name, stack, "lock"),
            subject=f"the state {self.describe()}",
            host=self._host,
            timing=self._timing,
        )
        self._at: _At | None = None

    def _new_objects(self, timeout: float) -> Objects:
        kubeconfig, context, namespace = self._where
        timing = self._timing
        return Objects(
            kubeconfig=kubeconfig,
            context=context,
            namespace=namespace,
            timeout=timeout,
            monotonic=timing.monotonic,
            sleep=timing.sleep,
        )

    def describe(self) -> str:
        return f"{self.stack} in namespace {self._where[2]} of {self._where[1] or 'the cluster'}"

    def place(self) -> str:
        return f"{self.name} in namespace {self._where[2]} at {self._objects.server}"

    # -- state

    def read(self) -> State | None:
        return self._shelf.seen(self._folded)

    def _folded(self, head: Head) -> State | None:
        kept = head.index.snapshot
        if kept is None:
            return None
        text = self._versions.text(kept)
        state = self._versions.decoded(kept, text, place=self.describe())
        return fold_all(state, self._journal(head, text).entries)

    def _journal(self, head: Head, text: bytes) -> chained.Journal:
        packed = [self._shelf.fetch(head.index.segments), head.tail]
        return journal.decode(packed, text, place=self.describe(), sealer=self._sealer)

    # -- lock

    def lock(
        self,
        operation: str,
        *,
        timeout: float = 0.0,
        on_wait: Callable[[LockInfo], None] | None = None,
        on_broken: Callable[[LockInfo], None] | None = None,
    ) -> Lease:
        lease = self._lock.acquire(operation, timeout=timeout, on_wait=on_wait, on_broken=on_broken)
        try:
            self._shelf.claim(lease)
        except BaseException:
            lease.release()
            raise
        return lease

    def lock_info(self) -> LockInfo | None:
        return self._lock.look()

    def force_unlock(self, lock_id: str) -> LockInfo:
        return self._lock.break_by_force(lock_id)

    def candidate(self, *, on_lost: Callable[[], None]) -> Candidate | None:
        timing = self._leading
        objects = self._new_objects(timing.patience)
        lock = Lock(
            objects,
            beside=objects,
            name=f"{self.name}.watch",
            labels=marks(self.name, self.stack, "leadership"),
            subject=f"the watches of {self.describe()}",
            host=self._host,
            timing=timing,
        )
        return KubernetesCandidate(lock, on_lost=on_lost, close=objects.close)

    def _checked(self, lease: Lease) -> KubernetesLease:
        """Raises LeaseLost unless it is ours, and still held."""
        if not isinstance(lease, KubernetesLease):
            raise lease_lost(f"the state {self.describe()}", None)
        lease.check()
        return lease

    # -- writing

    def append(self, lease: Lease, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        mine = self._checked(lease)
        at, self._at = self._at, None  # until the write is known to have worked
        if at is None or at.head.index.fence != mine.info.fence:
            at = self._found(mine)
        lines, chain = journal.encode(entries, at.chain, self._sealer)
        new = index.pack(lines)
        after = at.head
        if after.tail and len(after.tail) + len(new) > journal.SEGMENT:
            after = self._spilled(after, mine)
        if len(new) > index.PART // 2:
            after = self._spilled(replace(after, tail=after.tail + new), mine)
        else:
            after = replace(after, tail=after.tail + new)
        self._at = _At(head=self._shelf.switch(at.head, after, mine), chain=chain)

    def _spilled(self, head: Head, lease: KubernetesLease) -> Head:
        """The same with the end of the journal in parts of its own."""
        assert head.index.snapshot is not None
        parts = self._shelf.put(head.tail, lease, part=index.JOURNAL, serial=head.index.snapshot.serial)
        return replace(head.next(segments=(*head.index.segments, *parts)), tail=b"")

    def _found(self, lease: KubernetesLease) -> _At:
        """Where this holder's first entry goes: after what another left, sealed anew if its key has changed."""
        head = self._mine(lease)
        kept = head.index.snapshot
        if kept is None:
            raise StoreError(
                f"{self.describe()} has no snapshot yet, so nothing can be noted in its journal",
                hint="write the first snapshot, which holds the lineage, before the first entry",
            )
        text = self._openable(head)
        there = self._journal(head, text)
        if there.fresh:
            return _At(head=head, chain=there.chain)
        lines, chain = journal.encode(there.entries, chained.on(text), self._sealer)
        anew = replace(head.next(segments=()), tail=index.pack(lines))
        anew = self._spilled(anew, lease) if len(anew.tail) > journal.SEGMENT else anew
        switched = self._shelf.switch(head, anew, lease)
        self._shelf.sweep(head.index, switched.index, lease)
        return _At(head=switched, chain=chain)

    def _mine(self, lease: KubernetesLease) -> Head:
        """The head, with our fence in it. Raises LeaseLost for another's."""
        head = self._shelf.head()
        if head is None or head.index.fence != lease.info.fence:
            raise lease_lost(f"the state {self.describe()}", self.lock_info())
        return head

    def _openable(self, head: Head) -> bytes:
        """The current snapshot's text; b"" where there is none. Raises StoreError for one that no key opens: nothing is
        written after, or over, what cannot be opened."""
        if head.index.snapshot is None:
            return b""
        text = self._present(head.index.snapshot)
        self._sealer.open(SNAPSHOT, text, place=self.describe())
        return text

    def _present(self, kept: index.Kept) -> bytes:
        """The text of the current snapshot, under the lock. Raises StateCorrupt when parts of it are missing."""
        try:
            return self._versions.known_text(kept)
        except Gone as gone:
            raise StateCorrupt(
                f"{gone}, which is a part of {self.describe()}, is missing", hint=index.MEND
            ) from gone

    def write(self, lease: Lease, state: State) -> State:
        if state.stack != self.stack:
            raise StoreError(f"the state of stack {state.stack!r} cannot be written to {self.describe()}")
        snapshot.encode(state)  # what cannot be stored is told before anything is touched
        mine = self._checked(lease)
        at, self._at = self._at, None
        known = at is not None and at.head.index.fence == mine.info.fence
        head = at.head if known and at is not None else self._mine(mine)
        old = self._outdated(head, state.serial, mine)
        made = replace(state, serial=state.serial + 1, updated_at=self._timing.now())
        kept, text = self._versions.written(made, mine)
        versions = () if old.snapshot is None else self._versions.with_replaced(old, old.snapshot)
        after = replace(head.next(snapshot=kept, versions=versions, segments=()), tail=b"")
        switched = self._shelf.switch(head, after, mine)
        self._at = _At(head=switched, chain=chained.on(text))
        self._shelf.sweep(head.index, switched.index, mine)
        return made

    def _outdated(self, head: Head, serial: int, lease: KubernetesLease) -> index.Index:
        """What there is, to be replaced; where keys changed since it was written, all of it sealed anew. Raises StoreError when
        it is newer than `serial`, or no key opens it."""
        current = head.index.snapshot
        if current is None:
            return head.index
        if current.serial > serial:
            raise StoreError(
                f"{self.describe()} is at serial {current.serial} already, newer than the {serial} to be written",
                hint="read the state again; to go back on purpose, push it with the current serial",
            )
        if self._sealer.fresh(self._openable(head)):
            return head.index
        self._reseal_key()
        return self._versions.resealed(head.index, lease)

    # -- versions

    def history(self) -> Sequence[Version]:
        return self._shelf.seen(self._versions.history) or ()

    def version(self, serial: int) -> State:
        def found(head: Head) -> State | None:
            for kept in (
                *([head.index.snapshot] if head.index.snapshot else []),
                *self._versions.older(head.index),
            ):
                if kept.serial == serial:
                    place = f"version {serial} of {self.describe()}"
                    return self._versions.decoded(kept, self._versions.text(kept), place=place, hint=ANOTHER)
            return None

        state = self._shelf.seen(found)
        if state is None:
            raise no_version(self.describe(), serial, self.history())
        return state

    def keep(self, lease: Lease, versions: Sequence[State]) -> int:
        mine = self._checked(lease)
        self._at = None
        head = self._mine(mine)
        taken = self._versions.taken(head.index, versions, mine)
        new = {kept.parts for kept in taken} - {kept.parts for kept in head.index.versions}
        switched = self._shelf.switch(head, head.next(versions=taken), mine)
        self._shelf.sweep(head.index, switched.index, mine)
        return len(new)

    def unsealed(self, data: bytes, *, place: str) -> bytes:
        return self._sealer.unsealed(data, place=place)

    # -- key

    @property
    def _key_name(self) -> str:
        return f"{self.name}.key"

    def secret_key(self, *, create: bool) -> bytes | None:
        given = keys.given(self._environ, instead=f"the key in the Secret {self._key_name}")
        if given is not None:
            return given
        found = self._read_key()
        if found is not None or not create:
            return found
        self._objects.create(SECRET, self._key_body(keys.new(), {}))  # another may have been faster
        return self._read_key()

    def _read_key(self) -> bytes | None:
        found = self._objects.get(SECRET, self._key_name)
        return None if found is None else self._key_in(found)

    def _key_in(self, found: Mapping[str, object]) -> bytes:
        place = f"the Secret {self._key_name}"
        try:
            kept = content(found, "key")
        except ValueError as error:
            raise StateCorrupt(f"{place} is damaged: {error}", hint=index.MEND) from error
        return keys.decode(self._sealer.open(KEY, kept, place=place), place=place)

    def _key_body(self, key: bytes, of: Mapping[str, object]) -> dict[str, object]:
        kept = self._sealer.seal(KEY, keys.encode(key))
        return index.body(
            self._key_name, {"key": kept}, store=self.name, stack=self.stack, part=index.KEY, fence=0, of=of
        )

    def take_key(self, lease: Lease, key: bytes) -> None:
        self._checked(lease)
        self._put_key(lambda _: key)

    def _reseal_key(self) -> None:
        def same(found: Mapping[str, object]) -> bytes | None:
            return self._key_in(found) if found and not self._sealer.fresh(content(found, "key")) else None

        self._put_key(same)

    def _put_key(self, choose: Callable[[Mapping[str, object]], bytes | None]) -> None:
        """Write what is chosen for the Secret that is there, {} for none; nothing for None."""
        for _ in range(5):
            found = self._objects.get(SECRET, self._key_name) or {}
            key = choose(found)
            if key is None:
                return
            try:
                if not found and self._objects.create(SECRET, self._key_body(key, {})) is None:
                    continue
                if found:
                    self._objects.replace(SECRET, self._key_body(key, found))
            except Moved:
                continue
            return
        raise StoreError(f"the Secret {self._key_name} changes all the time", hint="try again")

    # -- people

    def check(self) -> Sequence[tuple[str, bool, str]]:
        found = checks.all_of(self._objects, read=self.read, history=self.history, holder=self.lock_info)
        if self._sealer.seals:
            found += checks.encryption(
                lambda: self._shelf.seen(lambda head: self._versions.in_clear(head.index))
            )
        return found

    def close(self) -> None:
        self._objects.close()
        self._heartbeat.close()
