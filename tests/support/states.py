"""A real HTTP server that keeps states as Terraform's HTTP protocol has it, or as GitLab does; and one that misbehaves.

`kind="plain"`: LOCK and UNLOCK at the state's own address, 423 with the holder's info, which is kept as it was sent.
`kind="gitlab"`: the addresses, methods and quirks of GitLab: POST and DELETE at `…/lock`; 409; of a lock it keeps the id,
its own user and its own time, and tells the rest as the refused request says it; a serial is taken once; 204 for a state
that was locked and never written. `kind="careless"`: as in Terraform's own tests: no id is ever looked at.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_LOCK_KEYS = ("ID", "Operation", "Info", "Who", "Version", "Created", "Path")


@dataclass(frozen=True)
class Request:
    """`number` counts the requests of this method from 1."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    number: int


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class HangUp(Exception):
    """Close the connection without a word."""


Meddle = Callable[[Request], Reply | None]
"""An answer instead of the right one; None lets it pass. It may raise HangUp, or take its time."""


@dataclass
class Kept:
    """One state. `versions` are all bodies that were taken, by serial."""

    body: bytes | None = None
    lock: dict[str, Any] | None = None
    versions: dict[int, bytes] = field(default_factory=dict)
    writes: list[tuple[str, bytes]] = field(default_factory=list)  # (lock id, body), in order


