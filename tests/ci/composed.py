"""`examples/container/compose.yaml`, run as its README says: configuration, environment, apply, up."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from reconciler import __version__
from tests.ci.lab import SECRET, Deployment, Lab, free_port, until
from tests.ci.watcher_image import CONTAINER


def compose_command() -> list[str]:
    """Compose's, old or new; empty without one."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        return ["docker", "compose"]
    return []


@dataclass(frozen=True, kw_only=True)
class Composed:
    lab: Lab
    environ: dict[str, str]

    def compose(self, *words: str) -> None:
        done = subprocess.run(
            [*compose_command(), "--project-name", self.lab.stack.name, *words],
            cwd=self.lab.folder / "container",
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}"

    @property
    def watch(self) -> Any:
        labels = [f"com.docker.compose.project={self.lab.stack.name}", "com.docker.compose.service=watch"]
        [found] = self.lab.stack.client.containers.list(filters={"label": labels})
        return found

    def log(self) -> str:
        return str(self.watch.logs().decode())

    def ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.environ['LISTEN']}{path}", timeout=10) as answer:
            return str(answer.read().decode())


@contextmanager
def composed(lab: Lab) -> Iterator[Composed]:
    shutil.copytree(CONTAINER, lab.folder / "container")
    file = lab.folder / "container" / "config" / "sandboxes.yaml"
    file.write_text(lab.adapted(file.read_text(encoding="utf-8")), encoding="utf-8")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("RECONCILER_")} | {
        "RECONCILER_IMAGE": lab.image,
        "DOCKER_GID": str(lab.socket_group),
        "DOCKER_SOCKET": lab.socket,
        "LISTEN": f"127.0.0.1:{free_port()}",
        "INTERVAL": "1s",
        "API_TOKEN": SECRET,
    }
    made = Composed(lab=lab, environ=environ)
    try:
        made.compose("run", "--rm", "-T", "watch", "apply", "--auto-approve")
        made.compose("up", "-d", "--no-build")
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "10")


def it_is_not_root_and_can_do_little(made: Composed) -> None:
    host = made.watch.attrs["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
    status = made.watch.exec_run(["cat", "/proc/1/status"]).output.decode()
    assert "Uid:\t10001\t10001" in status
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def nothing_that_installs_is_in_the_image(made: Composed) -> None:
    assert made.watch.exec_run(["ls", "/opt/reconciler/bin/pip"]).exit_code != 0
    assert f"reconciler {__version__}" in made.watch.exec_run(["reconciler", "--version"]).output.decode()


def what_is_killed_comes_back(made: Composed) -> None:
    until(lambda: "2 of 2 ready" in made.log(), made.log)
    made.lab.kill_one()
    until(lambda: "well again" in made.log(), made.log)
    assert made.lab.all_run(2)


def what_is_removed_comes_back_with_its_secret(made: Composed) -> None:
    lab, victim = made.lab, made.lab.running()[0]
    lab.stack.client.api.remove_container(victim, force=True, v=True)
    until(lambda: lab.all_run(2) and victim not in lab.running(), made.log)
    for sandbox in lab.running():
        assert lab.stack.shell(sandbox, "cat", "/run/secrets/API_TOKEN") == (0, SECRET)
        assert SECRET not in str(lab.stack.inspect(sandbox))


def it_is_healthy_and_ready_and_serves_metrics(made: Composed) -> None:
    kind, *command = made.watch.image.attrs["Config"]["Healthcheck"]["Test"]
    assert kind == "CMD"
    done = made.watch.exec_run(command)
    assert done.exit_code == 0, done.output.decode()
    made.ask("/readyz")
    assert "reconciler_" in made.ask("/metrics")


def the_state_is_in_the_volume(made: Composed) -> None:
    found = made.watch.exec_run(["ls", "/var/lib/reconciler/state"]).output.decode()
    assert f"{made.lab.stack.name}.json" in found.split()


COMPOSE = Deployment(
    lacks=lambda: "" if compose_command() else "Compose is not installed",
    opened=composed,
    checks=(
        it_is_not_root_and_can_do_little,
        nothing_that_installs_is_in_the_image,
        what_is_killed_comes_back,
        what_is_removed_comes_back_with_its_secret,
        it_is_healthy_and_ready_and_serves_metrics,
        the_state_is_in_the_volume,
    ),
)
