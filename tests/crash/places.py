"""Opens a world on a backend by the backend's name, and takes care of what has to be there for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.crash.matrix import living
from tests.crash.runs import Runs
from tests.crash.worlds import InMemory, OnProcesses, World


def lacks(backend: str) -> str:
    """Why the backend cannot be used here; "" when it can."""
    if backend != "docker":
        return ""
    from tests.support.docker import docker_host, engine_lacks

    return engine_lacks(docker_host())


@contextmanager
def opened(backend: str, folder: Path, runs: Runs) -> Iterator[World]:
    """`folder` is made, and empty."""
    folder.mkdir(parents=True)
    if backend == "docker":
        from tests.crash.containers import on_docker

        with on_docker(folder, runs) as world:
            yield world
        return
    if backend == "remote":
        from tests.crash.provisioned import at_a_provisioner

        with at_a_provisioner(folder, runs) as world:
            yield world
        return
    with living(InMemory(folder, runs) if backend == "memory" else OnProcesses(folder, runs)) as world:
        yield world
