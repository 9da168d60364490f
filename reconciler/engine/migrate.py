"""`state migrate`: a state, its versions and the key of its digests go from one store to another, under both locks.

The order is what makes it safe to kill: the key first, which alone means nothing; then the mark on what is left; then the
state; then its versions. From the mark on nobody works with the old one, and until the state is there nobody finds anything
in the new one but what was there. Doing it again goes on from wherever it was.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.migration import contents, needs_writing
from reconciler.engine.context import Context
from reconciler.engine.locking import locked
from reconciler.errors import NotFound, ReconcilerError, StoreError
from reconciler.model.state import Migrated, State
from reconciler.stores.base import Lease, Store


class Migration(Struct, frozen=True, kw_only=True):
    """What went where, or would go. `state` is as it is in the new store; `moved` is False when it was there already.
    `versions` older ones came along, `behind` others can be had in the old store alone."""

    source: str
    target: str
    state: State
    moved: bool
    written: bool
    versions: int = 0
    behind: int = 0


def migrate(
    context: Context, source: Store, *, force: bool = False, lock_timeout: float = 0.0, dry_run: bool = False
) -> Migration:
    """Move the state of `source` into the context's store. `lock_timeout`, in seconds, is for each of the two locks.

    Raises NotFound when there is none, Refused when another or a newer one would be lost, LockHeld, and StoreError."""
    if source.place() == context.store.place():
        raise ReconcilerError(
            f"{source.place()} is where the state is to go, and where it is to come from",
            hint="name with --from the configuration as it was before `state:` was changed",
        )
    if dry_run:
        return _judged(context.store, source, force)
    old = replace(context, store=source)
    with (
        locked(old, "state migrate", lock_timeout) as left,
        locked(context, "state migrate", lock_timeout) as lease,
    ):
        return _carried(context, source, left, lease, _judged(context.store, source, force))


def _judged(target: Store, source: Store, force: bool) -> Migration:
    state = source.read()
    if state is None:
        raise NotFound(
            f"{source.describe()} holds no state", hint="check `state:` in the file that --from names"
        )
    there = target.read()
    needed = needs_writing(state, there, from_=source.place(), to=target.place(), force=force)
    shown = state if needed or there is None else there
    return Migration(
        source=source.describe(),
        target=target.describe(),
        state=shown,
        moved=needed,
        written=False,
        versions=len(_versions(source, state)),
    )


def _carried(context: Context, source: Store, left: Lease, lease: Lease, judged: Migration) -> Migration:
    target = context.store
    key = source.secret_key(create=False)
    if key is not None and target.secret_key(create=False) != key:
        target.take_key(lease, key)
    state = source.read()
    assert state is not None
    if state.migrated is None or state.migrated.to != target.place():
        mark = Migrated(to=target.place(), at=context.clock.now())
        state = source.write(left, replace(state, migrated=mark))
    after = _written(target, lease, state) if judged.moved else judged.state
    versions = _versions(source, state)
    taken = target.keep(lease, [version for version in versions if version.serial < after.serial])
    _verify(target, after, key)
    known = {version.serial for version in target.history()}
    return replace(
        judged,
        state=after,
        written=True,
        versions=taken,
        behind=sum(version.serial not in known for version in versions),
    )


def _written(target: Store, lease: Lease, state: State) -> State:
    there = target.read()
    below = max(state.serial - 1, 0 if there is None else there.serial)
    return target.write(lease, replace(state, migrated=None, serial=below))


def _versions(source: Store, state: State) -> list[State]:
    """The older versions of this very state; marks of earlier migrations are none of it."""
    found = [
        source.version(version.serial)
        for version in source.history()
        if not version.current and not version.damage and version.lineage == state.lineage
    ]
    return [version for version in found if version.migrated is None]


def _verify(target: Store, written: State, key: bytes | None) -> None:
    """Raises StoreError unless the new store gives back what it was given."""
    back = target.read()
    if back is None or contents(back) != contents(written):
        what = "the state"
    elif key is not None and target.secret_key(create=False) != key:
        what = "the key of the secrets' digests"
    else:
        return
    raise StoreError(
        f"{target.describe()} does not give back {what} as it was written",
        hint="nothing is lost, for the old store still has all of it: find out what else writes there, then migrate again",
    )
