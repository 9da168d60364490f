"""How often a run waits for the disk, counted in a child that is watched (tests/crash/points.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.budgets.table import within
from tests.crash.points import BEFORE, Fault
from tests.crash.runs import Runs, done, environment, runs

COUNT = 20
CONFIG = f"""version: 1
stack: budget
backends: {{main: {{type: memory, path: world.json}}}}
sandboxes: {{s: {{replicas: {COUNT}, image: one}}}}
"""
RENAMES = {"rename", "replace", "link"}


@pytest.fixture(scope="module")
def child() -> Iterator[Runs]:
    with runs() as made:
        yield made


def effects(child: Runs, folder: Path, *command: str) -> Counter[tuple[str, str]]:
    """By effect and place, those of the store."""
    ended = child(folder, *command, environ=environment(folder), listens=Fault.KILL)
    points = done(ended, command).points
    return Counter(
        (point.effect, point.place)
        for point in points
        if point.side == BEFORE and point.place.startswith("stores/")
    )


def told(counted: Counter[tuple[str, str]]) -> str:
    return "\n".join(f"{number:5} {effect} in {place}" for (effect, place), number in sorted(counted.items()))


def of(counted: Counter[tuple[str, str]], effects: set[str]) -> int:
    return sum(number for (effect, _), number in counted.items() if effect in effects)


@pytest.mark.slow
def test_the_disk_is_waited_for_once_a_sandbox_and_by_nobody_who_changes_nothing(
    tmp_path: Path, child: Runs
) -> None:
    (tmp_path / "sandboxes.yaml").write_text(CONFIG)
    syncs = {"fsync", "fdatasync"}
    made = effects(child, tmp_path, "apply", "--auto-approve", "--parallelism", "1")
    assert of(made, syncs) > COUNT, "an apply syncs its journal, and that is seen"
    within("store: syncs of an apply beyond one a sandbox", of(made, syncs) - COUNT, told(made))
    within("store: renames of an apply", of(made, RENAMES), told(made))
    again = effects(child, tmp_path, "apply", "--auto-approve")
    within("store: syncs of an apply that changes nothing", of(again, syncs), told(again))
    plan = effects(child, tmp_path, "plan")
    within("store: syncs of a plan", of(plan, syncs), told(plan))


@pytest.mark.slow
def test_in_many_lanes_a_round_waits_once_for_all_of_its_intents(tmp_path: Path, child: Runs) -> None:
    count = 200
    (tmp_path / "sandboxes.yaml").write_text(CONFIG.replace(f"replicas: {COUNT}", f"replicas: {count}"))
    made = effects(child, tmp_path, "apply", "--auto-approve")
    syncs = sum(n for (effect, place), n in made.items() if effect == "fsync" and place.endswith(":append"))
    assert syncs, "an apply syncs its journal, and that is seen"
    within("store: syncs of an apply in many lanes, a sandbox", syncs / count, told(made))
    written = made["write", "stores/file/store.py:write"] - 1  # the backup of the first is one
    within("store: snapshots of an apply", written, told(made))
