"""Containers created and ready, planned again, destroyed: beside the plain Docker SDK and docker-compose, by turns."""

from __future__ import annotations

import contextlib
import http.client
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

from msgspec import Struct

from benchmarks.measure import process, reconciler
from tests.support.docker import Images, connect, docker_host, engine_lacks
from tests.support.proxy import proxy

if TYPE_CHECKING:
    from docker import DockerClient

COUNT, MANY, ROUNDS, THREADS = 40, 200, 3, 16
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


class Place(Struct, frozen=True, kw_only=True):
    """An engine, an image in it, and a folder for this run. `label` is on every container, whoever made it."""

    client: DockerClient
    image: str
    host: str
    folder: Path
    label: str

    def configure(self, count: int, host: str | None = None, *, limits: bool = True) -> Path:
        """A folder with our configuration of so many, and with an empty state."""
        folder = self.folder / f"ours-{uuid.uuid4().hex[:8]}"
        folder.mkdir()
        text = OURS.format(
            stack=self.label, host=host or self.host, count=count, image=self.image, label=self.label
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
            networks = self.client.networks.list(
                filters={"label": f"com.docker.compose.project={self.label}"}
            )
            for network in networks:
                network.remove()

    def _remove(self, identity: str) -> None:
        self.client.api.remove_container(identity, force=True, v=True)


def docker_compose() -> list[str]:
    """The command of a docker-compose of this machine; empty without one."""
    if which("docker-compose"):
        return ["docker-compose"]
    plugin = (
        subprocess.run(["docker", "compose", "version"], capture_output=True) if which("docker") else None
    )
    return ["docker", "compose"] if plugin is not None and plugin.returncode == 0 else []


# -- the three ways to get containers that answer, and to get rid of them: seconds of either


def ours(place: Place) -> tuple[float, float]:
    """`reconciler apply`, which waits until each answers, and `destroy`, which sees each gone: whole processes."""
    folder = place.configure(COUNT)
    made = process([*reconciler(), "apply", "--auto-approve", "-q"], folder, runs=1, warmup=0).wall
    place.expect(COUNT, "reconciler")
    gone = process([*reconciler(), "destroy", "--auto-approve", "-q"], folder, runs=1, warmup=0).wall
    return made, gone


def sdk(place: Place) -> tuple[float, float]:
    """A script in a process of its own, as one would write it: create, start and poll each in 16 threads; then
    remove each by force, which gives nobody time to end well."""
    seconds = []
    for verb in ("make", "remove"):
        argv = [
            sys.executable,
            "-m",
            "benchmarks.containers",
            verb,
            place.host,
            place.image,
            place.label,
            str(COUNT),
        ]
        seconds.append(process(argv, Path.cwd(), runs=1, warmup=0).wall)
        place.expect(COUNT if verb == "make" else 0, "the SDK")
    return seconds[0], seconds[1]


def compose(place: Place) -> tuple[float, float]:
    """`docker-compose up -d`, which waits for nothing, and then a poll of all; `docker-compose down`."""
    folder = place.compose(COUNT)
    made = process(_compose(place, "up", "-d"), folder, runs=1, warmup=0).wall
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda identity: _answers(place.client, identity), place.ids()))
    made += time.perf_counter() - began
    place.expect(COUNT, "docker-compose")
    return made, process(_compose(place, "down"), folder, runs=1, warmup=0).wall


def _compose(place: Place, *verb: str) -> list[str]:
    return [*docker_compose(), "-p", place.label, *verb]


def plain_sdk(verb: str, host: str, image: str, label: str, count: int) -> None:
    with contextlib.closing(connect(host)) as client, ThreadPoolExecutor(THREADS) as pool:
        if verb == "make":
            list(pool.map(lambda _: _one(client, image, label), range(count)))
        else:
            found = client.containers.list(all=True, filters={"label": label})
            list(pool.map(lambda container: container.remove(force=True), found))


def _one(client: DockerClient, image: str, label: str) -> None:
    made = client.containers.create(
        image, labels={label: "yes"}, environment={"LOG_LEVEL": "info"}, ports={"8080/tcp": ("127.0.0.1", None)},
        mem_limit="64m", memswap_limit="64m", nano_cpus=500_000_000, pids_limit=64, cap_drop=["ALL"],
        security_opt=["no-new-privileges"], init=True,
    )  # fmt: skip
    made.start()
    _answers(client, str(made.id))


def one_ready(place: Place) -> float:
    """Seconds of making one, and of waiting until it answers."""
    began = time.perf_counter()
    _one(place.client, place.image, place.label)
    return time.perf_counter() - began


def _answers(client: DockerClient, identity: str) -> None:
    """Returns when `GET /v1/sandbox` gives 200. Raises TimeoutError after two minutes."""
    bound = client.api.inspect_container(identity)["NetworkSettings"]["Ports"]["8080/tcp"]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", int(bound[0]["HostPort"]), timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/v1/sandbox")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.02)
    raise TimeoutError(f"container {identity} does not answer")


# -- the figures