class StateServer:
    """`before` may answer instead of it, `after` once it has done what was asked. `requests` is everything that came."""

    def __init__(self, kind: str, authorization: str = "", context: ssl.SSLContext | None = None) -> None:
        self.kind = kind
        self.authorization = authorization
        self.states: dict[str, Kept] = {}
        self.requests: list[Request] = []
        self.before: Meddle = lambda request: None
        self.after: Meddle = lambda request: None
        self._mutex = threading.Lock()
        self._scheme = "http"
        self._open(0)
        if context is not None:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
            self._scheme = "https"

    def _open(self, port: int) -> None:
        handler = type("Handler", (_Handler,), {"kept_by": self})
        self._http = _Listener(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, name: str = "research") -> str:
        path = f"/api/v4/projects/7/terraform/state/{name}" if self.kind == "gitlab" else f"/states/{name}"
        return f"{self._scheme}://127.0.0.1:{self.port}{path}"

    def options(self, name: str = "research") -> dict[str, Any]:
        """What to write under `state:`, beside `store: http`."""
        if self.kind != "gitlab":
            return {"url": self.url(name)}
        lock = f"{self.url(name)}/lock"
        return {"url": self.url(name), "lock_url": lock, "lock_method": "POST", "unlock_method": "DELETE"}

    def kept(self, name: str = "research") -> Kept:
        return self.states.setdefault(urlsplit(self.url(name)).path, Kept())

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.requests)

    def stop(self) -> None:
        """From now on nobody listens at its port."""
        self._http.shutdown()
        self._http.server_close()

    def start_again(self) -> None:
        self._open(self.port)

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Reply:
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        with self._mutex:
            request = Request(method, parts.path, query, headers, body, self.count(method) + 1)
            self.requests.append(request)
        instead = self.before(request)
        if instead is not None:
            return instead
        with self._mutex:
            reply = self._right(request)
        return self.after(request) or reply

    def _right(self, request: Request) -> Reply:
        if self.authorization and request.headers.get("authorization") != self.authorization:
            return Reply(401, b'{"message":"401 Unauthorized"}')
        promised = request.headers.get("content-md5")
        if (
            promised
            and base64.b64decode(promised) != hashlib.md5(request.body, usedforsecurity=False).digest()
        ):
            return Reply(400, b"bad checksum")
        return self._gitlab(request) if self.kind == "gitlab" else self._plain(request)

    def _plain(self, request: Request) -> Reply:
        kept = self.states.setdefault(request.path, Kept())
        careless = self.kind == "careless"
        match request.method:
            case "GET":
                return Reply(404) if kept.body is None else Reply(200, kept.body, _JSON)
            case "POST":
                holder = None if kept.lock is None else kept.lock["ID"]
                if not careless and holder != request.query.get("ID"):
                    return Reply(423, json.dumps(kept.lock).encode(), _JSON)
                return self._write(kept, request)
            case "LOCK":
                if kept.lock is not None:
                    return Reply(423, json.dumps(kept.lock).encode(), _JSON)
                kept.lock = json.loads(request.body)
                return Reply(200)
            case "UNLOCK":
                if kept.lock is not None and not careless and _id(request) != kept.lock["ID"]:
                    return Reply(409, json.dumps(kept.lock).encode(), _JSON)
                kept.lock = None
                return Reply(200)
        return Reply(405)

    def _gitlab(self, request: Request) -> Reply:
        path, _, rest = request.path.partition("/lock")
        if rest or not path.startswith("/api/v4/projects/7/terraform/state/"):
            return Reply(404, b'{"message":"404 Project Not Found"}')
        if request.path.endswith("/lock"):
            return self._gitlab_lock(path, request)
        kept = self.states.get(path)
        if request.method == "GET":
            if kept is None:
                return Reply(404, b'{"message":"404 Not found"}')
            return Reply(204) if kept.body is None else Reply(200, kept.body, _BYTES)
        if request.method != "POST":
            return Reply(405)
        kept = self.states.setdefault(path, Kept())
        if not request.body:
            return Reply(204)
        if (None if kept.lock is None else kept.lock["ID"]) != request.query.get("ID"):
            return Reply(409)
        serial = json.loads(request.body).get("serial")
        if not isinstance(serial, int):
            return Reply(422)
        return Reply(409) if serial in kept.versions else self._write(kept, request)

    def _gitlab_lock(self, path: str, request: Request) -> Reply:
        if request.method == "POST":
            asked = json.loads(request.body)
            if any(not isinstance(asked.get(key), str) for key in _LOCK_KEYS) or len(asked["ID"]) > 255:
                return Reply(400, b'{"error":"ID is missing"}')
            kept = self.states.setdefault(path, Kept())
            free = kept.lock is None
            if kept.lock is None:
                kept.lock = {"ID": asked["ID"], "Who": "root", "Created": "2026-11-26T03:00:00.000Z"}
            return Reply(200 if free else 409, json.dumps({**asked, **kept.lock}).encode(), _BYTES)
        if request.method == "DELETE":
            kept = self.states.get(path)
            if kept is None:
                return Reply(404)
            asked_for = _id(request)
            if asked_for is not None and asked_for != (None if kept.lock is None else kept.lock["ID"]):
                return Reply(409)
            kept.lock = None
            return Reply(200)
        return Reply(405)

    def _write(self, kept: Kept, request: Request) -> Reply:
        kept.body = request.body
        kept.writes.append((request.query.get("ID", ""), request.body))
        kept.versions[json.loads(request.body).get("serial", 0)] = request.body
        return Reply(200)


_JSON = {"Content-Type": "application/json"}
_BYTES = {"Content-Type": "application/octet-stream"}


def _id(request: Request) -> str | None:
    found = json.loads(request.body or b"{}").get("ID")
    return str(found) if found is not None else None


class _Listener(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked has hung up; that is no news."""


class _Handler(BaseHTTPRequestHandler):
    kept_by: StateServer
    protocol_version = "HTTP/1.1"

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            reply = self.kept_by.answer(self.command, self.path, headers, body)
        except HangUp:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if reply.status != 204:
            self.wfile.write(reply.body)

    do_GET = do_POST = do_PUT = do_DELETE = do_LOCK = do_UNLOCK = _any  # noqa: N815 - named by the library

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """The tests look at `requests`."""


@contextmanager
def keeping(
    kind: str = "plain", *, authorization: str = "", context: ssl.SSLContext | None = None
) -> Iterator[StateServer]:
    server = StateServer(kind, authorization, context)
    try:
        yield server
    finally:
        server.stop()
