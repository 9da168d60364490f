"""Images: pulled when the policy says so, once for all sandboxes that need one, with progress told on the way; and
whether a tag has moved on since a container was made from it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.failures import failure
from reconciler.errors import BackendError, NotFound, Permanent, Transient

Tell = Callable[[str, str], None]
_EVERY = 0.25  # seconds between two words about a pull


def _nobody(sandbox_id: str, note: str) -> None:
    """Until somebody wants to hear."""


class _End(Struct, frozen=True, kw_only=True):
    """When a pull ended, by the steady clock, and how."""

    at: float
    error: BackendError | None


class Images:
    """The images of one engine. `policy` is missing, always or never. `tell(sandbox id, note)` hears of pulls."""

    def __init__(self, engine: Engine, policy: str) -> None:
        self._engine = engine
        self.policy = policy
        self.tell: Tell = _nobody
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._ends: dict[str, _End] = {}
        self._waiting: dict[str, list[str]] = {}

    def before_create(self, image: str, sandbox_id: str) -> None:
        """With `always`: pull now, unless that was done already and the tag has not been seen to move since."""
        if self.policy == "always":
            self._pull_once(image, sandbox_id, since=0.0)

    def missing(self, image: str, sandbox_id: str) -> None:
        """The engine said it does not have it. Raises NotFound when it may not be pulled."""
        if self.policy == "never":
            raise NotFound(
                f"image {image} is not on the engine, and `pull: never` keeps it from being fetched",
                hint=f"`docker pull {image}`, or set `pull: missing` on the backend",
            )
        self._pull_once(image, sandbox_id, since=time.monotonic())

    def _pull_once(self, image: str, sandbox_id: str, *, since: float) -> None:
        """One pull for all that wait for it; those who come while it runs hear of it and share its end. A success
        counts when it came after `since`, a failure only for those who waited for it."""
        came, ours = time.monotonic(), None
        with self._lock:
            lock = self._locks.setdefault(image, threading.Lock())
            self._waiting.setdefault(image, []).append(sandbox_id)
        try:
            with lock:
                end = self._ends.get(image)
                if end is None or end.at <= (came if end.error else since):
                    end = ours = self._ends[image] = self._pull(image)
        finally:
            with self._lock:
                self._waiting[image].remove(sandbox_id)
        if end.error is not None and end is ours:
            raise end.error
        if end.error is not None:
            raise type(end.error)(end.error.message, hint=end.error.hint) from end.error

    def _pull(self, image: str) -> _End:
        self._say(image, f"pulling {image}")
        layers: dict[str, tuple[int, int]] = {}
        last, error = time.monotonic(), None
        try:
            for event in self._events(image):
                if event.get("error"):
                    raise failure(500, str(event["error"]), self._engine.name)
                _count(event, layers)
                now = time.monotonic()
                if layers and now - last >= _EVERY:
                    last = now
                    self._say(image, _progress(image, layers))
        except BackendError as failed:
            error = _pull_error(image, failed)
            error.__cause__ = failed
        return _End(at=time.monotonic(), error=error)

    def _events(self, image: str) -> Iterator[Mapping[str, Any]]:
        """What the engine says of a pull. The SDK's own way waits without end for an engine that says nothing; here
        each wait is bounded, and hanging up ends the pull on the engine too."""
        client = self._engine.sdk()
        with self._engine.translated():
            from docker import auth, utils

            repository, tag = utils.parse_repository_tag(image)
            registry, _ = auth.resolve_repository_name(repository)
            login = auth.get_config_header(client, registry)
            response = client._post(
                client._url("/images/create"),
                params={"fromImage": repository, "tag": tag or "latest"},
                headers={"X-Registry-Auth": login} if login else {},
                stream=True,
            )
            try:
                client._raise_for_status(response)
                yield from client._stream_helper(response, decode=True)
            finally:
                response.close()

    def _say(self, image: str, note: str) -> None:
        with self._lock:
            waiting = list(self._waiting.get(image, ()))
        for sandbox_id in waiting:
            self.tell(sandbox_id, note)

    # -- tags that move

    def moved(self, images: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], str]:
        """Which of the (tag, image id) pairs are not what the tag means now, with what runs instead, for people.

        The registry is asked where it can be, else the engine's own tags are taken. A tag that nobody knows any more
        has not moved.
        """
        wanted = {pair for pair in images if "@" not in pair[0] and not pair[0].startswith("sha256:")}
        current = {tag: self._current(tag) for tag in sorted({tag for tag, _ in wanted})}
        found: dict[tuple[str, str], str] = {}
        for tag, image_id in wanted:
            digest, local = current[tag]
            digests = self._digests(image_id)
            if digest and digests:
                if digest not in digests:
                    found[tag, image_id] = f"{tag}@{sorted(digests)[0][:19]}"
            elif local and local != image_id:
                found[tag, image_id] = f"{tag}@{image_id[:19]}"
        for tag, _ in found:
            self._ends.pop(tag, None)  # what was pulled is not what the tag means any more
        return found

    def _current(self, tag: str) -> tuple[str | None, str | None]:
        """The registry's digest and the engine's image id of a tag; None where nobody can tell."""
        digest = local = None
        try:
            client = self._engine.sdk()
            with self._engine.translated():
                digest = client.inspect_distribution(tag)["Descriptor"]["digest"]
        except BackendError:  # no such registry, or it is down: then the engine's word counts
            digest = None
        try:
            local = self._engine.get(f"/images/{quote(tag, safe='')}/json")["Id"]
        except NotFound:
            local = None
        return digest, local

    def _digests(self, image_id: str) -> frozenset[str]:
        try:
            item: dict[str, Any] = self._engine.get(f"/images/{quote(image_id, safe='')}/json")
        except NotFound:
            return frozenset()
        return frozenset(entry.partition("@")[2] for entry in item.get("RepoDigests") or ())


def _count(event: Mapping[str, Any], layers: dict[str, tuple[int, int]]) -> None:
    """Bytes done and to do, by layer; only what is downloaded counts."""
    layer, detail = str(event.get("id") or ""), event.get("progressDetail") or {}
    if event.get("status") == "Downloading" and detail.get("total"):
        layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
    elif event.get("status") in ("Download complete", "Pull complete") and layer in layers:
        layers[layer] = (layers[layer][1], layers[layer][1])


def _progress(image: str, layers: Mapping[str, tuple[int, int]]) -> str:
    done, total = (sum(pair[n] for pair in layers.values()) for n in (0, 1))
    if done >= total:
        return f"unpacking {image}"
    return f"pulling {image}  {done / 1e6:.0f} of {total / 1e6:.0f} MB"


def _pull_error(image: str, error: BackendError) -> BackendError:
    """What the engine said, as a failure of the registry, which the engine's own words do not name."""
    text = error.message.rpartition(" failed: ")[2] if type(error) is Transient else error.message
    low = text.lower()
    for words, kind, hint in _REGISTRY:
        if any(word in low for word in words):
            return kind(f"image {image} cannot be pulled: {text}", hint=hint)
    if isinstance(error, NotFound):
        return NotFound(
            f"image {image} is not to be had: {text}", hint="check its name and tag, or build it first"
        )
    return type(error)(f"image {image} cannot be pulled: {error.message}", hint=error.hint)