def created_and_destroyed(place: Place) -> None:
    """By turns, so that what else the machine does falls on all alike."""
    script = f"SDK, {THREADS} threads"
    ways: dict[str, Callable[[Place], tuple[float, float]]] = {"reconciler": ours, script: sdk}
    if docker_compose():
        ways["docker-compose"] = compose
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(ROUNDS):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            took[name].append(ways[name](place))
            place.clear()
    made = {name: [pair[0] for pair in pairs] for name, pairs in took.items()}
    _tell(f"{COUNT} created and ready", made, {script: 1.1, "docker-compose": 0.65})
    _tell(f"{COUNT} destroyed", {name: [pair[1] for pair in pairs] for name, pairs in took.items()}, {})


def planned_again(place: Place) -> None:
    """All fleets are up: ours are planned and theirs brought up again, by turns."""
    plain, limited = "reconciler plan", "with limits declared"
    folders = {plain: place.configure(COUNT, limits=False), limited: place.configure(COUNT)}
    (folders[limited] / "sandboxes.yaml").write_text(
        (folders[limited] / "sandboxes.yaml").read_text().replace(place.label, f"{place.label}-2", 1)
    )
    took: dict[str, list[float]] = {name: [] for name in folders}
    for folder in folders.values():
        process([*reconciler(), "apply", "--auto-approve", "-q"], folder, runs=1, warmup=0)
    if docker_compose():
        process(_compose(place, "up", "-d"), place.compose(COUNT), runs=1, warmup=0)
        took["docker-compose up"] = []
    for _ in range(ROUNDS + 2):
        for name, folder in folders.items():
            took[name].append(_plan(folder))
        if docker_compose():
            again = process(_compose(place, "up", "-d"), place.folder / "compose", runs=1, warmup=0)
            took["docker-compose up"].append(again.wall)
    _tell(f"no-op of {COUNT}", took, {"docker-compose up": 0.25})
    place.clear()


def calls(place: Place) -> None:
    """How many questions the engine is asked; with many containers the time of a plan too."""
    with proxy(place.folder, place.host) as before:
        for count, limits in ((COUNT, False), (COUNT, True), (MANY, False), (MANY, True)):
            folder = place.configure(count, before.url, limits=limits)
            which_ones = f"{count}{' with limits' if limits else ''}"
            before.reset()
            cost = process([*reconciler(), "apply", "--auto-approve", "-q"], folder, runs=1, warmup=0)
            print(f"{which_ones} created: {cost.wall:.2f} s; calls: {_listed(before.calls)}")
            before.reset()
            _plan(folder)
            goal = "" if limits else " (goal: one list call)"
            print(f"no-op plan of {which_ones}: calls: {_listed(before.calls)}{goal}")
            cost = process([*reconciler(), "plan", "--detailed-exitcode"], folder, runs=ROUNDS + 2)
            print(f"no-op plan of {which_ones}: {cost}")
            before.reset()
            cost = process([*reconciler(), "destroy", "--auto-approve", "-q"], folder, runs=1, warmup=0)
            print(f"{which_ones} destroyed: {cost.wall:.2f} s; calls: {_listed(before.calls)}")
            place.clear()


def _plan(folder: Path) -> float:
    """Fails unless the plan is empty."""
    return process([*reconciler(), "plan", "--detailed-exitcode"], folder, runs=1, warmup=0).wall


def _listed(counted: Mapping[str, int]) -> str:
    return ", ".join(
        f"{number} {call}" for call, number in sorted(counted.items(), key=lambda c: (-c[1], c[0]))
    )


def _tell(what: str, took: Mapping[str, list[float]], goals: Mapping[str, float]) -> None:
    """The first is ours; every other one is what it is compared with, median with median."""
    for name, seconds in took.items():
        print(f"{what}: {name:22} median {statistics.median(seconds):6.2f} s   least {min(seconds):6.2f} s")
    mine, *others = took
    for name in others:
        ratio = statistics.median(took[mine]) / statistics.median(took[name])
        least = min(took[mine]) / min(took[name])
        goal = f" (goal: at most {goals[name]})" if name in goals else ""
        print(f"{what}: {ratio:.2f} times {name}; {least:.2f} by the least{goal}")


@contextlib.contextmanager
def place() -> Iterator[Place]:
    host = docker_host()
    with tempfile.TemporaryDirectory(prefix="rb") as name, contextlib.closing(connect(host)) as client:
        label = f"bench-{uuid.uuid4().hex[:8]}"
        image = Images(client).agent
        made = Place(client=client, image=image, host=host, folder=Path(name), label=label)
        try:
            yield made
        finally:
            made.clear()


def main() -> None:
    lacks = engine_lacks(docker_host())
    if lacks:
        print(f"left out: {lacks}")
        return
    if not docker_compose():
        print("docker-compose: not on the PATH")
    with place() as where:
        for figure in (created_and_destroyed, planned_again, calls):
            figure(where)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        verb, host, image, label, number = sys.argv[1:]
        plain_sdk(verb, host, image, label, int(number))
    else:
        main()
