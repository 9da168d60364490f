"""Where the cluster keeps its objects: one revision counter, every object's present state, and a history of changes.

It is etcd's part: it knows keys, revisions and compaction, and nothing of what the objects mean.
"""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.support.kubernetes.refusals import Json
from tests.support.kubernetes.resources import Resource

Key = tuple[str, str, str]  # the type's key, namespace ("" for none), name


@dataclass(frozen=True)
class Change:
    """`before` is None for what is new, `after` for what is gone; objects in it are never changed again."""

    revision: int
    key: Key
    before: Json | None
    after: Json | None


class Storage:
    """All of it is for one thread at a time: hold `lock` (it may be taken again by its holder)."""

    def __init__(self, *, keep: int = 20_000) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.revision = 1000
        self.compacted = 0  # changes up to this revision are forgotten
        self.closed = False
        self._objects: dict[str, dict[tuple[str, str], Json]] = {}
        self._history: deque[Change] = deque()
        self._keep = keep
        self._after: list[Callable[[Change], None]] = []

    def observe(self, call: Callable[[Change], None]) -> None:
        """Call this, with the lock held, after each change."""
        self._after.append(call)

    def get(self, key: Key) -> Json | None:
        """The caller must not change what it gets."""
        return self._objects.get(key[0], {}).get(key[1:])

    def put(self, key: Key, thing: Json) -> Json:
        """Store a copy under a new revision, and return that copy."""
        self.revision += 1
        stored = copy.deepcopy(thing)
        stored["metadata"]["resourceVersion"] = str(self.revision)
        objects = self._objects.setdefault(key[0], {})
        before = objects.get(key[1:])
        objects[key[1:]] = stored
        self._note(Change(self.revision, key, before, stored))
        return stored

    def remove(self, key: Key) -> Json:
        """Raises KeyError. What is returned, and what a watch is told, carries the revision of the removal."""
        self.revision += 1
        before = self._objects[key[0]].pop(key[1:])
        last = {**before, "metadata": {**before["metadata"], "resourceVersion": str(self.revision)}}
        self._note(Change(self.revision, key, last, None))
        return last

    def _note(self, change: Change) -> None:
        self._history.append(change)
        while len(self._history) > self._keep:
            self.compacted = self._history.popleft().revision
        for call in self._after:
            call(change)
        self.changed.notify_all()

    def list(self, resource: Resource, namespace: str = "") -> list[Json]:
        """In the order of namespace and name, of one namespace or of all."""
        objects = self._objects.get(resource.key, {})
        return [thing for (where, _), thing in sorted(objects.items()) if not namespace or where == namespace]

    def everything(self) -> Iterator[tuple[Key, Json]]:
        for kind, objects in list(self._objects.items()):
            for (namespace, name), thing in list(objects.items()):
                yield (kind, namespace, name), thing

    def since(self, revision: int) -> list[Change]:
        """Changes after that revision, oldest first."""
        found: list[Change] = []
        for change in reversed(self._history):
            if change.revision <= revision:
                break
            found.append(change)
        return found[::-1]

    def compact(self, revision: int | None = None) -> None:
        """Forget history up to that revision, or up to now: those who ask for it are answered 410."""
        upto = self.revision if revision is None else revision
        self.compacted = max(self.compacted, upto)
        while self._history and self._history[0].revision <= upto:
            self._history.popleft()
        self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