_LOGIN = "is the name right? `docker login` to that registry first, as the user who runs this"
_REACHABLE = "is the registry up, and does the engine reach it? Then try again"
_REGISTRY: tuple[tuple[tuple[str, ...], type[BackendError], str], ...] = (
    (("manifest unknown", "not found: does not exist"), NotFound, "check its name and tag, or build it first"),
    (("unauthorized", "denied", "forbidden", "no basic auth credentials", "authentication required"), Permanent, _LOGIN),
    (("toomanyrequests", "too many requests"), Transient, "the registry limits pulls: `docker login`, or wait"),
    (
        ("http response to https client",),
        Permanent,
        "that registry has no TLS: name it in `insecure-registries` of the engine, if it is yours",
    ),
    (
        ("connection refused", "connection reset", "timeout", "deadline exceeded", "eof", "unexpected http status: 5",
         "internal server error", "bad gateway", "service unavailable", "no route to host", "received unexpected"),
        Transient,
        _REACHABLE,
    ),
    (
        ("did not answer within",),
        Transient,
        "the registry says nothing more: is the engine's way to it slow? Raise `timeout:` of the backend, or try again",
    ),
)  # fmt: skip


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines out of a stream of pieces, without their newline."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").removesuffix("\r")
    if rest:
        yield rest.decode(errors="replace")
