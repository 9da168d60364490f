"""Secrets and Leases of one namespace, read and written one at a time; and what a server's refusal means for a state.

What was asked is asked again for as long as `timeout` says while the server cannot be reached. Nothing is doubled by that:
a creation has a name that nobody else gives, a replacement the version that it replaces, and a removal is one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from reconciler.errors import BackendError, NotFound, StoreError, Transient
from reconciler.kubeapi.client import Client, Refused
from reconciler.kubeapi.failures import Exists, Refusal, failure

Json = dict[str, Any]
SECRET, LEASE = "secrets", "leases"
MANAGER = "sandbox-reconciler"  # how the server knows us

_KINDS: Mapping[str, tuple[str, str]] = {
    SECRET: ("/api/v1", "Secret"),
    LEASE: ("/apis/coordination.k8s.io/v1", "Lease"),
}
_OUTLINES = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_PAGE = 500  # objects of one answer
_PAUSE = 0.2  # seconds between two tries, doubled each time
_MANNER = "docs/stores.md"  # has a Role


class Moved(Exception):
    """The object is not at the version any more that it was to be replaced at, or it is gone."""


class Objects:
    """Of one namespace. Cheap to make: nothing is opened before the first question. `timeout` in seconds bounds each
    answer, and the time that a server is looked for which cannot be reached."""

    def __init__(
        self,
        *,
        kubeconfig: str | None,
        context: str | None,
        namespace: str,
        timeout: float,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.namespace = namespace
        self._how = (kubeconfig, context)
        self._timeout = timeout
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._made: Client | None = None

    @property
    def _api(self) -> Client:
        with self._lock:
            if self._made is None:
                from reconciler.kubeapi.kubeconfig import access  # and with it a parser of YAML

                self._made = Client(access(*self._how), self._timeout)
            return self._made

    @property
    def server(self) -> str:
        """The address of the API server. Raises ConfigError."""
        return self._api.server

    def get(self, kind: str, name: str) -> Json | None:
        """None when that very object is not there."""
        try:
            return self._ask("read", "GET", kind, name)
        except _Absent:
            return None

    def create(self, kind: str, body: Json) -> Json | None:
        """As the server keeps it; None when the name is taken, which a try whose answer was lost may have done."""
        try:
            return self._ask("write", "POST", kind, "", body=body, query={"fieldManager": MANAGER})
        except _Taken:
            return None

    def replace(self, kind: str, body: Json) -> Json:
        """At the version that it names. Raises Moved, also when a try whose answer was lost was the one that replaced it."""
        name = body["metadata"]["name"]
        query = {"fieldManager": MANAGER}
        try:
            return self._ask("write", "PUT", kind, name, body=body, query=query)
        except (_Absent, _Stale) as error:
            raise Moved from error

    def remove(self, kind: str, name: str) -> None:
        """Nothing happens when it is gone already."""
        with contextlib.suppress(_Absent):
            self._ask("remove", "DELETE", kind, name)

    def outlines(self, kind: str, selector: str) -> list[Json]:
        """`metadata` alone of every object that matches: what they hold is large."""
        found: list[Json] = []
        following = ""
        while True:
            query = {"labelSelector": selector, "limit": str(_PAGE)}
            query |= {"continue": following} if following else {}
            page = self._ask("list", "GET", kind, "", query=query, accept=_OUTLINES)
            found += [item.get("metadata") or {} for item in page.get("items") or ()]
            following = str((page.get("metadata") or {}).get("continue") or "")
            if not following:
                return found

    def version(self) -> str:
        """Of the server, as it says it."""
        found = self._tried("ask", lambda: self._api.request("GET", "/version", {}, None, ""), "version", "")
        return str(found.get("gitVersion") or "?")

    def close(self) -> None:
        with self._lock:
            if self._made is not None:
                self._made.close()
                self._made = None

    def _ask(
        self,
        verb: str,
        method: str,
        kind: str,
        name: str,
        *,
        body: Json | None = None,
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> Json:
        base, made = _KINDS[kind]
        path = f"{base}/namespaces/{quote(self.namespace, safe='')}/{kind}"
        path += f"/{quote(name, safe='')}" if name else ""
        version = base.removeprefix("/api/").removeprefix("/apis/")
        sent = None if body is None else {**body, "apiVersion": version, "kind": made}

        def ask() -> Json:
            return self._api.request(method, path, query or {}, sent, "application/json", accept=accept)

        return self._tried(verb, ask, kind, name)

    def _tried(self, verb: str, ask: Callable[[], Json], kind: str, name: str) -> Json:
        """Again, where the server cannot be reached or is not well. Raises StoreError, and what the callers above catch."""
        gives_up, pause = self._monotonic() + self._timeout, _PAUSE
        while True:
            try:
                return ask()
            except Refused as refused:
                error = self._meant(refused.refusal, kind, name)
            except BackendError as unreachable:
                error = unreachable
            if not isinstance(error, Transient) or self._monotonic() + pause > gives_up:
                doing = f"{verb} {name or kind} in namespace {self.namespace}"
                raise StoreError(f"cannot {doing}: {error.message}", hint=error.hint) from error
            self._sleep(pause)
            pause *= 2

    def _meant(self, refusal: Refusal, kind: str, name: str) -> BackendError:
        error = failure(refusal, what=kind, name=name, server=self._api.server, hint="", roles=_MANNER)
        if isinstance(error, Exists):
            raise _Taken from error
        if refusal.status == 409 and name:
            raise _Stale from error
        if isinstance(error, NotFound) and name:
            raise _Absent from error
        if isinstance(error, NotFound):
            error.hint = f"`kubectl create namespace {self.namespace}`, or name another one under `state: {{namespace: …}}`"
        if refusal.status == 413 or "must have at most" in error.message:
            error.hint = "a Secret holds 1 MiB: this is a bug"
        return error


class _Absent(Exception):
    """That very object is not there."""


class _Taken(Exception):
    """Another object has that name."""


class _Stale(Exception):
    """It was changed since it was read."""
