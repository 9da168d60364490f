"""What a run asks of a backend, a disk and this interpreter, counted, and how that grows with the number of sandboxes."""

from __future__ import annotations

import os
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.backends.memory import MemoryBackend
from reconciler.config.configure import configure
from reconciler.stores.file import disk
from reconciler.stores.file.store import FileStore
from tests.support.counting import calls
from tests.support.docker import EngineStack
from tests.support.project import Project
from tests.support.proxy import proxy

REPLICAS = """version: 1
stack: budget
backends: {{main: {{type: memory, path: world.json}}}}
sandboxes:
  s: {{replicas: {count}, image: one, environment: {{LEVEL: info}}, resources: {{cpu: 1, memory: 1Gi}}}}
"""
EACH = "  s{i}: {{image: 'one:{i}', environment: {{LEVEL: info}}, labels: {{number: n{i}}}}}\n"
# Twice the sandboxes may cost twice the calls, and a little for what is looked up in sorted order.
TWICE = 2.1


def replicas(count: int) -> str:
    return REPLICAS.format(count=count)


def literal(count: int) -> str:
    head = REPLICAS.format(count=1).rpartition("  s:")[0]
    return head + "".join(EACH.format(i=i) for i in range(count))


def fleet(folder: Path, text: str, *, applied: bool = True) -> Project:
    folder.mkdir()
    project = Project(folder)
    project.write(text)
    if applied:
        project.applied()
    return project


def reading(project: Project) -> int:
    configure(directory=project.folder, environ={})
    return calls(lambda: configure(directory=project.folder, environ={}))


def planning(project: Project) -> int:
    assert project.plan().empty
    return calls(project.plan)


def applying(project: Project) -> int:
    """Those of the thread that decides and keeps the books."""
    return calls(project.applied)


@pytest.mark.parametrize("write", [replicas, literal])
@pytest.mark.parametrize(
    ("work", "begun"), [(reading, False), (planning, True), (applying, False)], ids=["read", "plan", "apply"]
)
def test_twice_the_sandboxes_cost_twice_the_calls(
    work: Callable[[Project], int], begun: bool, write: Callable[[int], str], tmp_path: Path
) -> None:
    few, many = (work(fleet(tmp_path / str(count), write(count), applied=begun)) for count in (300, 600))
    assert many <= TWICE * few, f"{few} calls for 300, {many} for 600"


@pytest.mark.no_cover
def test_twice_the_sandboxes_take_twice_the_memory(tmp_path: Path) -> None:
    peaks = []
    for count in (1000, 2000):
        project = fleet(tmp_path / str(count), replicas(count))
        tracemalloc.start()
        try:
            assert project.plan().empty
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] <= TWICE * peaks[0], peaks
    assert peaks[1] / 2000 < 8_000, f"{peaks[1] / 2000:.0f} bytes a sandbox"


def counted(monkeypatch: pytest.MonkeyPatch, owner: type | object, names: tuple[str, ...]) -> Counter[str]:
    found: Counter[str] = Counter()
    for name in names:
        inner = getattr(owner, name)

        def outer(
            *args: object, inner: Callable[..., object] = inner, name: str = name, **more: object
        ) -> object:
            found[name] += 1
            return inner(*args, **more)

        monkeypatch.setattr(owner, name, outer)
    return found


@pytest.mark.parametrize("count", [10, 200])
def test_a_plan_without_changes_is_one_list_call(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = fleet(tmp_path / "fleet", replicas(count))
    verbs = (
        "observe",
        "list_running",
        "discover",
        "look",
        "look_closely",
        "is_alive",
        "probe",
        "create",
        "destroy",
        "update",
    )
    asked = counted(monkeypatch, MemoryBackend, verbs)
    synced = counted(monkeypatch, os, ("fsync", "replace", "rename"))
    assert project.plan().empty
    assert asked == {"observe": 1}
    assert not synced


@pytest.mark.parametrize("count", [50, 400])
def test_an_apply_writes_the_state_twice_and_syncs_once_a_round(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first effect and after the last; in between a round's intents are synced together, and each round takes up
    what lanes are free."""
    project = fleet(tmp_path / "fleet", replicas(count), applied=False)
    stored = counted(monkeypatch, FileStore, ("write", "append"))
    synced = counted(monkeypatch, disk, ("sync",))
    project.applied()
    assert stored["write"] == 2
    written = 12  # files and directories of two snapshots, the lock, the key
    assert synced["sync"] <= written + stored["append"]
    assert synced["sync"] - written <= count / 2


@pytest.mark.usefixtures("docker_engine")
def test_a_docker_plan_without_changes_asks_for_one_listing(
    docker_stack: EngineStack, tmp_path: Path
) -> None:
    with proxy(tmp_path, docker_stack.host) as engine:
        entry = (
            f"{{type: docker, host: '{engine.url}', image: {docker_stack.images.agent}, stop_timeout: 1s}}"
        )
        text = f"version: 1\nstack: {docker_stack.name}\nbackends: {{main: {entry}}}\nsandboxes: {{s: {{replicas: 6}}}}\n"
        project = fleet(tmp_path / "fleet", text)
        engine.reset()
        assert project.plan().empty
        asked = engine.calls
    assert asked["GET /containers/json"] == 1
    assert not [call for call in asked if "{id}" in call], asked
