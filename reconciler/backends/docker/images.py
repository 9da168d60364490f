"""Images: pulled when the policy says so, once for all sandboxes that need one, with progress told on the way; and
whether a tag has moved on since a container was made from it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from reconciler.backends.docker.engine import Engine, failure
from reconciler.errors import BackendError, NotFound, Transient

Tell = Callable[[str, str], None]
_EVERY = 0.25  # seconds between two words about a pull


def _nobody(sandbox_id: str, note: str) -> None:
    """Until somebody wants to hear."""


class Images:
    """The images of one engine. `policy` is missing, always or never. `tell(sandbox id, note)` hears of pulls."""

    def __init__(self, engine: Engine, policy: str) -> None:
        self._engine = engine
        self.policy = policy
        self.tell: Tell = _nobody
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._pulled: dict[str, float] = {}
        self._waiting: dict[str, list[str]] = {}

    def before_create(self, image: str, sandbox_id: str) -> None:
        """With `always`: pull now, unless this run has done so."""
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
        """One pull for all that wait for it; those who come while it runs hear of it and share its end."""
        with self._lock:
            lock = self._locks.setdefault(image, threading.Lock())
            self._waiting.setdefault(image, []).append(sandbox_id)
        try:
            with lock:
                if self._pulled.get(image, -1.0) <= since:
                    self._pull(image)
                    self._pulled[image] = time.monotonic()
        finally:
            with self._lock:
                self._waiting[image].remove(sandbox_id)

    def _pull(self, image: str) -> None:
        self._say(image, f"pulling {image}")
        layers: dict[str, tuple[int, int]] = {}
        last = time.monotonic()
        client = self._engine.sdk()
        try:
            with self._engine.translated():
                for event in client.pull(image, stream=True, decode=True):
                    if event.get("error"):
                        raise _pull_error(image, str(event["error"]), self._engine.name)
                    _count(event, layers)
                    now = time.monotonic()
                    if layers and now - last >= _EVERY:
                        last = now
                        self._say(image, _progress(image, layers))
        except NotFound as error:
            raise NotFound(
                f"image {image} is not to be had: {error.message}",
                hint="check its name and tag, or build it first",
            ) from error
        except BackendError as error:
            if error.message.startswith("image "):
                raise
            raise type(error)(f"image {image} cannot be pulled: {error.message}", hint=error.hint) from error

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


def _pull_error(image: str, text: str, engine: str) -> BackendError:
    low = text.lower()
    if "not found" in low or "manifest unknown" in low:
        return NotFound(text)
    if "connection refused" in low or "timeout" in low or "eof" in low:
        return Transient(
            f"image {image} cannot be pulled: {text}", hint="is the registry reachable from the engine?"
        )
    return failure(500, text, engine)


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines out of a stream of pieces, without their newline."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace").removesuffix("\r")
    if rest:
        yield rest.decode(errors="replace")
