"""Pulling, from a registry on loopback by the real engine: when, how often, what is told, what a failure means; and tags
that move."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from reconciler.backends.docker import DockerBackend
from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.images import Images
from reconciler.errors import BackendError, NotFound, Permanent, Transient
from reconciler.model.observed import SandboxInfo
from tests.backends.docker.conftest import Lab
from tests.backends.docker.private_engine import PrivateEngine
from tests.backends.docker.wire import Wire
from tests.support.docker import eventually
from tests.support.images import Image, image
from tests.support.registry import Registry

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]
PULL = r"POST \S*/images/create"


class Store:
    """A registry and what this test put there; the engine forgets it at the end."""

    def __init__(self, registry: Registry, lab: Lab) -> None:
        self.registry = registry
        self._lab = lab
        self._pulled: list[str] = []

    def put(self, made: Image, tag: str = "1") -> str:
        """The reference to pull it by."""
        self.registry.put("app", tag, made)
        return self.owns(f"{self.registry.host}/app:{tag}")

    def owns(self, reference: str) -> str:
        self._pulled.append(reference)
        return reference

    def digest(self, tag: str = "1") -> str:
        return self.registry.digest("app", tag)

    def forget(self) -> None:
        for reference in self._pulled:
            self._lab.stack.images.remove(reference)


@pytest.fixture
def store(own_registry: Registry, lab: Lab) -> Iterator[Store]:
    made = Store(own_registry, lab)
    yield made
    own_registry.delay, own_registry.failure = 0.0, None
    lab.close()  # an image is free when its containers are gone
    made.forget()


def padded(size: int = 1 << 20, marker: str = "") -> Image:
    """An image with a layer that no engine has seen, of `size` bytes."""
    made = image(marker=marker or os.urandom(4).hex())
    layer = _tar_of("padding", os.urandom(size))
    config = json.loads(made.config)
    config["rootfs"]["diff_ids"].append(_digest(layer))
    config["history"].append({"created_by": "padding"})
    text = json.dumps(config, sort_keys=True).encode()
    return replace(made, config=text, id=_digest(text), layers=(*made.layers, layer))


class TestWhen:
    def test_missing_pulls_once_and_then_never(self, lab: Lab, wire: Wire, store: Store) -> None:
        reference, backend = store.put(padded()), lab.make(wire.url)
        for _ in range(2):
            assert backend.is_alive(backend.create(None, lab.id(), spec=lab.spec(image=reference)))
        assert wire.count(PULL) == 1

    def test_never_asks_no_registry(self, lab: Lab, store: Store) -> None:
        reference = store.put(padded(10))
        with pytest.raises(NotFound, match="`pull: never` keeps it from being fetched"):
            lab.make(pull="never").create(None, lab.id(), spec=lab.spec(image=reference))
        assert store.registry.requests == []

    def test_always_pulls_once_a_run(self, lab: Lab, wire: Wire, store: Store) -> None:
        reference = store.put(padded(10))
        for expected in (1, 2):
            backend = lab.make(wire.url, pull="always")
            for _ in range(2):
                backend.create(None, lab.id(), spec=lab.spec(image=reference))
            assert wire.count(PULL) == expected

    def test_ten_creates_at_once_are_one_pull_and_all_hear_of_it(
        self, lab: Lab, wire: Wire, store: Store
    ) -> None:
        reference, backend, told = store.put(padded(2 << 20)), lab.make(wire.url), dict[str, list[str]]()
        backend.tell_progress(lambda sandbox_id, note: told.setdefault(sandbox_id, []).append(note))
        store.registry.delay = 0.05
        ids = [lab.id() for _ in range(10)]
        with ThreadPoolExecutor(10) as pool:
            made = list(pool.map(lambda one: backend.create(None, one, spec=lab.spec(image=reference)), ids))
        assert all(backend.is_alive(info) for info in made)
        assert wire.count(PULL) == 1
        assert sorted(told) == sorted(ids)
        for notes in told.values():
            assert any(note.startswith(f"pulling {reference}  ") and note.endswith(" MB") for note in notes)

    def test_a_pull_that_goes_on_may_take_longer_than_the_timeout(self, lab: Lab, store: Store) -> None:
        reference, engine = store.put(padded(3 << 20)), Engine(lab.stack.host, timeout=2)
        store.registry.delay = 0.07
        began = time.monotonic()
        Images(engine, "missing").missing(reference, "any")
        engine.close()
        assert lab.stack.client.images.get(reference)
        assert time.monotonic() - began > 3


class TestFailures:
    @pytest.mark.parametrize(
        ("status", "kind", "hint"),
        [
            pytest.param(404, NotFound, "check its name and tag", id="no such image"),
            pytest.param(401, Permanent, "docker login", id="unauthorized"),
            pytest.param(403, Permanent, "docker login", id="forbidden"),
            pytest.param(500, Transient, "is the registry up", id="broken"),
            pytest.param(503, Transient, "is the registry up", id="overloaded"),
            pytest.param(429, Transient, "limits pulls", id="too many pulls"),
        ],
    )
    @pytest.mark.parametrize("policy", ["missing", "always"])
    def test_a_registry_that_refuses(
        self, lab: Lab, store: Store, status: int, kind: type[BackendError], hint: str, policy: str
    ) -> None:
        reference, sandbox_id = store.put(padded(10)), lab.id()
        store.registry.failure = status
        with pytest.raises(kind) as raised:
            lab.make(pull=policy).create(None, sandbox_id, spec=lab.spec(image=reference))
        assert type(raised.value) is kind
        assert raised.value.message.startswith(f"image {reference} ")
        assert hint in raised.value.hint
        assert lab.labelled(sandbox_id) == []

    def test_a_registry_that_is_down(self, lab: Lab) -> None:
        reference = "127.0.0.1:9/app:1"
        with pytest.raises(Transient, match=r"image 127.0.0.1:9/app:1 cannot be pulled: .*refused") as raised:
            lab.backend.create(None, lab.id(), spec=lab.spec(image=reference))
        assert "is the registry up" in raised.value.hint

    def test_a_reference_that_is_none(self, lab: Lab) -> None:
        with pytest.raises(Permanent, match=r"(?i)invalid reference"):
            lab.backend.create(None, lab.id(), spec=lab.spec(image="Not An Image"))

    def test_a_pull_that_stands_still_ends(self, lab: Lab, store: Store) -> None:
        reference, backend = store.put(padded()), lab.make(timeout=3)
        store.registry.delay = 60
        began = time.monotonic()
        with pytest.raises(Transient, match=r"cannot be pulled: .* did not answer within 3s") as raised:
            backend.create(None, lab.id(), spec=lab.spec(image=reference))
        assert time.monotonic() - began < 30
        assert "timeout:" in raised.value.hint

    def test_those_who_wait_for_a_pull_share_its_failure(self, lab: Lab, wire: Wire, store: Store) -> None:
        reference, backend = store.put(padded()), lab.make(wire.url)
        store.registry.failure = 500
        held = threading.Event()

        def fails(_: int) -> bool:
            with pytest.raises(Transient, match="cannot be pulled"):
                backend.create(None, lab.id(), spec=lab.spec(image=reference))
            return True

        with wire.fault(PULL, first=lambda: held.wait(20)), ThreadPoolExecutor(5) as pool:
            tried = [pool.submit(fails, n) for n in range(5)]
            eventually(lambda: wire.count(r"POST \S*/containers/create") == 5)
            time.sleep(0.2)  # from the engine's answer to the queue for the pull
            held.set()
            assert all(one.result() for one in tried)
        assert wire.count(PULL) == 1

    def test_after_a_failure_it_is_tried_again(self, lab: Lab, store: Store) -> None:
        reference, backend, sandbox_id = store.put(padded(10)), lab.make(pull="always"), lab.id()
        store.registry.failure = 500
        with pytest.raises(Transient):
            backend.create(None, sandbox_id, spec=lab.spec(image=reference))
        store.registry.failure = None
        assert backend.is_alive(backend.create(None, sandbox_id, spec=lab.spec(image=reference)))

    @pytest.mark.parametrize("how", ["a layer is gone", "a layer is cut short"])
    def test_a_registry_that_dies_in_the_middle(
        self, dockerd: PrivateEngine, lab: Lab, own_registry: Registry, how: str
    ) -> None:
        """On an engine that does not try five times itself, which takes it a minute."""
        made, sandbox_id = padded(), lab.id()
        own_registry.put("app", "1", made)
        layer = _digest(made.layers[-1])
        if how == "a layer is gone":
            del own_registry.blobs[layer]
        else:
            own_registry.blobs[layer] = made.layers[-1][:9000]
        backend = lab.make(dockerd.url)
        with pytest.raises(BackendError, match=rf"image {own_registry.host}/app:1 "):
            backend.create(None, sandbox_id, spec=lab.spec(image=f"{own_registry.host}/app:1"))
        assert backend.look(sandbox_id) is None


class TestTags:
    def test_a_moved_tag_is_seen_and_the_next_create_follows_it(self, lab: Lab, store: Store) -> None:
        reference, backend, sandbox_id = store.put(padded(10, "1")), lab.make(pull="always"), lab.id()
        info = backend.create(None, sandbox_id, spec=lab.spec(image=reference))
        assert seen_images(backend, info) == {reference}
        first = store.digest()
        store.put(padded(10, "2"))
        assert seen_images(backend, info) == {f"{reference}@{first[:19]}"}
        backend.destroy(info)
        again = backend.create(None, sandbox_id, spec=lab.spec(image=reference))  # the same run
        assert seen_images(backend, again) == {reference}
        assert lab.raw(again)["Image"] != lab.raw(again)["Config"]["Image"]
        assert store.digest() in lab.stack.client.images.get(lab.raw(again)["Image"]).attrs["RepoDigests"][0]

    def test_a_tag_that_moved_is_nobodys_business_without_always(
        self, lab: Lab, store: Store, wire: Wire
    ) -> None:
        reference, backend = store.put(padded(10, "1")), lab.make(wire.url)
        info = backend.create(None, lab.id(), spec=lab.spec(image=reference))
        store.put(padded(10, "2"))
        assert seen_images(backend, info) == {reference}
        assert wire.count(r"GET \S*/distribution/") == 0

    def test_a_tag_that_moved_on_the_engine_alone(self, lab: Lab) -> None:
        """Without a registry, as for what was built here."""
        reference, backend = lab.stack.tag(image(marker="1")), lab.make()
        info = backend.create(None, lab.id(), spec=lab.spec(image=reference))
        always = lab.make(pull="always")
        assert seen_images(always, info) == {reference}
        lab.stack.tag(image(marker="2"))
        [seen] = seen_images(always, info)
        assert str(seen).startswith(f"{reference}@sha256:")

    def test_an_image_by_its_digest_does_not_move(self, lab: Lab, store: Store) -> None:
        store.put(padded(10, "1"))
        pinned = store.owns(f"{store.registry.host}/app@{store.digest()}")
        backend = lab.make(pull="always")
        info = backend.create(None, lab.id(), spec=lab.spec(image=pinned))
        store.put(padded(10, "2"))
        assert seen_images(backend, info) == {pinned}

    def test_a_registry_that_is_down_makes_no_drift(self, lab: Lab, store: Store) -> None:
        reference, backend = store.put(padded(10)), lab.make(pull="always")
        info = backend.create(None, lab.id(), spec=lab.spec(image=reference))
        store.registry.failure = 500
        assert seen_images(backend, info) == {reference}


def seen_images(backend: DockerBackend, info: SandboxInfo) -> set[object]:
    """As each look at one shows it; a listing shows the image only when its tag has moved."""
    close = backend.look(info.sandbox_id)
    assert close is not None
    [closer] = backend.look_closely([info.sandbox_id])
    [listed] = [one for one in backend.observe() if one.info.sandbox_id == info.sandbox_id]
    images = [(one.attributes or {}).get("image") for one in (close, closer, listed)]
    return {one for one in images if one is not None}


def _digest(text: bytes) -> str:
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def _tar_of(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()
