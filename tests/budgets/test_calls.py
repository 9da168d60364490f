"""How much the interpreter does, and how that grows: calls of functions, and bytes."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.config.configure import configure
from tests.budgets.table import within
from tests.support.counting import calls
from tests.support.project import Project

HEAD = "version: 1\nstack: budget\nbackends: {main: {type: memory, path: world.json}}\n"
SANDBOX = {
    "image": "one",
    "environment": {"LEVEL": "info"},
    "resources": {"cpu": 1, "memory": "1Gi"},
}
FEW, MANY = 300, 600


def replicas(project: Project, count: int) -> None:
    project.write(f"{HEAD}sandboxes: {json.dumps({'s': {**SANDBOX, 'replicas': count}})}\n")


def literal(project: Project, count: int) -> None:
    each = (f"  s{i}: {json.dumps({**SANDBOX, 'labels': {'number': f'n{i}'}})}\n" for i in range(count))
    project.write(f"{HEAD}sandboxes:\n{''.join(each)}")


def files(project: Project, count: int) -> None:
    project.write(HEAD, "a.yaml")
    for i in range(count):
        project.write(f"sandboxes: {json.dumps({f's{i}': SANDBOX})}\n", f"s{i}.yaml")


Write = Callable[[Project, int], None]


def fleet(folder: Path, write: Write, count: int, *, applied: bool) -> Project:
    folder.mkdir()
    project = Project(folder)
    write(project, count)
    if applied:
        project.applied()
    return project


def reading(project: Project) -> int:
    configure(directory=project.folder, environ={})  # what is learnt once is not counted
    return calls(lambda: configure(directory=project.folder, environ={}))


def planning(project: Project) -> int:
    assert project.plan().empty
    return calls(project.plan)


def applying(project: Project) -> int:
    """Those of the thread that decides and keeps the books."""
    return calls(project.applied)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "write"),
    [
        *((work, write) for work in ("read", "plan", "apply") for write in (replicas, literal)),
        ("read", files),
    ],
)
def test_twice_the_sandboxes_cost_twice_the_calls(work: str, write: Write, tmp_path: Path) -> None:
    cost = {"read": reading, "plan": planning, "apply": applying}[work]
    few, many = (
        cost(fleet(tmp_path / str(count), write, count, applied=work == "plan")) for count in (FEW, MANY)
    )
    within("twice the sandboxes: calls of functions", many / few, f"{few} calls for {FEW}, {many} for {MANY}")


@pytest.mark.slow
def test_a_plan_makes_few_calls_for_each_sandbox(tmp_path: Path) -> None:
    few, many = (
        planning(fleet(tmp_path / str(count), replicas, count, applied=True)) for count in (FEW, MANY)
    )
    assert many > few > 1000, "somebody counts"
    within("plan: calls of functions, a sandbox", (many - few) / (MANY - FEW))


@pytest.mark.slow
@pytest.mark.no_cover  # a tracer's own bytes would be counted too
def test_a_plan_of_ten_thousand_fits_into_little_memory(tmp_path: Path) -> None:
    peaks = {}
    for count in (5_000, 10_000):
        project = fleet(tmp_path / str(count), replicas, count, applied=True)
        tracemalloc.start()
        try:
            assert project.plan().empty
            peaks[count] = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    most = peaks[10_000]
    within("plan of 10,000: bytes at the peak, a sandbox", most / 10_000, f"{most / 1e6:.0f} MB in all")
    within("twice the sandboxes: bytes at the peak", most / peaks[5_000], str(peaks))
