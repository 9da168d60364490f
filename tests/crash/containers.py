"""A world on a real container engine, shared with whatever else runs there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from reconciler.backends.docker import DockerBackend
from reconciler.model.desired import Network, NetworkMode, Owner, SandboxSpec
from tests.crash.matrix import living
from tests.crash.runs import Runs
from tests.crash.worlds import Body, Live, World
from tests.support.docker import EngineStack, Images, connect, docker_host, engine_stack


class InContainers(World):
    """The docker backend. Of what others have on the engine only that which was made here is looked at. As little as can
    be is made each time: an engine takes a second for what processes do in the tenth of one."""

    name: ClassVar[str] = "docker"
    in_place: ClassVar[Body] = {"resources": {"memory": "64Mi"}}
    defaults: ClassVar[Body] = {
        "network": {"mode": "isolated"},
        "readiness": {"exec": ["true"], "timeout": "20s"},
    }
    company: ClassVar[bool] = False
    relabels: ClassVar[bool] = False

    def __init__(self, folder: Path, runs: Runs, engine: EngineStack) -> None:
        self.engine = engine
        self._strangers: list[str] = []
        super().__init__(folder, runs)
        self.stack = engine.name

    def _open(self) -> DockerBackend:
        options = self.options()
        return DockerBackend(
            options["host"],
            image=options["image"],
            stop_timeout=1,
            secrets_root=options["secrets_root"],
        )

    def options(self) -> Body:
        return {
            "type": "docker",
            "host": self.engine.host,
            "image": self.engine.images.agent,
            "stop_timeout": "1s",
            "secrets_root": str(self.folder / "secrets"),
        }

    def stranger(self, sandbox_id: str, owner: Owner | None = None) -> None:
        """Of another stack where an owner is given: made by our backend, as its sandboxes are."""
        name = f"{self.stack}-{sandbox_id}"
        if owner is None:
            self.engine.stranger(name, network_mode="none")
        else:
            spec = SandboxSpec(owner=owner, network=Network(mode=NetworkMode.ISOLATED))
            info = self.backend.create(None, name, spec=spec)
            self.engine.owns(str(info.container_id))
        self._strangers.append(name)

    def kill(self, sandbox_id: str) -> None:
        self.engine.client.api.kill(str(self.live()[sandbox_id].info.container_id))

    def live(self) -> Live:
        found = {
            seen.info.sandbox_id: seen
            for seen in self.backend.observe()
            if seen.owner is not None and seen.owner.stack == self.stack
        }
        for name in self._strangers:
            seen = self.backend.look(name)
            if seen is not None:
                found[name] = seen
        return found

    def clear(self) -> None:
        for name in self._strangers:
            with contextlib.suppress(Exception):
                self.engine.client.api.remove_container(name, force=True, v=True)
        self._strangers.clear()
        self.engine.clean()
        super().clear()


@contextmanager
def on_docker(folder: Path, runs: Runs) -> Iterator[InContainers]:
    host = docker_host()
    with contextlib.closing(connect(host)) as client, engine_stack(client, Images(client), host) as stack:
        with living(InContainers(folder, runs, stack)) as world:
            yield world  # type: ignore[misc]
        world.backend.close()
