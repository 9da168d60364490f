"""Sandboxes of a test's own on the real engine: unique ids, and everything made under them goes at the end."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.containers import SANDBOX_ID
from reconciler.backends.docker import DockerBackend
from reconciler.model.desired import Network, NetworkMode, SandboxSpec, Secret, SecretRef
from reconciler.model.observed import SandboxInfo
from reconciler.testing.backend_conformance import an_owner
from tests.backends.docker.private_engine import PrivateEngine, lacks, private_engine
from tests.backends.docker.wire import Wire
from tests.support.docker import EngineStack, eventually
from tests.support.registry import Registry, registry
from tests.support.required import skip_unless

OPEN = Network()  # the engine's own: a published port, and a URL
# The engine hears of memory that ran out by another road than of the end, and misses about 1 in 80 for good on a busy
# machine (Docker 20.10: no `oom` event either, `OOMKilled` stays false). A test asks this often.
OOM_TRIES = 5


class Lab:
    """`backend` is one on the engine of the tests; `make` makes others, on any engine. Images are the test's."""

    def __init__(self, stack: EngineStack, folder: Path) -> None:
        self.stack = stack
        self.secrets_root = folder / "secrets"
        self._made: list[DockerBackend] = []
        self._ids: list[str] = []
        self.backend = self.make()

    def make(self, host: str | None = None, **options: Any) -> DockerBackend:
        defaults = {
            "stop_timeout": 1,
            "image": self.stack.images.agent,
            "secrets_root": str(self.secrets_root),
        }
        made = DockerBackend(host or self.stack.host, **{**defaults, **options})
        self._made.append(made)
        return made

    def id(self, word: str = "lab") -> str:
        """A fresh sandbox id that begins with the word."""
        self._ids.append(f"{word}-{secrets.token_hex(5)}")
        return self._ids[-1]

    def owns(self, sandbox_id: str) -> str:
        self._ids.append(sandbox_id)
        return sandbox_id

    def spec(self, **fields: Any) -> SandboxSpec:
        """Without a network where the test says nothing of one: that takes an engine a third of the time."""
        isolated = Network(mode=NetworkMode.ISOLATED)
        return SandboxSpec(**{"owner": an_owner(stack=self.stack.name), "network": isolated, **fields})

    def running(self, word: str = "lab", **fields: Any) -> SandboxInfo:
        """A sandbox that was made just now."""
        return self.backend.create(None, self.id(word), spec=self.spec(**fields))

    def raw(self, info: SandboxInfo) -> dict[str, Any]:
        """Its inspection."""
        return self.stack.inspect(str(info.container_id))

    def dead(self, info: SandboxInfo) -> SandboxInfo:
        """Wait until it has ended."""
        eventually(lambda: not self.raw(info)["State"]["Running"])
        return info

    def labelled(self, sandbox_id: str) -> list[dict[str, Any]]:
        """Every container that carries the id, dead ones too."""
        found: list[dict[str, Any]] = self.stack.client.api.containers(
            all=True, filters={"label": f"{SANDBOX_ID}={sandbox_id}"}
        )
        return found

    def volumes(self, sandbox_id: str) -> list[str]:
        found = self.stack.client.volumes.list(filters={"label": f"{SANDBOX_ID}={sandbox_id}"})
        return [str(volume.name) for volume in found]

    def close(self) -> None:
        for backend in self._made:
            backend.close()
        for sandbox_id in self._ids:
            self.stack.owns(*(item["Id"] for item in self.labelled(sandbox_id)))
        self.stack.clean()
        for name in [name for sandbox_id in self._ids for name in self.volumes(sandbox_id)]:
            self.stack.client.volumes.get(name).remove(force=True)


def a_secret(value: str, delivery: str = "file") -> SecretRef:
    return SecretRef(
        source="env TOKEN",
        kind="env",
        target=("TOKEN",),
        digest="d" * 32,
        delivery=delivery,
        value=Secret(value),
    )


@pytest.fixture
def lab(docker_stack: EngineStack, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(docker_stack, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path, for sockets, that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def wire(docker_engine: str, short: Path) -> Iterator[Wire]:
    with contextlib.closing(Wire(docker_engine, short / "w.sock")) as made:
        yield made


@pytest.fixture
def tcp(docker_engine: str) -> Iterator[Wire]:
    """To the engine over TCP, as if it were on another machine."""
    with contextlib.closing(Wire(docker_engine)) as made:
        yield made


@pytest.fixture
def own_registry() -> Iterator[Registry]:
    with registry() as made:
        yield made


@pytest.fixture(scope="session")
def dockerd(docker_engine: str) -> Iterator[PrivateEngine]:
    """A dockerd of this worker's own. Skips where none can be had; in CI that fails."""
    reason = lacks()
    skip_unless(not reason, reason)
    folder = Path(tempfile.mkdtemp(prefix="rt-"))
    with private_engine(folder) as made:
        yield made
    shutil.rmtree(folder, ignore_errors=True)
