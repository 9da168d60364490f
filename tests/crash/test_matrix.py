"""The guarantee, in a cut: every operation is killed once before and once after each kind of effect that it has, and some
are refused each kind by their disk.

Which of the places where that effect comes is drawn by a seed, which a failure names; `make crash-matrix` takes all.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.crash.faults import BROKEN
from tests.crash.matrix import Choice, Some, a_row, of_backends
from tests.crash.operations import BY_NAME, OPERATIONS, Operation
from tests.crash.places import lacks, opened
from tests.crash.points import ONWARDS, Fault, Point
from tests.crash.runs import Runs, runs
from tests.support.effort import effort
from tests.support.required import skip_unless

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

SEED = int(os.environ.get("CRASH_SEED") or random.randrange(1_000_000))
MOST = effort(10, 1000)  # points of one operation
REFUSALS = effort(6, 1000)
IN_MEMORY = [operation for operation in OPERATIONS if "memory" in operation.on]
ON_PROCESSES = ("replace, create first", "repair by restart")
AT_A_PROVISIONER = ("create more", "replace, destroy first", "destroy all", "repair by replacement")
REFUSED_ON_PROCESSES = ("create more", "update in place", "repair by restart")


@pytest.fixture(scope="module")
def run() -> Iterator[Runs]:
    with runs() as made:
        yield made


@pytest.mark.parametrize("operation", IN_MEMORY, ids=lambda operation: operation.name)
def test_killed_anywhere_in_memory_it_converges(operation: Operation, run: Runs, tmp_path: Path) -> None:
    holds("memory", operation, run, tmp_path, Some(SEED, operation.name, most=MOST))


@pytest.mark.parametrize("name", ON_PROCESSES)
def test_killed_anywhere_with_processes_it_converges(name: str, run: Runs, tmp_path: Path) -> None:
    """What the backend does, since the store is the same."""
    holds("process", BY_NAME[name], run, tmp_path, Some(SEED, name, most=MOST, of=of_backends))


@pytest.mark.parametrize("which", range(2))
def test_refused_anything_by_its_disk_in_memory_it_converges(which: int, run: Runs, tmp_path: Path) -> None:
    operation = random.Random(SEED).sample(IN_MEMORY, 2)[which]
    holds("memory", operation, run, tmp_path, Some(SEED, operation.name, most=REFUSALS), Fault.DISK)


def test_refused_anything_by_its_disk_with_processes_it_converges(run: Runs, tmp_path: Path) -> None:
    """But not by one that stays broken: for seconds a backend is asked again then."""
    name = random.Random(SEED).choice(REFUSED_ON_PROCESSES)

    def brief(points: Sequence[Point]) -> Sequence[Point]:
        return [p for p in of_backends(points) if p.side != ONWARDS or p.effect not in BROKEN]

    holds("process", BY_NAME[name], run, tmp_path, Some(SEED, name, most=REFUSALS, of=brief), Fault.DISK)


def test_killed_anywhere_with_containers_it_converges(run: Runs, tmp_path: Path) -> None:
    lacking = lacks("docker")
    skip_unless(not lacking, lacking)
    holds("docker", BY_NAME["repair by restart"], run, tmp_path, Some(SEED, "", most=MOST, of=of_backends))


def test_killed_anywhere_with_a_provisioner_it_converges(run: Runs, tmp_path: Path) -> None:
    name = random.Random(SEED).choice(AT_A_PROVISIONER)
    holds("remote", BY_NAME[name], run, tmp_path, Some(SEED, name, most=MOST, of=of_backends))


def holds(
    backend: str,
    operation: Operation,
    run: Runs,
    home: Path,
    choose: Choice,
    fault: Fault = Fault.KILL,
) -> None:
    with opened(backend, home / backend, run) as world:
        row = a_row(world, operation, choose, fault)
    assert row.runs >= 4, "the points were not found"
    assert not row.failures, "\n".join([f"CRASH_SEED={SEED}", *map(str, row.failures)])
