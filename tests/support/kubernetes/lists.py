"""Collections: lists in pages from one moment, and watches that begin where a list ended."""

from __future__ import annotations

import base64
import json
import time
from collections import OrderedDict
from collections.abc import Iterator

from tests.support.kubernetes import refusals, selectors
from tests.support.kubernetes.api import Call
from tests.support.kubernetes.refusals import Json, Refusal
from tests.support.kubernetes.selectors import Matches
from tests.support.kubernetes.storage import Change, Storage

_SNAPSHOTS = 50  # moments that pages can still be asked of


class Lists:
    def __init__(self, storage: Storage, *, bookmark_seconds: float = 0.5) -> None:
        self._storage = storage
        self._bookmark_seconds = bookmark_seconds
        self._snapshots: OrderedDict[tuple[str, str, int], list[Json]] = OrderedDict()
        self.watch_refuses_by_status = False  # a watch that is too old: HTTP 410, not an ERROR event
        self.twice = False  # every watch event is sent twice
        self.skip: Matches | None = None  # events that a watch misses

    def page(self, call: Call) -> Json:
        """The list's document. `limit` and `continue` as the query says."""
        with self._storage.lock:
            chosen = _chosen(call)
            revision, start = self._storage.revision, ""
            self._not_older(call.query.get("resourceVersion", ""), call.query.get("resourceVersionMatch", ""))
            if token := call.query.get("continue"):
                revision, start, things = self._continued(call, token)
            else:
                things = self._storage.list(call.resource, call.namespace)
            limit = int(call.query.get("limit") or 0)
            found, after, left = _paged(things, chosen, start, limit)
            metadata: Json = {"resourceVersion": str(revision)}
            if after:
                metadata["continue"] = _token(revision, after)
                if not call.query.get("labelSelector") and not call.query.get("fieldSelector"):
                    metadata["remainingItemCount"] = left
                self._snapshots[call.resource.key, call.namespace, revision] = things
                while len(self._snapshots) > _SNAPSHOTS:
                    self._snapshots.popitem(last=False)
            if "." not in call.resource.group or (
                call.resource.group.endswith(".k8s.io") and call.resource.kind != "Sandbox"
            ):
                found = [_bare(thing) for thing in found]
            return {
                "kind": f"{call.resource.kind}List",
                "apiVersion": call.resource.api_version,
                "metadata": metadata,
                "items": found,
            }

    def _continued(self, call: Call, token: str) -> tuple[int, str, list[Json]]:
        try:
            read = json.loads(base64.urlsafe_b64decode(token + "=="))
            revision, start = int(read["rv"]), str(read["start"])
        except (ValueError, KeyError, TypeError) as error:
            raise refusals.bad_request(f"continue key is not valid: {error}") from error
        if revision < 0:  # the list may go on, but not from the same moment
            return self._storage.revision, start, self._storage.list(call.resource, call.namespace)
        snapshot = self._snapshots.get((call.resource.key, call.namespace, revision))
        if snapshot is None or revision <= self._storage.compacted:
            refusal = refusals.expired(
                "The provided continue parameter is too old to display a consistent list result. You can start a new "
                "list without the continue parameter, or use the continue token in this response to retrieve the "
                "remainder of the results. Continuing with the provided token results in an inconsistent list - objects "
                "that were created, modified, or deleted between the time the first chunk was returned and now may show "
                "up in the list."
            )
            refusal.continue_token = _token(-1, start)
            raise refusal
        return revision, start, snapshot

    def _not_older(self, text: str, match: str) -> None:
        if text in ("", "0"):
            return
        wanted = int(text)
        if wanted > self._storage.revision:
            refusal = Refusal(
                504, f"Too large resource version: {wanted}, current: {self._storage.revision}", "Timeout"
            )
            refusal.details = {
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            }
            raise refusal
        if match == "Exact" and wanted <= self._storage.compacted:
            raise refusals.expired("The resourceVersion for the provided list is too old.")

    def watch(self, call: Call) -> Iterator[Json | None]:
        """Events as they happen, and None each time there was nothing for a moment; ends at `timeoutSeconds`.

        Raises Refusal before the first event for what cannot be watched.
        """
        chosen = _chosen(call)
        ends = time.monotonic() + float(call.query.get("timeoutSeconds") or 1800)
        text = call.query.get("resourceVersion", "")
        if text and not text.isdigit():
            raise refusals.invalid(
                call.resource, "", [("resourceVersion", "FieldValueInvalid", f'Invalid value: "{text}"')]
            )
        storage = self._storage
        with storage.lock:
            seen = storage.revision if text in ("", "0") else int(text)
            first = storage.list(call.resource, call.namespace) if text in ("", "0") else []
            old = seen < storage.compacted
        if old:
            refusal = refusals.expired(f"too old resource version: {seen} ({storage.compacted + 1})")
            if self.watch_refuses_by_status:
                raise refusal
            return iter([{"type": "ERROR", "object": refusal.status()}])
        return self._events(call, chosen, seen, [thing for thing in first if chosen(thing)], ends)

    def _events(
        self, call: Call, chosen: Matches, seen: int, first: list[Json], ends: float
    ) -> Iterator[Json | None]:
        storage = self._storage
        bookmarks = call.query.get("allowWatchBookmarks") in ("true", "1")
        for thing in first:
            yield {"type": "ADDED", "object": thing}
        marked = time.monotonic()
        while time.monotonic() < ends and not storage.closed:
            with storage.changed:
                changes = storage.since(seen)
                if not changes:
                    storage.changed.wait(min(0.25, max(0.0, ends - time.monotonic())))
                    changes = storage.since(seen)
                if seen < storage.compacted and not changes and storage.compacted > storage.revision:
                    return
                seen = changes[-1].revision if changes else seen
            for change in changes:
                event = _event(call, chosen, change)
                if event and not (self.skip and self.skip(event["object"])):
                    yield event
                    if self.twice:
                        yield event
            if bookmarks and time.monotonic() - marked >= self._bookmark_seconds:
                marked = time.monotonic()
                yield _bookmark(call, seen)
            elif not changes:
                yield None
        if bookmarks and not storage.closed:
            yield _bookmark(call, seen)


