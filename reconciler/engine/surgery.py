"""`state mv`, `rm`, `pull`, `push` and `rollback`: the records are edited under the lock, and the version before can be had again.

No backend is asked, and no sandbox is touched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core import surgery
from reconciler.engine.context import Context
from reconciler.engine.locking import locked
from reconciler.errors import NotFound, Refused, StateCorrupt
from reconciler.model.desired import Address, FlatSpec
from reconciler.model.state import SandboxRecord, State
from reconciler.stores import snapshot
from reconciler.stores.base import Lease, Store

_DIGEST = re.compile(r"(hmac-sha256:[0-9a-f]{32})?")


class Edit(Struct, frozen=True, kw_only=True):
    """What was done to the records. `after` is as it was written; when not `written`, for a dry run or because
    nothing is to do, as it would be. `moved` holds from where to where, `forgotten` what was recorded. `kept`: the store
    has the version before still."""

    before: State | None
    after: State
    written: bool
    moved: tuple[tuple[Address, Address], ...] = ()
    forgotten: tuple[SandboxRecord, ...] = ()
    kept: bool = True

    @property
    def backup(self) -> int | None:
        """The serial that undoes it; None when nothing was written, nothing was there before, or nothing is kept."""
        return self.before.serial if self.written and self.kept and self.before is not None else None


def move(
    context: Context, source: str, target: str, *, lock_timeout: float = 0.0, dry_run: bool = False
) -> Edit:
    """Record what is `source` as `target`, one address or all of a group. `lock_timeout` in seconds. Raises what
    `core.surgery.moves` raises, LockHeld, and StoreError."""

    def edit(state: State) -> Edit:
        moved = tuple(surgery.moves(state, source, target).items())
        after = surgery.move(state, source, target)
        return Edit(before=state, after=after, written=False, moved=moved)

    return _edited(context, edit, "state mv", lock_timeout, dry_run)


def forget(
    context: Context, patterns: Sequence[str], *, lock_timeout: float = 0.0, dry_run: bool = False
) -> Edit:
    """Let go of the sandboxes that the patterns mean: they run on, and are nobody's. Raises what
    `core.surgery.chosen` raises, LockHeld, and StoreError."""

    def edit(state: State) -> Edit:
        gone = tuple(state.sandboxes[address] for address in surgery.chosen(state, patterns))
        return Edit(before=state, after=surgery.forget(state, patterns), written=False, forgotten=gone)

    return _edited(context, edit, "state rm", lock_timeout, dry_run)


def pull(store: Store, serial: int | None = None) -> tuple[State, bytes]:
    """The state as it is now, or the version of that serial, and its bytes as they are stored. Raises NotFound when
    there is no state yet, and StoreError."""
    state = store.read() if serial is None else store.version(serial)
    if state is None:
        raise NotFound(f"{store.describe()} does not exist yet", hint="`reconciler apply` makes it")
    return state, snapshot.encode(state)


def push(
    context: Context,
    data: bytes,
    *,
    place: str,
    force: bool = False,
    lock_timeout: float = 0.0,
    dry_run: bool = False,
) -> Edit:
    """Store a state that was pulled, or fetched from where the store keeps it, as the next serial. `place` is where
    `data` is from, for messages. `force` lets it be older than what is stored, or of another lineage.

    Raises StateCorrupt or StateTooNew for what is no state, Refused for one that does not belong here, LockHeld, and
    StoreError."""
    pushed = _whole(context.store.unsealed(data, place=place), place)

    read = context.store.read if force else context.recorded

    def edit(state: State | None) -> Edit:
        _refuse_foreign(context, state, pushed, place, force)
        return Edit(before=state, after=replace(pushed, migrated=None), written=False)

    if dry_run:
        return edit(read())
    with locked(context, "state push", lock_timeout) as lease:
        return _written(context.store, lease, edit(read()))


def rollback(
    context: Context,
    serial: int,
    *,
    confirm: Callable[[Edit], bool],
    lock_timeout: float = 0.0,
    dry_run: bool = False,
) -> Edit:
    """Make the version of that serial the state again, as the next serial. `confirm` is asked under the lock, with what
    would be done; the edit is returned as not written when it says no. Raises NotFound when nothing is recorded,
    StoreError for a version that is not there, LockHeld, and StoreError."""

    def edit(state: State) -> Edit:
        older = replace(context.store.version(serial), migrated=None)
        return Edit(before=state, after=older, written=False)

    if dry_run:
        return edit(_recorded(context))
    with locked(context, "state rollback", lock_timeout) as lease:
        meant = edit(_recorded(context))
        return _written(context.store, lease, meant) if confirm(meant) else meant


def _edited(
    context: Context, edit: Callable[[State], Edit], operation: str, lock_timeout: float, dry_run: bool
) -> Edit:
    if dry_run:
        return edit(_recorded(context))
    with locked(context, operation, lock_timeout) as lease:
        return _written(context.store, lease, edit(_recorded(context)))


def _recorded(context: Context) -> State:
    state = context.recorded()
    if state is None:
        raise NotFound(
            f"nothing is recorded: {context.store.describe()} does not exist yet",
            hint="`reconciler apply` makes it",
        )
    return state


def _written(store: Store, lease: Lease, edit: Edit) -> Edit:
    """Write it, unless that changes nothing. A journal that a killed run left is written first, as a version of its
    own: going back to before the edit must not forget what that run had made."""
    before, after = edit.before, edit.after
    if before is not None:
        if replace(after, serial=before.serial, updated_at=before.updated_at) == before:
            return replace(edit, after=before)
        if store.version(before.serial) != before:
            before = store.write(lease, before)
        after = replace(after, serial=max(after.serial, before.serial))
    written = store.write(lease, after)
    return replace(edit, before=before, after=written, written=True, kept=store.keeps_versions)


def _whole(data: bytes, place: str) -> State:
    """The state of a file, with what no format describes checked as well."""
    state = snapshot.decode(
        data, place=place, hint="pull it again: `reconciler state history` shows which versions there are"
    )
    objects: dict[tuple[str, str], Address] = {}
    for address, record in sorted(state.sandboxes.items()):
        for spec in (record.spec, record.healthy or {}):
            _refuse_secrets(address, spec, place)
        other = objects.setdefault((record.backend, record.sandbox_id), address)
        if other != address:
            raise StateCorrupt(
                f"{place} records {record.sandbox_id} on {record.backend!r} twice, as {other} and as {address}",
                hint="keep the one that it is",
            )
    return state


def _refuse_secrets(address: Address, spec: FlatSpec, place: str) -> None:
    for path, value in spec.items():
        if not path.startswith("secrets.") or path.endswith(".as"):
            continue
        if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
            raise Refused(
                f"{place} holds something else than a digest as {path} of {address}: a secret's value is never stored",
                hint="put the digest there that `reconciler state pull` prints, or an empty text",
            )


def _refuse_foreign(context: Context, state: State | None, pushed: State, place: str, force: bool) -> None:
    store, stack = context.store, context.desired.stack
    if pushed.stack != stack:
        raise Refused(
            f"{place} is the state of stack {pushed.stack!r}, {store.describe()} that of {stack!r}",
            hint="push it from the directory with the configuration of that stack",
        )
    if state is None or force:
        return
    if pushed.lineage != state.lineage:
        raise Refused(
            f"{place} is of lineage {pushed.lineage}, {store.describe()} of {state.lineage}: they have different "
            "sandboxes",
            hint="with --force it takes the place all the same; then the sandboxes recorded here now are nobody's",
        )
    if pushed.serial < state.serial:
        raise Refused(
            f"{place} is of serial {pushed.serial}, older than the {state.serial} of {store.describe()}",
            hint="to go back on purpose, push it with --force",
        )
