"""The API server's HTTP side: who asks, what for, and how the answer is written."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml

from tests.support.kubernetes import refusals, resources
from tests.support.kubernetes.api import Api, Call
from tests.support.kubernetes.lists import Lists
from tests.support.kubernetes.refusals import Json, Refusal
from tests.support.kubernetes.resources import Resource

_LIMIT = 3 * 1024 * 1024  # bytes of a request's body
_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[a-z]+))?)?"
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One line of the log."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes
    user: str = ""
    at: float = field(default_factory=time.monotonic)

    @property
    def watches(self) -> bool:
        return self.query.get("watch") in ("true", "1")

    @property
    def lists(self) -> bool:
        """A read of a collection of objects that is no watch."""
        found = _PATH.fullmatch(self.path)
        return self.method == "GET" and found is not None and not found["name"] and not self.watches

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in sorted(self.query.items()))
        return f"{self.method} {self.path}" + (f"?{query}" if query else "")


Misbehaviour = Callable[["Handler", Request], bool]
"""Answers in its own way and returns True, or returns False and lets the request be answered."""


@dataclass
class Users:
    """By bearer token and by the certificate's common name: (user, groups). With neither, everybody is admin."""

    tokens: dict[str, str] = field(default_factory=dict)
    certificates: bool = False
    anonymous: bool = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, api: Api, lists: Lists, known: Callable[[], tuple[Resource, ...]]) -> None:
        self.api = api
        self.lists = lists
        self.known = known
        self.users = Users()
        self.log: list[Request] = []
        self.misbehaviours: list[Misbehaviour] = []
        self.connections = 0  # ever accepted
        self.streams: dict[str, Callable[[Handler, Call], None]] = {}  # pods/<name>: log, exec, portforward
        self._context: ssl.SSLContext | None = None
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._context = context

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.server_address[1]}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: a client that dawdles in the handshake holds up nobody else."""
        self.connections += 1
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context:
            request.settimeout(20)
            request = self._context.wrap_socket(request, server_side=True)
            request.settimeout(None)
        self._open.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self._open.discard(request)
            request.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, or does not trust the certificate, is no news."""

    def drop_connections(self) -> None:
        """As if the server was restarted: every connection is cut, streams in the middle."""
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    request_seen: Request

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self) -> None:
        split = urlsplit(self.path)
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            body = self._read_body()
            request = Request(
                method=self.command, path=unquote(split.path), query=query, headers=headers, body=body
            )
            self.request_seen = request
            self.server.log.append(request)
            for misbehave in list(self.server.misbehaviours):
                if misbehave(self, request):
                    return
        except Refusal as refusal:
            self.refuse(refusal)
            return
        self.carry_out(request)

    def carry_out(self, request: Request) -> None:
        """Answer as a server that is well."""
        try:
            self._route(request, self._user(request.headers))
        except Refusal as refusal:
            self.refuse(refusal)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _answer  # noqa: N815 - names the server calls

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            out = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return out
        length = int(self.headers.get("Content-Length") or 0)
        if length > _LIMIT:
            self.close_connection = True
            raise Refusal(413, f"Request entity too large: limit is {_LIMIT}")
        return self.rfile.read(length)

    def _user(self, headers: dict[str, str]) -> str:
        users = self.server.users
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            if token in users.tokens:
                return users.tokens[token]
            if users.tokens:
                raise Refusal(401, "Unauthorized")
        if users.certificates and isinstance(self.connection, ssl.SSLSocket):
            subject: Any = (self.connection.getpeercert() or {}).get("subject", ())
            for part in subject:
                for name, value in part:
                    if name == "commonName":
                        return str(value)
        if users.anonymous and not users.tokens and not users.certificates:
            return "admin"
        raise Refusal(401, "Unauthorized")

    def _route(self, request: Request, user: str) -> None:
        path = request.path.rstrip("/") or "/"
        if path in ("/healthz", "/livez", "/readyz"):
            self.send(200, b"ok", "text/plain; charset=utf-8")
            return
        document = resources.discovery(path, self.server.known(), self.headers.get("Host", ""))
        if document is not None and request.method == "GET":
            self.send_json(200, document)
            return
        found = _PATH.fullmatch(path)
        served = {resource.base for resource in self.server.known()}
        if not found or not any(path.startswith(f"{base}/") for base in served):
            self.send(
                404, b"404 page not found\n", "text/plain; charset=utf-8"
            )  # not a Status: nobody serves that group
            return
        group, namespace, plural, name = (
            found["group"] or "",
            found["namespace"] or "",
            found["plural"],
            found["name"],
        )
        sub = found["sub"] or ""
        if namespace and plural == "status" and not name:  # /api/v1/namespaces/<name>/status
            namespace, plural, name, sub = "", "namespaces", namespace, "status"
        if plural == "namespaces" and namespace:
            raise refusals.no_such_path()
        for resource in self.server.known():
            if (resource.group, resource.version, resource.plural) == (group, found["version"], plural):
                break
        else:
            raise refusals.no_such_path()
        if bool(namespace) != resource.namespaced and not (
            not namespace and not name and request.method == "GET"
        ):
            raise refusals.no_such_path()
        call = Call(
            resource=resource, namespace=namespace, name=name or "", subresource=sub, query=request.query,
            user=user, agent=request.headers.get("user-agent", ""),
        )  # fmt: skip
        self.server.api.admission.authorize(_verb(request, call), call)
        if sub and not (sub == "status" and resource.status):
            self._subresource(call)
        else:
            self._verb(request, call)

    def _subresource(self, call: Call) -> None:
        stream = self.server.streams.get(call.subresource)
        if stream is None or call.subresource not in call.resource.subresources:
            raise refusals.no_such_path()
        stream(self, call)

    def _verb(self, request: Request, call: Call) -> None:
        api = self.server.api
        match request.method:
            case "GET" if call.name:
                self.send_json(200, api.get(call))
            case "GET" if request.watches:
                self._watch(call)
            case "GET":
                page = self.server.lists.page(call)
                outlined = "as=PartialObjectMetadataList" in request.headers.get("accept", "")
                self.send_json(200, _outlined(page) if outlined else page)
            case "POST" if not call.name:
                self.send_json(201, api.create(call, self._parsed(request)))
            case "PUT" if call.name:
                self.send_json(200, api.replace(call, self._parsed(request)))
            case "PATCH" if call.name:
                kind = request.headers.get("content-type", "").partition(";")[0]
                self.send_json(*api.patch(call, kind, self._parsed(request)))
            case "DELETE":
                self._delete(request, call)
            case _:
                raise Refusal(405, "the server does not allow this method on the requested resource")

    def _delete(self, request: Request, call: Call) -> None:
        options: Json = dict(self._parsed(request) if request.body else {})
        for name in ("gracePeriodSeconds", "propagationPolicy"):
            if name in request.query:
                options.setdefault(name, request.query[name])
        if call.name:
            self.send_json(200, self.server.api.delete(call, options))
            return
        page = self.server.lists.page(call)
        for thing in page["items"]:
            name = thing["metadata"]["name"]
            one = Call(
                resource=call.resource, namespace=call.namespace, name=name, query=call.query, user=call.user
            )
            self.server.api.delete(one, options)
        self.send_json(200, page)

    def _parsed(self, request: Request) -> Any:
        kind = request.headers.get("content-type", "application/json")
        try:
            return (
                yaml.safe_load(request.body)
                if "yaml" in kind and request.body[:1] != b"{"
                else json.loads(request.body)
            )
        except (ValueError, yaml.YAMLError) as error:
            raise refusals.bad_request(f"error decoding the body: {error}") from error

    def _watch(self, call: Call) -> None:
        events = self.server.lists.watch(call)
        self.begin_stream("application/json")
        try:
            for event in events:
                if event is not None:
                    self.chunk(json.dumps(event, separators=(",", ":")).encode() + b"\n")
                elif _gone(self.connection):
                    self.close_connection = True
                    return
            self.chunk(b"")
        except OSError:
            self.close_connection = True

    def begin_stream(self, kind: str) -> None:
        """A body in chunks follows; end it with an empty one."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def refuse(self, refusal: Refusal) -> None:
        self.send_json(refusal.code, refusal.status(), refusal.headers)

    def send_json(self, status: int, document: object, headers: dict[str, str] | None = None) -> None:
        self.send(
            status, json.dumps(document, separators=(",", ":")).encode() + b"\n", "application/json", headers
        )

    def send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _verb(request: Request, call: Call) -> str:
    """RBAC's word for the request."""
    match request.method:
        case "GET" | "HEAD":
            return "get" if call.name else "watch" if request.watches else "list"
        case "POST":
            return "create"
        case "PUT":
            return "update"
        case "PATCH":
            return "patch"
        case _:
            return "delete" if call.name else "deletecollection"


def _outlined(page: Json) -> Json:
    """The same with the metadata of each object alone."""
    return {
        **page,
        "kind": "PartialObjectMetadataList",
        "apiVersion": "meta.k8s.io/v1",
        "items": [{"metadata": item["metadata"]} for item in page["items"]],
    }


def _gone(sock: socket.socket) -> bool:
    """Whether the client has closed its side."""
    if isinstance(sock, ssl.SSLSocket):
        return False  # a write will tell
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def serve(server: Server) -> threading.Thread:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    return thread
