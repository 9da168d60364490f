"""A real container engine for tests: whether there is one, images in it, and a clean end.

A test that needs the engine says `pytestmark = requires_docker`. Whatever it makes hangs on an `EngineStack`, which
removes that, and nothing else, when the test ends.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.backends.containers import PREFIX
from tests.support.images import REPOSITORY, Image, image, static_busybox
from tests.support.required import skip_unless

if TYPE_CHECKING:
    from docker import DockerClient

DEFAULT_HOST = "unix:///var/run/docker.sock"
STACK_LABEL = f"{PREFIX}stack"
# Podman looks for a free port, closes it, and publishes on it later: others may be quicker.
PORT_TAKEN, PORT_TRIES = "address already in use", 5
MADE_BY_TEST = "reconciler-test/stack"  # label of what a test makes beside the reconciler

requires_docker = pytest.mark.usefixtures("docker_engine")


def docker_host() -> str:
    """The URL of the engine that tests use."""
    return os.environ.get("DOCKER_HOST") or DEFAULT_HOST


def connect(host: str, *, timeout: float = 60) -> DockerClient:
    """The SDK's client. The caller closes it."""
    from docker import DockerClient

    return DockerClient(base_url=host, version="auto", timeout=timeout)


@functools.cache
def engine_lacks(host: str) -> str:
    """Why the engine cannot be used; "" when it can."""
    try:
        import docker  # noqa: F401
    except ImportError:
        return "the Docker SDK is not installed"
    if static_busybox() is None:
        return "there is no static busybox to make images of (apt install busybox-static)"
    try:
        if host.startswith("unix://"):
            # The SDK leaves a socket behind when it cannot connect; a warning about that would fail another test.
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.connect(host.removeprefix("unix://"))
        with contextlib.closing(connect(host, timeout=20)) as client:
            client.ping()
    except Exception as error:
        return f"no container engine answers at {host}: {error}"
    return ""


