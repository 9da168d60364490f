"""The controllers that clean up: garbage collection by ownerReferences, and namespaces that end with all they hold."""

from __future__ import annotations

import copy
import threading

from tests.support.kubernetes.api import Api, Call
from tests.support.kubernetes.refusals import Json, Refusal
from tests.support.kubernetes.resources import NAMESPACES, Resource
from tests.support.kubernetes.storage import Change, Key, Storage


class Collector:
    """`stopped` leaves everything as it is, as on a bare API server without a controller manager."""

    def __init__(self, storage: Storage, api: Api, known: dict[str, Resource]) -> None:
        self.stopped = False
        self._storage = storage
        self._api = api
        self._known = known
        self._work = threading.Event()
        self._closed = False
        storage.observe(self._noticed)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._work.set()
        self._thread.join(10)

    def _noticed(self, change: Change) -> None:
        after = change.after
        if (
            after is None
            or after["metadata"].get("deletionTimestamp")
            or after["metadata"].get("ownerReferences")
        ):
            self._work.set()

    def _run(self) -> None:
        while not self._closed:
            self._work.wait()
            self._work.clear()
            if not self.stopped and not self._closed:
                self._collect()

    def _collect(self) -> None:
        with self._storage.lock:
            everything = list(self._storage.everything())
            uids = {thing["metadata"]["uid"]: thing for _, thing in everything}
            for key, thing in everything:
                try:
                    self._look_at(key, thing, uids, everything)
                except Refusal:
                    self._work.set()

    def _look_at(
        self, key: Key, thing: Json, uids: dict[str, Json], everything: list[tuple[Key, Json]]
    ) -> None:
        metadata = thing["metadata"]
        ends = bool(metadata.get("deletionTimestamp"))
        finalizers = metadata.get("finalizers") or ()
        owners = metadata.get("ownerReferences") or ()
        if "orphan" in finalizers and ends:
            self._orphan(key, thing, everything)
        elif "foregroundDeletion" in finalizers and ends:
            self._foreground(key, thing, everything)
        elif key[0] == NAMESPACES.key and ends:
            self._namespace(key, thing, everything)
        elif owners and not ends and all(owner["uid"] not in uids for owner in owners):
            self._api.delete(self._call(key), {"preconditions": {"uid": metadata["uid"]}})

    def _call(self, key: Key) -> Call:
        return Call(
            resource=self._known[key[0]], namespace=key[1], name=key[2], agent="kube-controller-manager"
        )

    def _dependents(self, thing: Json, everything: list[tuple[Key, Json]]) -> list[tuple[Key, Json]]:
        uid = thing["metadata"]["uid"]
        return [
            (key, other)
            for key, other in everything
            if any(owner["uid"] == uid for owner in other["metadata"].get("ownerReferences") or ())
            and self._storage.get(key) is not None
        ]

    def _orphan(self, key: Key, thing: Json, everything: list[tuple[Key, Json]]) -> None:
        uid = thing["metadata"]["uid"]
        for where, other in self._dependents(thing, everything):
            freed = copy.deepcopy(other)
            owners = [owner for owner in freed["metadata"]["ownerReferences"] if owner["uid"] != uid]
            freed["metadata"].pop("ownerReferences")
            if owners:
                freed["metadata"]["ownerReferences"] = owners
            self._storage.put(where, freed)
        self._drop_finalizer(key, "orphan")

    def _foreground(self, key: Key, thing: Json, everything: list[tuple[Key, Json]]) -> None:
        dependents = self._dependents(thing, everything)
        blocking = False
        for where, other in dependents:
            if not other["metadata"].get("deletionTimestamp"):
                self._api.delete(self._call(where), {"propagationPolicy": "Foreground"})
            blocking = blocking or self._storage.get(where) is not None
        if not blocking:
            self._drop_finalizer(key, "foregroundDeletion")

    def _drop_finalizer(self, key: Key, name: str) -> None:
        live = self._storage.get(key)
        if live is None:
            return
        thing = copy.deepcopy(live)
        thing["metadata"]["finalizers"] = [each for each in live["metadata"]["finalizers"] if each != name]
        if not thing["metadata"]["finalizers"]:
            del thing["metadata"]["finalizers"]
        self._api.replace(self._call(key), thing)

    def _namespace(self, key: Key, thing: Json, everything: list[tuple[Key, Json]]) -> None:
        inside = [where for where, _ in everything if where[1] == key[2] and self._storage.get(where)]
        for where in inside:
            live = self._storage.get(where)
            if live is not None and not live["metadata"].get("deletionTimestamp"):
                self._api.delete(self._call(where), {})
        left = [where for where, _ in self._storage.everything() if where[1] == key[2]]
        if not left:
            freed = copy.deepcopy(thing)
            freed["spec"] = {}
            self._storage.put(key, freed)
            self._storage.remove(key)
