"""The guarantee, in a cut: every operation is killed once before and once after each kind of effect that it has.

Which of the places where that effect comes is drawn by a seed, which a failure names; `make crash-matrix` takes all.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.matrix import Some, a_row, of_backends
from tests.crash.operations import BY_NAME, OPERATIONS, Operation
from tests.crash.places import lacks, opened
from tests.crash.runs import Runs, runs
from tests.support.effort import effort
from tests.support.required import skip_unless

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

SEED = int(os.environ.get("CRASH_SEED") or random.randrange(1_000_000))
MOST = effort(10, 1000)  # points of one operation
ON_PROCESSES = ("replace, create first", "repair by restart")


@pytest.fixture(scope="module")
def run() -> Iterator[Runs]:
    with runs() as made:
        yield made


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_killed_anywhere_in_memory_it_converges(operation: Operation, run: Runs, tmp_path: Path) -> None:
    holds("memory", operation, run, tmp_path, Some(SEED, operation.name, most=MOST))


@pytest.mark.parametrize("name", ON_PROCESSES)
def test_killed_anywhere_with_processes_it_converges(name: str, run: Runs, tmp_path: Path) -> None:
    """What the backend does, since the store is the same."""
    holds("process", BY_NAME[name], run, tmp_path, Some(SEED, name, most=MOST, of=of_backends))


def test_killed_anywhere_with_containers_it_converges(run: Runs, tmp_path: Path) -> None:
    lacking = lacks("docker")
    skip_unless(not lacking, lacking)
    holds("docker", BY_NAME["repair by restart"], run, tmp_path, Some(SEED, "", most=MOST, of=of_backends))


def holds(backend: str, operation: Operation, run: Runs, home: Path, choose: object) -> None:
    with opened(backend, home / backend, run) as world:
        row = a_row(world, operation, choose)  # type: ignore[arg-type]
    assert row.runs >= 4, "the points were not found"
    assert not row.failures, "\n".join([f"CRASH_SEED={SEED}", *map(str, row.failures)])
