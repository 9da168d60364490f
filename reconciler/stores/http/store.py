"""`HttpStore`: state and lock of one stack on a server that speaks Terraform's HTTP state protocol.

GET reads, POST writes with the lock's id, LOCK and UNLOCK do what they say; 423 or 409 name the holder. There is no
journal: each append is the whole state again, one serial higher (`standing`). There is no place for the key of the
secrets' digests and none for older versions: the one comes from RECONCILER_STATE_KEY, the others are the server's.
What is encrypted is the snapshot; serial and lineage stand beside it in clear (`document`).
Reading never writes; looking at the lock takes it for a moment (`lock`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from reconciler.core.fold import fold_all
from reconciler.errors import ConfigError, StateCorrupt, StateTooNew, StoreError
from reconciler.model.desired import Secret
from reconciler.model.outcome import Entry
from reconciler.model.state import State
from reconciler.stores import keys
from reconciler.stores.base import Lease, LockInfo, Store, Version, lease_lost, no_version
from reconciler.stores.checks import state
from reconciler.stores.host import Host, this_host
from reconciler.stores.http import checks, document
from reconciler.stores.http.addresses import addresses, shown
from reconciler.stores.http.credentials import credentials
from reconciler.stores.http.holder import Myself
from reconciler.stores.http.lock import HttpLease, HttpLock
from reconciler.stores.http.standing import Place, Standing
from reconciler.stores.http.wire import Pace, Wire
from reconciler.stores.sealing import PLAIN, Sealer

TIMEOUT = 30.0  # seconds


class HttpStore(Store):
    """One stack's state at `url`; `timeout` in seconds bounds one request, `sealer` encrypts the state. `pace`, `host` and
    `environ` are seams for tests: the clock, this machine, the environment."""

    options: tuple[str, ...] = (
        "url",
        "token",
        "username",
        "password",
        "ca_cert",
        "timeout",
        "lock_url",
        "unlock_url",
        "lock_method",
        "unlock_method",
        "update_method",
    )
    keeps_key = False
    keeps_versions = False

    def __init__(
        self,
        stack: str,
        *,
        url: str,
        token: Secret | None = None,
        username: str = "",
        password: Secret | None = None,
        ca_cert: str | None = None,
        timeout: float = TIMEOUT,
        lock_url: str = "",
        unlock_url: str = "",
        lock_method: str = "",
        unlock_method: str = "",
        update_method: str = "",
        sealer: Sealer = PLAIN,
        pace: Pace | None = None,
        host: Host | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if not 0 < timeout < 1e6:
            raise ConfigError("state: `timeout` is no time", hint="write one such as 30s")
        self.stack = stack
        self._environ = os.environ if environ is None else environ
        places = addresses(
            url=url,
            lock_url=lock_url,
            unlock_url=unlock_url,
            lock_method=lock_method,
            unlock_method=unlock_method,
            update_method=update_method,
        )
        wire = Wire(
            credentials=credentials(token=token, username=username, password=password, environ=self._environ),
            timeout=float(timeout),
            ca_cert=ca_cert,
            pace=pace or Pace(),
        )
        name = f"{stack} at {shown(places.state)}"
        self._place = Place(wire=wire, addresses=places, stack=stack, name=name, sealer=sealer)
        self._lock = HttpLock(
            wire=wire,
            addresses=places,
            myself=Myself(host=host or this_host(), stack=stack),
            subject=f"the state {name}",
        )
        self._standing: Standing | None = None

    def describe(self) -> str:
        return self._place.name

    def read(self) -> State | None:
        found = self._read()
        return None if found is None else found[0]

    def _read(self) -> tuple[State, int] | None:
        """The state and its size in bytes."""
        data = self._place.fetch()
        return None if data is None else (self._place.decode(data), len(data))

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
        standing = self._held_by(lease)

        def folded(head: State | None) -> State:
            if head is None:
                raise StoreError(
                    f"there is no state {self.describe()} yet, so nothing can be noted in it",
                    hint="write the first snapshot, which holds the lineage, before the first entry",
                )
            return fold_all(head, entries)

        standing.put(folded)

    def write(self, lease: Lease, state: State) -> State:
        if state.stack != self.stack:
            raise StoreError(f"the state of stack {state.stack!r} cannot be written to {self.describe()}")
        standing = self._held_by(lease)

        def newer(head: State | None) -> State:
            if head is not None and state.serial < standing.base:
                raise StoreError(
                    f"{self.describe()} is at serial {head.serial} already, newer than the {state.serial} to be written",
                    hint="read the state again; to go back on purpose, push it with the current serial",
                )
            return state

        written = standing.put(newer)
        standing.base = written.serial
        return written

    def _held_by(self, lease: Lease) -> Standing:
        """What is known under this lease. Raises LeaseLost when it is given back already."""
        if not isinstance(lease, HttpLease):
            raise lease_lost(f"the state {self.describe()}", None)
        lease.check_here()
        if self._standing is None or self._standing.mine.id != lease.info.id:
            self._standing = Standing(place=self._place, lock=self._lock, mine=lease.info)
        return self._standing

    def history(self) -> Sequence[Version]:
        """The current one alone: what else the server keeps, the protocol does not tell."""
        try:
            found = self._read()
        except (StateCorrupt, StateTooNew):
            return ()
        if found is None:
            return ()
        state, size = found
        return (
            Version(
                serial=state.serial,
                at=state.updated_at,
                sandboxes=len(state.sandboxes),
                size=size,
                lineage=state.lineage,
                current=True,
            ),
        )

    def version(self, serial: int) -> State:
        current = self.read()
        if current is not None and current.serial == serial:
            return current
        error = no_version(self.describe(), serial, self.history())
        if current is not None:
            error.hint += "; what else the server keeps has to be fetched there, and pushed"
        raise error

    def unsealed(self, data: bytes, *, place: str) -> bytes:
        return document.unsealed(data, self._place.sealer, place=place)

    def secret_key(self, *, create: bool) -> bytes | None:
        given = keys.given(self._environ, instead="no secrets")
        if given is None and create:
            raise StoreError(
                f"there are secrets, and {self.describe()} has no place for the key that their digests are made with",
                hint=f"set {keys.KEY_VARIABLE} to a long random text, the same wherever this stack is run "
                "(`openssl rand -hex 32` makes one)",
            )
        return given

    def lock_info(self) -> LockInfo | None:
        return self._lock.look()

    def force_unlock(self, lock_id: str) -> LockInfo:
        return self._lock.break_by_force(lock_id)

    def check(self) -> Sequence[tuple[str, bool, str]]:
        return (
            state(self.read),
            *checks.encryption(self._place),
            checks.lock(self._lock),
            checks.private(self._place.addresses.state, self._place.wire.credentials.kind),
            checks.key(self._environ),
        )
