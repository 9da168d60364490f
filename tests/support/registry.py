"""A small image registry on loopback that real engines push to and pull from over plain HTTP.

It speaks the part of the distribution protocol (version 2) that an engine needs: uploads in one piece or in chunks,
mounts refused, blobs, manifests by tag and by digest. It holds everything in memory, and can be told to be slow or to
fail.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from tests.support.images import Image

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CHUNK = 64 * 1024  # bytes written at once
_ROUTES = (
    (re.compile(r"/v2/"), "root"),
    (re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<upload>[-\w]*)"), "upload"),
    (re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>sha256:[0-9a-f]{64})"), "blob"),
    (re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)"), "manifest"),
)
_CODES = {401: "UNAUTHORIZED", 404: "MANIFEST_UNKNOWN", 500: "UNKNOWN"}


@dataclass
class Registry:
    """What it holds, and how it behaves. Change the knobs while it runs.

    `delay` are the seconds before each 64 KiB of a blob; `failure` is the status (401, 404, 500, ...) of every answer
    about a manifest or a blob from now on, None for none. `requests` are `METHOD path` of every request so far.
    """

    port: int = 0
    delay: float = 0.0
    failure: int | None = None
    requests: list[str] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)  # by digest
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)  # (name, tag or digest)
    uploads: dict[str, bytes] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """What a reference begins with: an engine takes plain HTTP from this address."""
        return f"127.0.0.1:{self.port}"

    def put(self, name: str, tag: str, image: Image) -> str:
        """Hold an image without any engine having pushed it, under a tag that moves. Returns the manifest's digest."""
        layers = [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar",
                "size": len(layer),
                "digest": self.hold(layer),
            }
            for layer in image.layers
        ]
        config = {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(image.config),
            "digest": self.hold(image.config),
        }
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        return self.hold_manifest(name, tag, MANIFEST, json.dumps(manifest).encode())

    def hold(self, blob: bytes) -> str:
        digest = _digest(blob)
        self.blobs[digest] = blob
        return digest

    def hold_manifest(self, name: str, reference: str, media_type: str, text: bytes) -> str:
        digest = _digest(text)
        self.manifests[name, reference] = self.manifests[name, digest] = (media_type, text)
        return digest

    def digest(self, name: str, tag: str) -> str:
        """Of the manifest the tag points to. Raises KeyError."""
        return _digest(self.manifests[name, tag][1])


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    registry: Registry

    def handle_error(self, request: object, client_address: object) -> None:
        """An engine that hangs up in the middle of a pull is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: object) -> None:
        pass

    def _route(self) -> None:
        split = urlsplit(self.path)
        self.query = parse_qs(split.query)
        self.body = self._read_body()
        registry = self.server.registry
        registry.requests.append(f"{self.command} {split.path}")
        for pattern, kind in _ROUTES:
            if found := pattern.fullmatch(split.path):
                if registry.failure is not None and kind != "root":
                    self._fail(registry.failure)
                else:
                    getattr(self, f"_{kind}_{self.command.lower()}", self._unknown)(**found.groupdict())
                return
        self._fail(404)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _route  # noqa: N815 - the names the server calls

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return b"".join(pieces)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        delay = self.server.registry.delay if "/blobs/" in self.path and self.command == "GET" else 0
        for start in range(0, len(body), _CHUNK):
            if delay:
                time.sleep(delay)
            self.wfile.write(body[start : start + _CHUNK])

    def _fail(self, status: int) -> None:
        error = {"code": _CODES.get(status, "UNKNOWN"), "message": HTTPStatus(status).phrase.lower()}
        more = {"WWW_Authenticate": 'Basic realm="test"'} if status == 401 else {}
        self._answer(
            status, json.dumps({"errors": [error]}).encode(), Content_Type="application/json", **more
        )

    def _unknown(self, **_: str) -> None:
        self._fail(405)

    def _root_get(self) -> None:
        self._answer(200, b"{}", Content_Type="application/json")

    # -- uploads: POST begins one, PATCH adds to it, PUT ends it

    def _upload_post(self, name: str, upload: str) -> None:
        if "digest" in self.query:
            self._finish(name, self.body)
            return
        identity = uuid.uuid4().hex
        self.server.registry.uploads[identity] = b""
        self._accepted(name, identity)

    def _upload_patch(self, name: str, upload: str) -> None:
        uploads = self.server.registry.uploads
        if upload not in uploads:
            self._fail(404)
            return
        uploads[upload] += self.body
        self._accepted(name, upload)

    def _upload_put(self, name: str, upload: str) -> None:
        begun = self.server.registry.uploads.pop(upload, None)
        if begun is None:
            self._fail(404)
        else:
            self._finish(name, begun + self.body)

    def _accepted(self, name: str, upload: str) -> None:
        end = max(len(self.server.registry.uploads[upload]) - 1, 0)
        self._answer(
            202, Location=f"/v2/{name}/blobs/uploads/{upload}", Range=f"0-{end}", Docker_Upload_UUID=upload
        )

    def _finish(self, name: str, blob: bytes) -> None:
        digest = _digest(blob)
        if self.query.get("digest") != [digest]:
            self._fail(400)
            return
        self.server.registry.hold(blob)
        self._answer(201, Location=f"/v2/{name}/blobs/{digest}", Docker_Content_Digest=digest)

    # -- blobs and manifests

    def _blob_get(self, name: str, digest: str) -> None:
        blob = self.server.registry.blobs.get(digest)
        if blob is None:
            self._fail(404)
        else:
            self._answer(200, blob, Content_Type="application/octet-stream", Docker_Content_Digest=digest)

    def _blob_head(self, name: str, digest: str) -> None:
        self._head(self.server.registry.blobs.get(digest), "application/octet-stream", digest)

    def _manifest_put(self, name: str, reference: str) -> None:
        media_type = self.headers.get("Content-Type", MANIFEST)
        digest = self.server.registry.hold_manifest(name, reference, media_type, self.body)
        self._answer(201, Location=f"/v2/{name}/manifests/{digest}", Docker_Content_Digest=digest)

    def _manifest_get(self, name: str, reference: str) -> None:
        found = self.server.registry.manifests.get((name, reference))
        if found is None:
            self._fail(404)
        else:
            self._answer(200, found[1], Content_Type=found[0], Docker_Content_Digest=_digest(found[1]))

    def _manifest_head(self, name: str, reference: str) -> None:
        media_type, text = self.server.registry.manifests.get((name, reference), ("", None))
        self._head(text, media_type, _digest(text or b""))

    def _head(self, body: bytes | None, media_type: str, digest: str) -> None:
        """The same header as a GET, whose length is that of the body that is left out."""
        if body is None:
            self._fail(404)
        else:
            self._answer(200, body, Content_Type=media_type, Docker_Content_Digest=digest)


@contextlib.contextmanager
def registry() -> Iterator[Registry]:
    """Serving until the end of the block, on a free port of 127.0.0.1."""
    made = Registry()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.registry = made
    made.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _digest(text: bytes) -> str:
    return f"sha256:{hashlib.sha256(text).hexdigest()}"
