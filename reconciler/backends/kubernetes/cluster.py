"""The objects of one namespace, by kind and name, over the API client; and what a refusal means for a sandbox.

A creation says who we are (`fieldManager`), an apply takes what it says from whoever had it (`force`): both are this tool's
to decide, as the object is ours. Every call is bounded; every failure comes out of our own tree.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from reconciler.backends.kubernetes.failures import failure
from reconciler.backends.kubernetes.order import API_VERSION, Json
from reconciler.backends.kubernetes.provenance import MANAGER
from reconciler.errors import BackendError, Conflict, NotFound, Transient, Unsupported
from reconciler.kubeapi.client import Client, Refused, Stream
from reconciler.kubeapi.failures import Exists
from reconciler.kubeapi.websocket import FORWARDED

PAGE = 500  # objects of one answer
_BRIEFLY = 2.0  # seconds for what one can do without
_WATCHED = 300  # seconds after which the server ends a watch, to be taken up again
_PATHS: Mapping[str, tuple[str, str]] = {
    "Event": ("/api/v1", "events"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "Pod": ("/api/v1", "pods"),
    "Sandbox": (f"/apis/{API_VERSION}", "sandboxes"),
    "Secret": ("/api/v1", "secrets"),
    "Service": ("/api/v1", "services"),
}
_BY_NAME = re.compile(r'"([^"]*)"')


class Change(Struct, frozen=True, kw_only=True):
    """One line of a watch. `item` None is a bookmark: only time has gone by, up to `version`."""

    version: str
    item: Json | None = None
    gone: bool = False


class Cluster:
    """One namespace of one cluster. Cheap to make: nothing is opened before the first question."""

    def __init__(
        self, kubeconfig: str | None = None, *, context: str | None = None, namespace: str, timeout: float
    ) -> None:
        self.namespace = namespace
        self._lock = threading.Lock()
        self._made: Client | None = None
        self._how = (kubeconfig, context, timeout)

    @property
    def _api(self) -> Client:
        """The client, made when it is first needed: a kubeconfig that is not there is no matter for who only validates."""
        with self._lock:
            if self._made is None:
                kubeconfig, context, timeout = self._how
                from reconciler.kubeapi.kubeconfig import access  # and with it a parser of YAML

                self._made = Client(access(kubeconfig, context), timeout)
            return self._made

    @property
    def server(self) -> str:
        """The address of the API server."""
        return self._api.server

    # -- looking

    def items(self, kind: str, selector: str = "", fields: str = "") -> Iterator[Json]:
        """Every object that matches, page by page."""
        for page in self._pages(kind, selector, fields):
            for item in page.get("items") or ():
                yield {"apiVersion": _version(kind), "kind": kind, **item}

    def listed(self, kind: str, selector: str = "", fields: str = "") -> tuple[list[Json], str]:
        """All of them, and the version that a watch goes on from."""
        items: list[Json] = []
        version = ""
        for page in self._pages(kind, selector, fields):
            items += page.get("items") or ()
            version = str((page.get("metadata") or {}).get("resourceVersion") or "")
        return items, version

    def _pages(self, kind: str, selector: str, fields: str) -> Iterator[Json]:
        query = {"labelSelector": selector, "fieldSelector": fields, "limit": str(PAGE)}
        following = ""
        while True:
            page = self._ask("GET", kind, query={**query, "continue": following})
            yield page
            following = str((page.get("metadata") or {}).get("continue") or "")
            if not following:
                return

    def version(self) -> str:
        """Of the server, as it says it."""
        found = self._send("GET", "/version", what="version")
        return str(found.get("gitVersion") or "?")

    def get(self, kind: str, name: str) -> Json:
        """Raises NotFound when that very object is not there."""
        return self._ask("GET", kind, name)

    def watch(self, kind: str, *, version: str, selector: str = "", fields: str = "") -> Watch:
        """Raises Transient when what is to be watched on from is too old, and as a listing does."""
        query = {
            "labelSelector": selector,
            "fieldSelector": fields,
            "resourceVersion": version,
            "watch": "true",
        }
        query |= {"allowWatchBookmarks": "true", "timeoutSeconds": str(_WATCHED)}
        with self._translated(_PATHS[kind][1]):
            return Watch(self._api, self._api.stream(self._path(kind), _said(query)))

    def lines(self, pod: str, query: Mapping[str, str]) -> Iterator[str]:
        """Of its log."""
        with self._translated("pods", pod):
            stream = self._api.stream(f"{self._path('Pod', pod)}/log", query)
        try:
            for line in stream:
                yield line.decode(errors="replace").rstrip("\r\n")
        finally:
            stream.finish()

    def command(
        self, pod: str, container: str, command: Sequence[str], timeout: float
    ) -> tuple[bytes, bytes, Mapping[str, Any]]:
        query = [("container", container), ("stdout", "true"), ("stderr", "true")]
        query += [("command", word) for word in command]
        with self._translated("pods", pod):
            return self._api.command(f"{self._path('Pod', pod)}/exec", query, timeout)

    def forwarded(self, pod: str, port: int, sent: bytes, timeout: float) -> Generator[tuple[int, bytes]]:
        """What comes back from a port of a pod: (`websocket.FORWARDED`, data) and (`FORWARD_FAILED`, words), each stream begun by the two
        bytes of the port. Raises TimeoutError after `timeout` seconds."""
        with self._translated("pods", pod):
            path = f"{self._path('Pod', pod)}/portforward"
            yield from self._api.messages(path, [("ports", str(port))], timeout, {FORWARDED: sent})

    def pod_metrics(self, selector: str) -> list[Json]:
        """What pods take, of the metrics API, in one answer. Raises Unsupported where there is none, or it is down: nobody waits
        for that."""
        asking = Client(self._api.access, min(self._how[2], _BRIEFLY))
        path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{quote(self.namespace, safe='')}/pods"
        try:
            page = asking.request("GET", path, {"labelSelector": selector}, None, "application/json")
        except Refused as error:
            if error.refusal.status in (404, 503):
                raise Unsupported(
                    "no metrics API", hint="metrics-server has to run on the cluster"
                ) from error
            raise failure(error.refusal, what="pods.metrics.k8s.io", name="", server=self.server) from error
        finally:
            asking.close()
        return page.get("items") or []

    def warnings(self, pod: str) -> list[Json]:
        """What the cluster noted of a pod, the warnings; none where events may not be read."""
        with contextlib.suppress(BackendError):
            return [event for event in self.events(pod) if event.get("type") != "Normal"]
        return []

    def events(self, pod: str = "") -> list[Json]:
        """What the cluster noted of a pod, or of every pod, oldest first."""
        fields = "involvedObject.kind=Pod" + (f",involvedObject.name={pod}" if pod else "")
        found = self.items("Event", fields=fields)
        return sorted(
            found, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or "")
        )

    # -- acting

    def create(self, kind: str, body: Json) -> Json:
        """Raises Exists when the name is taken."""
        return self._ask("POST", kind, query={"fieldManager": MANAGER}, body=body)

    def apply(self, kind: str, name: str, body: Json) -> Json:
        query = {"fieldManager": MANAGER, "force": "true"}
        return self._ask("PATCH", kind, name, query=query, body=body, content="application/apply-patch+yaml")

    def merge(self, kind: str, name: str, patch: Json) -> Json:
        query = {"fieldManager": MANAGER}
        return self._ask("PATCH", kind, name, query=query, body=patch, content="application/merge-patch+json")

    def delete(self, kind: str, name: str, *, uid: str, grace: int | None = None) -> None:
        """That very object; another one of that name stays. Raises NotFound when it is gone."""
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        options |= {"propagationPolicy": "Background"} | (
            {} if grace is None else {"gracePeriodSeconds": grace}
        )
        try:
            self._ask("DELETE", kind, name, body=options)
        except Conflict as error:  # the name is another object's by now
            raise NotFound(error.message) from error

    def create_namespace(self) -> None:
        body: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        with contextlib.suppress(Exists):  # somebody was quicker
            self._send(
                "POST", "/api/v1/namespaces", query={"fieldManager": MANAGER}, body=body, what="namespaces"
            )

    def credentials(self) -> Mapping[str, str]:
        return self._api.headers()

    def lacks_namespace(self, error: NotFound) -> bool:
        return "namespaces" in error.message and self.namespace in _BY_NAME.findall(error.message)

    def close(self) -> None:
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    # -- below

    def _path(self, kind: str, name: str = "") -> str:
        base, plural = _PATHS[kind]
        end = f"/{quote(name, safe='')}" if name else ""
        return f"{base}/namespaces/{quote(self.namespace, safe='')}/{plural}{end}"

    def _ask(
        self,
        method: str,
        kind: str,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
    ) -> Json:
        found = self._send(
            method,
            self._path(kind, name),
            query=query,
            body=body,
            content=content,
            what=_PATHS[kind][1],
            name=name,
        )
        return {"apiVersion": _version(kind), "kind": kind, **found} if "items" not in found else found

    def _send(
        self,
        method: str,
        path: str,
        *,
        what: str,
        name: str = "",
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
    ) -> Json:
        with self._translated(what, name):
            return self._api.request(method, path, _said(query or {}), body, content)

    @contextlib.contextmanager
    def _translated(self, what: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except Refused as error:
            raise failure(error.refusal, what=what, name=name, server=self.server) from error


class Watch:
    """Changes as they come, until the server ends it, which is its right at any time."""

    def __init__(self, api: Client, stream: Stream) -> None:
        self._api = api
        self._stream = stream

    def __iter__(self) -> Iterator[Change]:
        """Raises Transient when what was to be watched on from is too old, and when the stream breaks."""
        for line in self._stream:
            event = self._read(line)
            item: Json = event.get("object") or {}
            kind = event.get("type")
            if kind == "ERROR":
                raise Transient(f"the watch ended: {item.get('message') or item}")
            version = str((item.get("metadata") or {}).get("resourceVersion") or "")
            if kind == "BOOKMARK":
                yield Change(version=version)
            elif kind in ("ADDED", "MODIFIED", "DELETED"):
                yield Change(version=version, item=item, gone=kind == "DELETED")

    def _read(self, line: bytes) -> Json:
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
        raise self._api.nonsense("a watch that makes no sense")

    def close(self) -> None:
        """By any thread."""
        self._stream.close()

    def finish(self) -> None:
        """By the one that reads, at the end."""
        self._stream.finish()


def _version(kind: str) -> str:
    base = _PATHS[kind][0]
    return base.rpartition("/api/")[2] if base.startswith("/api/") else base.removeprefix("/apis/")


def _said(query: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in query.items() if value}
