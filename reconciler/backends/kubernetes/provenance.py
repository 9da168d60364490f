"""How a sandbox came to be as it is: its pod's end, what the cluster noted of it, and who changed which field when. Pure.

A server notes for each field who wrote it last (`managedFields`), and for an hour or so what happened to an object (events).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reconciler.backends.kubernetes.explain import condition, disruption, ending, explain, termination
from reconciler.backends.kubernetes.look import moment
from reconciler.model.drift import Cause, Provenance

Json = Mapping[str, Any]

MANAGER = "sandbox-reconciler"  # how the server knows us
_SIGKILL, _SIGTERM = 128 + 9, 128 + 15
_MOST_FIELDS = 5  # of what somebody changed, named one by one
_CLUSTER_ENDED = {
    "Evicted": Cause.KILLED,
    "Preempting": Cause.KILLED,
    "Preempted": Cause.KILLED,
    "DeadlineExceeded": Cause.STOPPED,
    "Shutdown": Cause.HOST_RESTARTED,
    "Terminated": Cause.HOST_RESTARTED,
    "NodeShutdown": Cause.HOST_RESTARTED,
}
_REMOVALS = {
    "Killing": "its container was stopped",
    "TaintManagerEviction": "its node was lost or is being emptied",
    "NodeNotReady": "its node did not answer",
    "Preempted": "it had to make room for another pod",
    "Evicted": "it was evicted",
}


def of_end(pod: Json) -> Provenance | None:
    """How it ended, or ends again and again; None when it does neither."""
    status = pod.get("status") or {}
    ended = termination(status)
    if status.get("phase") in ("Failed", "Succeeded") or explain(pod).hopeless:
        reason = str(status.get("reason") or "")
        detail = explain(pod).detail
        if reason in _CLUSTER_ENDED:
            return Provenance(cause=_CLUSTER_ENDED[reason], detail=detail, at=_disrupted(status))
        if ended:
            return Provenance(cause=_of_end(ended), detail=detail, at=moment(ended.get("finishedAt")))
    return None


def _of_end(ended: Json) -> Cause:
    if ended.get("reason") == "OOMKilled":
        return Cause.OUT_OF_MEMORY
    match ended.get("exitCode"):
        case 0:
            return Cause.ENDED
        case code if code in (_SIGKILL, _SIGTERM):
            return Cause.KILLED
        case _:
            return Cause.CRASHED


def _disrupted(status: Json) -> float | None:
    return moment(condition(status, "DisruptionTarget").get("lastTransitionTime"))


def of_removal(main: Json, pod: Json | None) -> Provenance | None:
    """Why and since when it is being removed; None when it is not. Who asked for it a cluster notes only where it did so itself:
    an eviction, a lost node."""
    metadata = main["metadata"]
    by = moment(metadata.get("deletionTimestamp"))
    if by is None:
        return None
    why = disruption((pod or {}).get("status") or {})
    detail = "; ".join(filter(None, (why, ending(metadata))))
    asked = by - float(metadata.get("deletionGracePeriodSeconds") or 0)
    return Provenance(cause=Cause.REMOVED, detail=detail, at=asked)


def edited(metadata: Json) -> Provenance | None:
    """Who else wrote fields of it last, and which; None when nobody did. What a controller writes into a status is none of
    our fields."""
    entries = [
        entry
        for entry in metadata.get("managedFields") or ()
        if entry.get("manager") != MANAGER and not entry.get("subresource")
    ]
    told = [(entry, fields) for entry in entries if (fields := list(_fields(entry.get("fieldsV1") or {})))]
    if not told:
        return None
    entry, fields = max(told, key=lambda pair: moment(pair[0].get("time")) or 0.0)
    shown = ", ".join(fields[:_MOST_FIELDS]) + (", …" if len(fields) > _MOST_FIELDS else "")
    return Provenance(
        cause=Cause.EDITED, detail=f"{entry.get('manager')} changed {shown}", at=moment(entry.get("time"))
    )


def _fields(tree: Json) -> Iterator[str]:
    """The labels and the parts of the specification that a set of fields names, sorted."""
    labels = (tree.get("f:metadata") or {}).get("f:labels") or {}
    yield from sorted(f"labels.{key.removeprefix('f:')}" for key in labels if key.startswith("f:"))
    spec = {
        key: value for key, value in (tree.get("f:spec") or {}).items() if key != "f:nodeName"
    }  # the scheduler's
    yield from sorted(set(_leaves(spec, ())))


def _leaves(tree: Json, path: tuple[str, ...]) -> Iterator[str]:
    """Lists are passed through: which of their items it was says less than which of its fields."""
    below = {key: value for key, value in tree.items() if key.startswith(("f:", "k:")) and key != "f:"}
    if not below and path:
        yield ".".join(path)
    for key, value in below.items():
        yield from _leaves(value or {}, (*path, key[2:]) if key.startswith("f:") else path)


def of_gone(events: Sequence[Json]) -> Provenance | None:
    """From what the cluster noted of it before it went, oldest first; None when it noted nothing that tells."""
    for event in reversed(events):
        told = _REMOVALS.get(str(event.get("reason")))
        if told:
            message = " ".join(str(event.get("message") or event.get("note") or "").split())[:200]
            at = next((t for t in map(moment, _times(event)) if t is not None), None)
            return Provenance(cause=Cause.REMOVED, detail=f"{told}: {message}" if message else told, at=at)
    return None


def _times(event: Json) -> Iterator[object]:
    yield (event.get("series") or {}).get("lastObservedTime")
    yield from (event.get(key) for key in ("lastTimestamp", "eventTime", "firstTimestamp"))
    yield (event.get("metadata") or {}).get("creationTimestamp")
