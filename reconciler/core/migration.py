"""Moving a state from one store to another: whether it may be, and who may work with which of the two afterwards.

The one that is left is marked before the other is written, so at no moment can two of them be worked with. It stays whole
under its mark: whatever a migration breaks off at, doing it again completes it.
"""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.errors import Refused
from reconciler.model.state import State


def refuse_migrated(state: State | None, place: str) -> None:
    """Raises Refused for what a migration left behind in `place`."""
    if state is None or state.migrated is None:
        return
    raise Refused(
        f"the state in {place} moved to {state.migrated.to}, and this configuration still names the old place",
        hint="take the configuration whose `state:` names the new one; if the migration was broken off, run "
        "`reconciler state migrate` with it again; to come back, migrate from there",
    )


def contents(state: State) -> State:
    """What has to be the same in both stores: all but what counts and dates its writing."""
    return replace(state, serial=0, updated_at=0.0, migrated=None)


def needs_writing(source: State, target: State | None, *, from_: str, to: str, force: bool) -> bool:
    """Whether the target has to be written, or holds the state already. `from_` and `to` are the stores' places. Raises
    Refused when something would be lost, unless `force`."""
    gone = source.migrated
    if target is not None and target.migrated is None and target.lineage == source.lineage:
        if gone is not None and gone.to == to and target.serial >= source.serial:
            return False  # a migration that was broken off after it, or an old one
        if gone is None and contents(target) == contents(source):
            return False
    if not force:
        _refuse_loss(source, target, from_, to)
    return True


def _refuse_loss(source: State, target: State | None, from_: str, to: str) -> None:
    if source.migrated is not None and source.migrated.to != to:
        raise Refused(
            f"the state in {from_} moved to {source.migrated.to} already",
            hint="migrate from there; with --force what was left here is taken all the same",
        )
    if target is None:
        return
    if target.lineage != source.lineage:
        raise Refused(
            f"{to} holds a state of lineage {target.lineage}, {from_} one of {source.lineage}: they have different "
            "sandboxes",
            hint="with --force the latter takes the place; then the sandboxes recorded there now are nobody's",
        )
    if target.serial > source.serial or (target.serial == source.serial and target.migrated is None):
        raise Refused(
            f"{to} holds serial {target.serial} of this state, {from_} serial {source.serial}: the newer one would be "
            "replaced",
            hint="look at both with `reconciler state history`; with --force the older one takes the place",
        )
