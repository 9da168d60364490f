"""Asks what `provenance` weighs, for many sandboxes at once: the objects that are there, and the cluster's memory of the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from reconciler.backends.containers import SANDBOX_ID
from reconciler.backends.kubernetes import provenance as weighed
from reconciler.backends.kubernetes.cluster import Cluster
from reconciler.backends.kubernetes.find import Objects
from reconciler.backends.kubernetes.order import Json
from reconciler.backends.own_deeds import ENDING, OwnDeeds
from reconciler.model.drift import Provenance

_AT_ONCE = 100  # names in one selector: an address has no room for thousands
_ONE_BY_ONE = 8  # up to here the memory is asked of each that is gone, beyond for all at once


def origins(
    cluster: Cluster, objects: Objects, sandbox_ids: Collection[str], deeds: OwnDeeds
) -> Mapping[str, Provenance]:
    """By sandbox id; what nobody knows is left out. Raises as every question to the cluster does."""
    told: dict[str, Provenance] = {}
    there: set[str] = set()
    for some in _chunks(sorted(sandbox_ids)):
        selector = f"{SANDBOX_ID} in ({','.join(some)})"
        pods = {item["metadata"]["labels"][SANDBOX_ID]: item for item in cluster.items("Pod", selector)}
        mains = pods if objects.kind == "Pod" else _by_id(cluster.items(objects.kind, selector))
        for sandbox_id, main in mains.items():
            there.add(sandbox_id)
            origin = _of_one(main, pods.get(sandbox_id))
            if origin is not None:
                told[sandbox_id] = origin
    gone = [name for name in sorted(sandbox_ids) if name not in there]
    for sandbox_id, events in _memory(cluster, {objects.name(name): name for name in gone}).items():
        origin = weighed.of_gone(events)
        if origin is not None and not _was_ours(deeds, sandbox_id, origin.at or 0.0):
            told[sandbox_id] = origin
    return told


def _was_ours(deeds: OwnDeeds, sandbox_id: str, at: float) -> bool:
    """Whether this very backend object ended it then. A cluster notes whole seconds."""
    last = deeds.last(sandbox_id)
    return last is not None and last.verb in ENDING and last.began < at + 1.0 and at <= last.ended


def _of_one(main: Json, pod: Json | None) -> Provenance | None:
    """Who removes it, how it ended, else who changed it. What a controller writes into the pod of a `Sandbox` is no change of ours."""
    ended = None if pod is None else weighed.of_end(pod)
    return weighed.of_removal(main, pod) or ended or weighed.edited(main["metadata"])


def _by_id(items: Iterator[Json]) -> dict[str, Json]:
    return {item["metadata"]["labels"][SANDBOX_ID]: item for item in items}


def _memory(cluster: Cluster, names: Mapping[str, str]) -> dict[str, list[Json]]:
    """The events of pods by these names, by sandbox id, oldest first."""
    if not names:
        return {}
    found: dict[str, list[Json]] = {}
    only = list(names) if len(names) <= _ONE_BY_ONE else [""]
    for name in only:
        for event in cluster.events(name):
            sandbox_id = names.get(str((event.get("involvedObject") or {}).get("name")))
            if sandbox_id is not None:
                found.setdefault(sandbox_id, []).append(event)
    return found


def _chunks(names: list[str]) -> Iterator[list[str]]:
    remaining = iter(names)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some
