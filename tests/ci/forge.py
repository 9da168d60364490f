"""A forge on loopback: comments and issues as GitHub keeps them, notes as GitLab does. Only what the examples ask for."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct, field

Thing = dict[str, Any]
BOT = {"login": "github-actions[bot]"}
TOKEN = "token-of-the-forge"


class Forge(Struct, kw_only=True):
    """What it holds, oldest first. `writes` are the requests that changed something: (method, path)."""

    url: str = ""
    comments: list[Thing] = field(default_factory=list)
    issues: list[Thing] = field(default_factory=list)
    notes: list[Thing] = field(default_factory=list)
    writes: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, method: str, path: str, query: dict[str, str], given: Thing) -> Any:
        if method != "GET":
            self.writes.append((method, path))
        match method, path:
            case "GET", "/api/v4/user":
                return {"id": 42}
            case _, "/api/v4/projects/1/merge_requests/7/notes":
                return self._list_or_add(self.notes, method, query, {"author": {"id": 42}, **given})
            case _, "/repos/us/fleet/issues/7/comments":
                return self._list_or_add(self.comments, method, query, {"user": BOT, **given})
            case _, "/repos/us/fleet/issues":
                shown = [
                    each
                    for each in self.issues
                    if each["state"] == query.get("state", "open")
                    and each["user"]["login"] == query.get("creator", each["user"]["login"])
                ]
                return self._list_or_add(
                    self.issues, method, query, {"user": BOT, "state": "open", **given}, shown
                )
        found = re.fullmatch(r"/(.*)/(\d+)", path)
        assert found, f"{method} {path}"
        match method, found[1]:
            case "PUT", "api/v4/projects/1/merge_requests/7/notes":
                return self._change(self.notes, "id", int(found[2]), given)
            case "PATCH", "repos/us/fleet/issues/comments":
                return self._change(self.comments, "id", int(found[2]), given)
            case "PATCH", "repos/us/fleet/issues":
                return self._change(self.issues, "number", int(found[2]), given)
        raise AssertionError(f"{method} {path}")

    def _list_or_add(
        self,
        things: list[Thing],
        method: str,
        query: dict[str, str],
        fresh: Thing,
        shown: list[Thing] | None = None,
    ) -> Any:
        if method == "POST":
            things.append({"id": 1000 + len(things), "number": 1 + len(things), **fresh})
            return things[-1]
        assert method == "GET", method
        size, page = int(query.get("per_page", "30")), int(query.get("page", "1"))
        return (things if shown is None else shown)[size * (page - 1) : size * page]

    @staticmethod
    def _change(things: list[Thing], key: str, number: int, given: Thing) -> Thing:
        [thing] = [each for each in things if each[key] == number]
        thing.update(given)
        return thing


@contextmanager
def forge() -> Iterator[Forge]:
    held = Forge()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            target = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            if self.headers.get("PRIVATE-TOKEN", self.headers.get("Authorization")) != TOKEN:
                code, answer = 401, {}
            else:
                form = self.headers.get("Content-Type") == "application/x-www-form-urlencoded"
                given = {k: v[0] for k, v in parse_qs(body).items()} if form else json.loads(body or "{}")
                query = {k: v[0] for k, v in parse_qs(target.query).items()}
                code, answer = 200, held.answer(self.command, target.path, query, given)
            data = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        held.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()
