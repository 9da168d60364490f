"""Containers on the engine of this machine: ours, the plain SDK's and docker-compose's, alike in all that costs time."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from benchmarks.machine import docker_compose
from benchmarks.measure import Cost, heard, once, reconciler
from benchmarks.plain_sdk import answered
from tests.support.docker import Images, connect, docker_host, engine_lacks

if TYPE_CHECKING:
    from docker import DockerClient

OURS = """version: 1
stack: {stack}
backends: {{local: {{type: docker, host: "{host}"}}}}
defaults: {{backend: local, readiness: {{http: /v1/sandbox, timeout: 120s}}}}
sandboxes:
  s:
    replicas: {count}
    image: {image}
    labels: {{{label}: "yes"}}
    environment: {{LOG_LEVEL: info}}
"""
# Limits are what an engine's listing does not show: declared, they cost one inspection of each sandbox.
LIMITS = "    resources: {cpu: 0.5, memory: 64Mi, pids: 64}\n"
# What the peers are asked for is the same container: loopback port, limits, no capabilities, an init.
COMPOSE = """    image: {image}
    labels: {{{label}: "yes"}}
    environment: {{LOG_LEVEL: info}}
    ports: ["127.0.0.1::8080"]
    mem_limit: 64m
    memswap_limit: 64m
    cpus: 0.5
    pids_limit: 64
    cap_drop: [ALL]
    security_opt: ["no-new-privileges"]
    init: true
"""


def lacks() -> str:
    """Why no container engine can be used here; "" when one can."""
    return engine_lacks(docker_host())


class Ended(Struct, frozen=True, kw_only=True):
    """Of a fleet that was made and removed: wall seconds of either, and of each sandbox until it was ready, where told."""

    made: float
    gone: float
    each: tuple[float, ...] = ()


class Place(Struct, frozen=True, kw_only=True):
    """An engine, an image in it, and a folder for this run. `label` is on every container, whoever made it."""

    client: DockerClient
    image: str
    host: str
    folder: Path
    label: str

    def configure(self, count: int, *, stack: str = "", limits: bool = True) -> Path:
        """A folder with our configuration of so many, and with an empty state."""
        folder = self.folder / f"ours-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        text = OURS.format(
            stack=stack or self.label, host=self.host, count=count, image=self.image, label=self.label
        )
        (folder / "sandboxes.yaml").write_text(text + (LIMITS if limits else ""))
        return folder

    def compose(self, count: int) -> Path:
        folder = self.folder / "compose"
        folder.mkdir(exist_ok=True)
        service = COMPOSE.format(image=self.image, label=self.label)
        body = "".join(f"  s{i}:\n{service}" for i in range(count))
        (folder / "docker-compose.yml").write_text(f'version: "2.4"\nservices:\n{body}')
        return folder

    def ids(self) -> list[str]:
        found = self.client.api.containers(all=True, filters={"label": self.label})
        return [item["Id"] for item in found]

    def expect(self, count: int, who: str) -> None:
        found = len(self.ids())
        if found != count:
            raise SystemExit(f"{who} left {found} containers, not {count}")

    def clear(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self._remove, self.ids()))
        if docker_compose():
            project = {"label": f"com.docker.compose.project={self.label}"}
            for network in self.client.networks.list(filters=project):
                network.remove()

    def _remove(self, identity: str) -> None:
        self.client.api.remove_container(identity, force=True, v=True)


@contextlib.contextmanager
def place() -> Iterator[Place]:
    host = docker_host()
    with tempfile.TemporaryDirectory(prefix="rb") as name, contextlib.closing(connect(host)) as client:
        label = f"bench-{uuid.uuid4().hex[:8]}"
        made = Place(client=client, image=Images(client).agent, host=host, folder=Path(name), label=label)
        try:
            yield made
        finally:
            made.clear()


# -- three ways to get containers that answer, and to get rid of them: whole processes, from start to end


def ours(where: Place, count: int) -> Ended:
    """`reconciler apply`, which waits until each answers, and `destroy`, which sees each gone."""
    folder = where.configure(count)
    made, events = heard([*reconciler(), "apply", "--auto-approve", "--json"], folder)
    where.expect(count, "reconciler")
    gone = once([*reconciler(), "destroy", "--auto-approve", "-q"], folder)
    where.expect(0, "reconciler")
    return Ended(made=made.wall, gone=gone.wall, each=elapsed(events))


def elapsed(events: str) -> tuple[float, ...]:
    """Seconds of each step that is done, out of what `apply --json` writes."""
    told = map(json.loads, events.splitlines())
    return tuple(event["elapsed"] for event in told if event["type"] == "apply_complete")


def sdk(where: Place, count: int, threads: int) -> Ended:
    """A script as one would write it: create, start and poll each in so many threads; then remove each by force,
    which gives nobody time to end well."""
    costs: list[Cost] = []
    for verb, left in (("make", count), ("remove", 0)):
        argv = [sys.executable, "-m", "benchmarks.plain_sdk", verb]
        argv += [where.host, where.image, where.label, str(count), str(threads)]
        costs.append(once(argv))
        where.expect(left, "the SDK")
    return Ended(made=costs[0].wall, gone=costs[1].wall)


def compose(where: Place, count: int) -> Ended:
    """`docker-compose up -d`, which waits for nothing, and then a poll of all; `docker-compose down`."""
    folder = where.compose(count)
    made = once(compose_command(where, "up", "-d"), folder).wall
    began = time.perf_counter()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda identity: answered(where.client, identity), where.ids()))
    made += time.perf_counter() - began
    where.expect(count, "docker-compose")
    return Ended(made=made, gone=once(compose_command(where, "down"), folder).wall)


def compose_command(where: Place, *verb: str) -> list[str]:
    return [*docker_compose(), "-p", where.label, *verb]