def _chosen(call: Call) -> Matches:
    by_label = selectors.labels(call.query.get("labelSelector", ""))
    by_field = selectors.fields(call.query.get("fieldSelector", ""), call.resource.plural)
    return lambda thing: by_label(thing) and by_field(thing)


def _bookmark(call: Call, revision: int) -> Json:
    return {
        "type": "BOOKMARK",
        "object": {
            "kind": call.resource.kind,
            "apiVersion": call.resource.api_version,
            "metadata": {"resourceVersion": str(revision), "creationTimestamp": None},
        },
    }


def _event(call: Call, chosen: Matches, change: Change) -> Json | None:
    kind, namespace, _ = change.key
    if kind != call.resource.key or (call.namespace and namespace != call.namespace):
        return None
    was = change.before is not None and chosen(change.before)
    now = change.after is not None and chosen(change.after)
    if now:
        return {"type": "MODIFIED" if was else "ADDED", "object": change.after}
    if was and change.after is None:
        return {"type": "DELETED", "object": change.before}
    if was and change.before is not None and change.after is not None:  # it left the selection
        version = change.after["metadata"]["resourceVersion"]
        left = {**change.before, "metadata": {**change.before["metadata"], "resourceVersion": version}}
        return {"type": "DELETED", "object": left}
    return None


def _bare(thing: Json) -> Json:
    return {name: part for name, part in thing.items() if name not in ("kind", "apiVersion")}


def _where(thing: Json) -> str:
    return f"{thing['metadata'].get('namespace', '')}/{thing['metadata']['name']}"


def _paged(things: list[Json], chosen: Matches, start: str, limit: int) -> tuple[list[Json], str, int]:
    """The page, where the next one begins ("" at the end), and how many are left."""
    found: list[Json] = []
    for at, thing in enumerate(things):
        if start and _where(thing) < start:
            continue
        if limit and len(found) == limit:
            if any(chosen(other) for other in things[at:]):
                return found, _where(thing), len(things) - at
            return found, "", 0
        if chosen(thing):
            found.append(thing)
    return found, "", 0


def _token(revision: int, start: str) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