class Images:
    """Images of one engine, loaded when they are first asked for; each attribute is a reference."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client

    @functools.cached_property
    def agent(self) -> str:
        """Answers `GET /v1/sandbox` on 8080, has a shell, ends at once on SIGTERM."""
        return self.load(image())

    @functools.cached_property
    def other(self) -> str:
        """The same with other content: its version is "2"."""
        return self.load(image(marker="2"))

    @functools.cached_property
    def slow(self) -> str:
        """Answers after SLOW_SECONDS seconds (environment; 2)."""
        return self.load(image(["slow"], name="slow"))

    @functools.cached_property
    def crash(self) -> str:
        """Says three lines to stderr and exits with 3 at once."""
        return self.load(image(["crash"], name="crash"))

    @functools.cached_property
    def deaf(self) -> str:
        """Answers, and ignores SIGTERM."""
        return self.load(image(["deaf"], name="deaf"))

    def load(self, made: Image, *tags: str) -> str:
        """Bring an image into the engine under its own tag, or move `tags` to it. Returns the (first) reference."""
        wanted = tags or (made.reference,)
        if tags or not self._has(made.reference):
            self._client.images.load(made.archive(*tags))
        return wanted[0]

    def _has(self, reference: str) -> bool:
        from docker.errors import ImageNotFound

        try:
            self._client.images.get(reference)
        except ImageNotFound:
            return False
        return True

    def remove(self, reference: str) -> None:
        """Untag it, if it is there."""
        from docker.errors import ImageNotFound

        with contextlib.suppress(ImageNotFound):
            self._client.images.remove(reference, force=True)


class EngineStack:
    """A stack name of a test's own, with raw looks at what the engine holds of it.

    `clean` removes containers, volumes and networks that carry the label of this stack, and what was named to `owns`.
    """

    def __init__(self, client: DockerClient, images: Images, host: str) -> None:
        self.name = f"t-{uuid.uuid4().hex[:10]}"
        self.host = host
        self.client = client
        self.images = images
        self._names: list[str] = []
        self._tags: list[str] = []

    # -- looking, raw

    def containers(self) -> list[dict[str, Any]]:
        """Inspections of every container of the stack, dead ones too, by address."""
        found = self._inspected({"label": f"{STACK_LABEL}={self.name}"})
        return sorted(found, key=lambda item: item["Config"]["Labels"].get(f"{PREFIX}address", ""))

    def container(self, address: str) -> dict[str, Any]:
        """The inspection of the one container of that address."""
        label = f"{PREFIX}address={address}"
        [found] = self._inspected({"label": [f"{STACK_LABEL}={self.name}", label]})
        return found

    def addresses(self) -> list[str]:
        """One entry a container: a duplicate shows."""
        return [item["Config"]["Labels"][f"{PREFIX}address"] for item in self.containers()]

    def inspect(self, name_or_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.api.inspect_container(name_or_id)
        return found

    def exists(self, name_or_id: str) -> bool:
        from docker.errors import NotFound

        try:
            self.inspect(name_or_id)
        except NotFound:
            return False
        return True

    def shell(self, name_or_id: str, *command: str) -> tuple[int, str]:
        """Run a program inside a container: exit code and output."""
        done = self.client.containers.get(name_or_id).exec_run(list(command))
        return int(done.exit_code), done.output.decode()

    def _inspected(self, filters: dict[str, Any]) -> list[dict[str, Any]]:
        from docker.errors import NotFound

        found = []
        for item in self.client.api.containers(all=True, filters=filters):
            with contextlib.suppress(NotFound):  # it went between the two calls
                found.append(self.inspect(item["Id"]))
        return found

    # -- making, beside the reconciler

    def stranger(self, name: str, *, reference: str | None = None, **options: Any) -> str:
        """A running container that is not the reconciler's: its id. `options` as `containers.run` takes them."""
        labels = {**options.pop("labels", {}), MADE_BY_TEST: self.name}
        from docker.errors import APIError

        for attempt in range(PORT_TRIES):
            try:
                made = self.client.containers.run(
                    reference or self.images.agent, name=name, labels=labels, detach=True, **options
                )
            except APIError as error:
                if PORT_TAKEN not in str(error) or attempt == PORT_TRIES - 1:
                    raise
                _remove(self.client, name)
            else:
                break
        return str(made.id)

    def volume(self, suffix: str = "data") -> str:
        """An empty named volume: its name."""
        name = f"{self.name}-{suffix}"
        self.client.volumes.create(name, labels={MADE_BY_TEST: self.name})
        return name

    def network(self, suffix: str = "net", **options: Any) -> str:
        """A network: its name."""
        name = f"{self.name}-{suffix}"
        self.client.networks.create(name, labels={MADE_BY_TEST: self.name}, **options)
        return name

    def tag(self, made: Image, suffix: str = "moving") -> str:
        """A tag of this stack's own; called again with another image it moves there. Its reference."""
        reference = f"{REPOSITORY}/{self.name}-{suffix}:latest"
        if reference not in self._tags:
            self._tags.append(reference)
        return self.images.load(made, reference)

    def owns(self, *names: str) -> None:
        """Containers to remove by exact name or id, where no label says that they are this test's."""
        self._names += names

    # -- the end

    def clean(self) -> None:
        """Every kind is tried, whatever goes wrong with another; the first error is raised at the end."""
        errors: list[Exception] = []
        for step in (self._containers, self._networks, self._volumes, self._images):
            try:
                step()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _containers(self) -> None:
        from docker.errors import NotFound

        for label in (STACK_LABEL, MADE_BY_TEST):
            for item in self.client.api.containers(all=True, filters={"label": f"{label}={self.name}"}):
                self._names.append(item["Id"])
        for name in self._names:
            with contextlib.suppress(NotFound):
                _remove(self.client, name)

    def _networks(self) -> None:
        for label in (STACK_LABEL, MADE_BY_TEST):
            for network in self.client.networks.list(filters={"label": f"{label}={self.name}"}):
                network.remove()

    def _volumes(self) -> None:
        for label in (STACK_LABEL, MADE_BY_TEST):
            for volume in self.client.volumes.list(filters={"label": f"{label}={self.name}"}):
                volume.remove(force=True)

    def _images(self) -> None:
        for reference in self._tags:
            self.images.remove(reference)


def _remove(client: DockerClient, name: str) -> None:
    """By force, volumes without a name too. Another removal that is under way is waited for."""
    from docker.errors import APIError, NotFound

    deadline = time.monotonic() + 30
    while True:
        try:
            client.api.remove_container(name, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409 or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


@contextlib.contextmanager
def engine_stack(client: DockerClient, images: Images, host: str) -> Iterator[EngineStack]:
    made = EngineStack(client, images, host)
    try:
        yield made
    finally:
        made.clean()


def get_json(url: str, path: str = "/v1/sandbox", *, within: float = 20) -> dict[str, Any]:
    """The JSON a sandbox answers with, asked again until it does. Raises what went wrong last after `within` s."""
    deadline = time.monotonic() + within
    while True:
        try:
            with urllib.request.urlopen(f"{url}{path}", timeout=5) as response:
                found: dict[str, Any] = json.load(response)
                return found
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def eventually(check: Callable[[], bool], *, within: float = 20) -> None:
    """Wait until the engine has it so. Fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, f"not so within {within} s"
        time.sleep(0.02)


# -- fixtures, known to every test by tests/conftest.py


@pytest.fixture(scope="session")
def docker_engine() -> str:
    """The engine's URL. Skips where no engine answers; in CI that fails."""
    host = docker_host()
    lacks = engine_lacks(host)
    skip_unless(not lacks, lacks)
    return host


@pytest.fixture(scope="session")
def docker_client(docker_engine: str) -> Iterator[DockerClient]:
    with contextlib.closing(connect(docker_engine)) as client:
        yield client


@pytest.fixture(scope="session")
def images(docker_client: DockerClient) -> Images:
    return Images(docker_client)


@pytest.fixture
def docker_stack(docker_client: DockerClient, images: Images, docker_engine: str) -> Iterator[EngineStack]:
    with engine_stack(docker_client, images, docker_engine) as made:
        yield made
