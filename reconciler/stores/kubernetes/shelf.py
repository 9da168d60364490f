"""The Secrets of one store: its head, which alone is replaced, and the parts that it names, which never change.

A write puts the parts first, then switches the head to them, then removes what the head names no more. Broken off anywhere,
the head is the one before or the new one, whole; what is left over is swept away by the next holder of the lock. Must never
remove a part that a later holder may have written.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from msgspec.structs import replace

from reconciler.errors import StateCorrupt, StoreError
from reconciler.stores.base import lease_lost
from reconciler.stores.kubernetes import index
from reconciler.stores.kubernetes.index import Head, Index, content
from reconciler.stores.kubernetes.lease import KubernetesLease
from reconciler.stores.kubernetes.objects import SECRET, Moved, Objects

_T = TypeVar("_T")
_TRIES = 10  # of a change that somebody else's comes in between of


class Gone(Exception):
    """A part that the head names is not there: the head is another one by now, or somebody removed it."""


class Shelf:
    """`name` is the head's, and what the names of all others begin with; `place` is for messages."""

    def __init__(self, objects: Objects, *, name: str, stack: str, place: str) -> None:
        self.name = name
        self.stack = stack
        self._objects = objects
        self._place = place
        self._swept = 0  # the fence under which it was swept last

    # -- looking

    def head(self) -> Head | None:
        """None when there is none and never was. Raises StateCorrupt and StateTooNew."""
        found = self._objects.get(SECRET, self.name)
        if found is not None:
            return index.head_of(found, place=self._place, stack=self.stack)
        if any(self._part(metadata) == index.SNAPSHOT for metadata in self._others()):
            raise StateCorrupt(
                f"the Secret {self.name}, the head of {self._place}, is missing, but parts of the state are there",
                hint=f"restore it, or remove them to begin anew: kubectl -n {self._objects.namespace} delete secret "
                f"-l {self._selector}",
            )
        return None

    def seen(self, use: Callable[[Head], _T]) -> _T | None:
        """What `use` makes of the head and its parts, all of one moment; None when there is no head. Raises StateCorrupt for
        parts that are missing for good."""
        before = ""
        while (head := self.head()) is not None:
            try:
                return use(head)
            except Gone as gone:
                if head.index.write == before:
                    raise StateCorrupt(
                        f"{gone}, which is a part of {self._place}, is missing", hint=index.MEND
                    ) from gone
                before = head.index.write
        return None

    def fetch(self, names: Iterable[str]) -> bytes:
        """What these parts hold together. Raises Gone."""
        pieces = []
        for name in names:
            found = self._objects.get(SECRET, name)
            if found is None:
                raise Gone(f"the Secret {name}")
            try:
                pieces.append(content(found, "part"))
            except ValueError as error:
                raise StateCorrupt(f"the Secret {name} is damaged: {error}", hint=index.MEND) from error
        return b"".join(pieces)

    # -- writing

    def claim(self, lease: KubernetesLease) -> Head:
        """The head with the lease's fence in it: from now on nobody who took the lock before can write. Raises LeaseLost."""
        for _ in range(_TRIES):
            head = self.head()
            if head is not None and head.index.fence >= lease.info.fence:
                # The Lease was removed or restored meanwhile: its numbers began again. Or a later holder was faster.
                lease.raised(head.index.fence + 1)
            with suppress(Moved):
                if head is not None:
                    return self._replace(head, head.next(fence=lease.info.fence, write=_token()))
                made = self._first(lease)
                if made is not None:
                    return made
        raise StoreError(f"{self._place} changes all the time", hint="find out what else writes there")

    def _first(self, lease: KubernetesLease) -> Head | None:
        """An empty head; None when somebody made one just now."""
        new = Index(stack=self.stack, fence=lease.info.fence, write=_token())
        made = self._objects.create(SECRET, self._body(Head(index=new)))
        return None if made is None else index.head_of(made, place=self._place, stack=self.stack)

    def put(self, data: bytes, lease: KubernetesLease, *, part: str, serial: int) -> tuple[str, ...]:
        """New parts with this content, and their names. They are nobody's until a head names them."""
        names = []
        stem = f"{self.name}.{serial}.{_token()}"
        for number, piece in enumerate(index.split(data), 1):
            names.append(f"{stem}.{number}")
            # Taken can only mean that a try of ours was done after all: nobody else draws that name.
            self._objects.create(
                SECRET,
                index.body(
                    names[-1],
                    {"part": piece},
                    store=self.name,
                    stack=self.stack,
                    part=part,
                    fence=lease.info.fence,
                    serial=serial,
                ),
            )
        return tuple(names)

    def switch(self, before: Head, after: Head, lease: KubernetesLease) -> Head:
        """The head by another one, in one moment. Raises LeaseLost when the lock is somebody else's, and StateCorrupt when
        something else has written there."""
        after = after.next(write=_token())
        try:
            return self._replace(before, after)
        except Moved as moved:
            lease.check()
            there = self.head()
            if there is None or there.index.fence > lease.info.fence:
                raise lease_lost(f"the state {self._place}", None) from moved
            raise StateCorrupt(
                f"{self._place} was changed by something that does not hold the lock",
                hint="find out what else writes there, then run the command again",
            ) from moved

    def _replace(self, before: Head, after: Head) -> Head:
        """Raises Moved when another head is there than `before`."""
        for _ in range(_TRIES):
            try:
                made = self._objects.replace(SECRET, self._body(replace(after, object=before.object)))
                return index.head_of(made, place=self._place, stack=self.stack)
            except Moved:
                there = self.head()
                if there is None:
                    raise
                if there.index.write == after.index.write:
                    return there  # by a try whose answer was lost
                if (there.index, there.tail) != (before.index, before.tail):
                    raise
                before = there  # somebody has put a label on it, and nothing else
        raise Moved

    def _body(self, head: Head) -> dict[str, object]:
        serial = head.index.snapshot.serial if head.index.snapshot else 0
        return index.body(
            self.name,
            {"index": head.index.encode(), "journal": head.tail},
            store=self.name,
            stack=self.stack,
            part=index.HEAD,
            fence=head.index.fence,
            serial=serial,
            of=head.object,
        )

    # -- cleaning

    def sweep(self, before: Index, now: Index, lease: KubernetesLease) -> None:
        """Remove what `before` named and `now` does not, and once under each lease whatever nobody names. Raises nothing: what
        stays is removed by the next."""
        with suppress(StoreError):
            names: Collection[str] = before.names() - now.names()
            if self._swept != lease.info.fence:
                names = self._left_over(now, lease.info.fence)
            for name in sorted(names):
                self._objects.remove(SECRET, name)
            self._swept = lease.info.fence

    def _left_over(self, now: Index, fence: int) -> Sequence[str]:
        """Parts that the head does not name, of this holder and of those before him."""
        named = now.names()
        return [
            str(metadata["name"])
            for metadata in self._others()
            if self._part(metadata) in (index.SNAPSHOT, index.JOURNAL)
            and metadata["name"] not in named
            and self._fence(metadata) <= fence
        ]

    def _others(self) -> Sequence[dict[str, object]]:
        """`metadata` of all Secrets of this store."""
        return self._objects.outlines(SECRET, self._selector)

    @property
    def _selector(self) -> str:
        return f"{index.PREFIX}store={self.name}"

    def _part(self, metadata: dict[str, object]) -> str:
        return _label(metadata, "part")

    def _fence(self, metadata: dict[str, object]) -> float:
        """What does not tell is everybody's, and stays."""
        text = _label(metadata, "fence")
        return int(text) if text.isascii() and text.isdigit() else float("inf")


def _label(metadata: dict[str, object], name: str) -> str:
    labels = metadata.get("labels")
    return str(labels.get(f"{index.PREFIX}{name}") or "") if isinstance(labels, dict) else ""


def _token() -> str:
    """Unlike any other, as a part of a Secret's name."""
    return uuid.uuid4().hex[:16]
