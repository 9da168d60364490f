"""How much the interpreter does for a plan that changes nothing: calls of functions, and bytes."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from reconciler.config.configure import configure
from reconciler.model.desired import Desired
from tests.budgets.table import within
from tests.support.counting import calls
from tests.support.running import Stack

HEAD = "version: 1\nstack: budget\nbackends: {main: {type: memory}}\n"
SANDBOX = {
    "image": "one",
    "environment": {"LOG_LEVEL": "info"},
    "resources": {"cpu": 1, "memory": "1Gi", "pids": 512},
}


def replicas(count: int) -> str:
    return f"{HEAD}sandboxes: {json.dumps({'s': {**SANDBOX, 'replicas': count}})}\n"


def literal(count: int) -> str:
    return f"{HEAD}sandboxes:\n" + "".join(f"  s{i}: {json.dumps(SANDBOX)}\n" for i in range(count))


def expanded(folder: Path, text: str) -> Desired:
    (folder / "sandboxes.yaml").write_text(text, encoding="utf-8")
    return configure(directory=folder, environ={}).desired


def planned(folder: Path, count: int) -> Stack:
    """All of them are there."""
    stack = Stack(expanded(folder, replicas(count)))
    stack.apply()
    return stack


def cost_of_a_plan(folder: Path, count: int) -> int:
    stack = planned(folder, count)

    def work() -> None:
        stack.desired = expanded(folder, replicas(count))
        assert stack.plan().empty

    work()  # what is learnt once is not counted
    return calls(work)


@pytest.mark.slow
def test_a_plan_of_twice_as_many_makes_twice_as_many_calls(tmp_path: Path) -> None:
    small, large = cost_of_a_plan(tmp_path, 1000), cost_of_a_plan(tmp_path, 2000)
    assert small > 1000, "somebody counts"
    within("plan of 1,000: calls of functions, a sandbox", small / 1000)
    within("plan of 2,000: calls of functions beside 1,000", large / small, f"{small} and {large}")


@pytest.mark.slow
def test_twice_as_much_yaml_makes_twice_as_many_calls(tmp_path: Path) -> None:
    def cost(count: int) -> int:
        text = literal(count)
        expanded(tmp_path, literal(1))
        return calls(lambda: expanded(tmp_path, text))

    small, large = cost(1000), cost(2000)
    assert small > 1000
    within(
        "validate of 2,000 literal: calls of functions beside 1,000", large / small, f"{small} and {large}"
    )


@pytest.mark.xfail(
    strict=True,
    reason="config/load.py:_merge_section copies what was merged so far, for each file: it grows with the square",
)
@pytest.mark.slow
def test_twice_as_many_files_make_twice_as_many_calls(tmp_path: Path) -> None:
    def cost(count: int) -> int:
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "a.yaml").write_text(HEAD, encoding="utf-8")
        for i in range(count):
            (folder / f"s{i}.yaml").write_text(
                f"sandboxes: {json.dumps({f's{i}': SANDBOX})}\n", encoding="utf-8"
            )
        return calls(lambda: configure(directory=folder, environ={}))

    small, large = cost(1000), cost(2000)
    assert small > 1000
    within("validate of 2,000 files: calls of functions beside 1,000", large / small, f"{small} and {large}")


@pytest.mark.slow
@pytest.mark.no_cover  # a tracer's own bytes would be counted too
def test_a_plan_of_ten_thousand_fits_into_little_memory(tmp_path: Path) -> None:
    count = 10_000
    stack = planned(tmp_path, count)
    expanded(tmp_path, replicas(1))
    tracemalloc.start()
    try:
        stack.desired = expanded(tmp_path, replicas(count))
        assert stack.plan().empty
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    within("plan of 10,000: bytes at the peak, a sandbox", most / count, f"{most / 1e6:.0f} MB in all")
