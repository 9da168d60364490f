"""Snapshots as they are kept: the text in its parts, which may be sealed, and what the head says of it, which is compared.

Older ones are not copied: what a write replaces stays where it is, and the head goes on naming it, for the last so many.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from msgspec.structs import replace

from reconciler.errors import StateCorrupt, StateTooNew, StoreError
from reconciler.model.state import State
from reconciler.stores import snapshot
from reconciler.stores.base import Version
from reconciler.stores.kubernetes import index
from reconciler.stores.kubernetes.index import Head, Index, Kept
from reconciler.stores.kubernetes.lease import KubernetesLease
from reconciler.stores.kubernetes.shelf import Gone, Shelf
from reconciler.stores.sealing import SNAPSHOT, Sealer, is_sealed

ANOTHER = "`reconciler state history` shows what else there is"
MEND = f"{ANOTHER}; `reconciler state rollback` goes back to one of them"


class Versions:
    """`limit` is how many are kept beside the current one."""

    def __init__(self, shelf: Shelf, sealer: Sealer, *, place: str, limit: int) -> None:
        self._shelf = shelf
        self._sealer = sealer
        self._place = place
        self._limit = limit
        self._last: tuple[tuple[str, ...], bytes] = (
            (),
            b"",
        )  # parts and text of what was read or written last

    # -- reading

    def text(self, kept: Kept, *, place: str = "") -> bytes:
        """As it was written, sealed or not. Raises Gone and StateCorrupt."""
        packed = self._shelf.fetch(kept.parts)
        text = index.unpack(packed, place=place or self._place, hint=MEND)
        self._last = (kept.parts, text)
        return text

    def known_text(self, kept: Kept) -> bytes:
        """The same, without a question where it is at hand: parts never change."""
        return self._last[1] if self._last[0] == kept.parts else self.text(kept)

    def decoded(self, kept: Kept, text: bytes, *, place: str, hint: str = MEND) -> State:
        """Raises StateCorrupt, also where the head says something else than the text, StateTooNew, and StoreError where no key
        fits."""
        state = snapshot.decode(
            self._sealer.open(SNAPSHOT, text, place=place, hint=hint), place=place, hint=hint
        )
        if (state.stack, state.serial, state.lineage) != (self._shelf.stack, kept.serial, kept.lineage):
            raise StateCorrupt(
                f"{place} holds serial {state.serial} of stack {state.stack!r} and lineage {state.lineage}, but its head "
                f"says serial {kept.serial} of {self._shelf.stack!r} and {kept.lineage}",
                hint=hint,
            )
        return state

    def history(self, head: Head) -> Sequence[Version]:
        """The current one first. Raises Gone for a current one whose parts are not there, and StoreError where no key fits
        it."""
        found = []
        if head.index.snapshot is not None:
            with suppress(StateCorrupt, StateTooNew):
                found.append(self._version(head.index.snapshot, current=True))
        for kept in self.older(head.index):
            try:
                found.append(self._version(kept, current=False))
            except (StoreError, Gone) as error:
                damage = error.message if isinstance(error, StoreError) else f"{error} is missing"
                found.append(Version(serial=kept.serial, damage=damage))
        return found

    @staticmethod
    def older(at: Index) -> Sequence[Kept]:
        """The highest serial first."""
        current = -1 if at.snapshot is None else at.snapshot.serial
        return sorted((v for v in at.versions if v.serial != current), key=lambda v: -v.serial)

    def _version(self, kept: Kept, *, current: bool) -> Version:
        told = Version(
            serial=kept.serial,
            at=kept.at,
            sandboxes=kept.sandboxes,
            size=kept.size,
            lineage=kept.lineage,
            current=current,
        )
        if kept.sandboxes != index.UNTOLD and not self._sealer.enforced:
            return told
        where = self._place if current else f"version {kept.serial} of {self._place}"
        clear = self._sealer.open(SNAPSHOT, self.text(kept, place=where), place=where, hint=ANOTHER)
        seen = snapshot.outline(clear, place=where, hint=ANOTHER)
        if (seen.stack, seen.serial, seen.lineage) != (self._shelf.stack, kept.serial, kept.lineage):
            raise StateCorrupt(f"{where} holds serial {seen.serial} of stack {seen.stack!r}", hint=ANOTHER)
        return replace(told, at=seen.at, sandboxes=seen.sandboxes)

    # -- writing

    def written(self, state: State, lease: KubernetesLease) -> tuple[Kept, bytes]:
        """The state in parts that no head names yet, and its text. Raises StoreError for one that cannot be stored."""
        return self._put(state, snapshot.encode(state), lease)

    def _put(self, state: State, clear: bytes, lease: KubernetesLease) -> tuple[Kept, bytes]:
        text = self._sealer.seal(SNAPSHOT, clear)
        parts = self._shelf.put(index.pack(text), lease, part=index.SNAPSHOT, serial=state.serial)
        self._last = (parts, text)
        kept = Kept(
            serial=state.serial,
            lineage=state.lineage,
            at=state.updated_at,
            sandboxes=index.UNTOLD if self._sealer.seals else len(state.sandboxes),
            size=len(text),
            parts=parts,
        )
        return kept, text

    def with_replaced(self, at: Index, current: Kept) -> tuple[Kept, ...]:
        """The versions once `current` is one of them."""
        others = [kept for kept in at.versions if kept.serial != current.serial]
        return tuple([*others, current][-self._limit :]) if self._limit else ()

    def taken(self, at: Index, versions: Sequence[State], lease: KubernetesLease) -> tuple[Kept, ...]:
        """Those that there are and these, which another store had, as far as they are not there."""
        there = {kept.serial: kept for kept in at.versions}
        given = {state.serial: state for state in versions}
        serials = sorted({*there, *given})[-self._limit :] if self._limit else []
        return tuple(there.get(serial) or self.written(given[serial], lease)[0] for serial in serials)

    def resealed(self, at: Index, lease: KubernetesLease) -> Index:
        """The same with everything as it would be written now. What cannot be opened, or is damaged, stays as it is: it may be
        worth something to somebody yet."""
        current = at.snapshot
        return replace(
            at,
            versions=tuple(self._anew(kept, lease) for kept in at.versions),
            snapshot=None if current is None else self._anew(current, lease),
        )

    def _anew(self, kept: Kept, lease: KubernetesLease) -> Kept:
        with suppress(StateCorrupt, StateTooNew, Gone):
            text = self.text(kept)
            if not self._sealer.fresh(text):
                place = f"serial {kept.serial} of {self._place}"
                with suppress(StoreError):
                    clear = self._sealer.open(SNAPSHOT, text, place=place, hint=ANOTHER)
                    state = snapshot.decode(clear, place=place, hint=ANOTHER)
                    return self._put(state, clear, lease)[0]
        return kept

    def in_clear(self, at: Index) -> Sequence[str]:
        """The snapshots that are not sealed, by name, for people."""
        there = [*at.versions, *([at.snapshot] if at.snapshot else [])]
        with suppress(Gone):
            return [f"serial {kept.serial}" for kept in there if not is_sealed(self.text(kept))]
        return []
