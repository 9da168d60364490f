"""A peer that is not here is named as absent; our side is measured all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import machine, plans
from benchmarks.engine import elapsed
from benchmarks.figures import Verdict
from benchmarks.projects import PLAN, SHAPES, applied
from tests.support.cli import Folder


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is on the PATH, and no engine answers."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")


@pytest.mark.usefixtures("no_programs")
def test_without_terraform_a_plan_is_measured_and_the_peer_is_absent() -> None:
    figure = plans._beside_terraform("replicas", "count", 2, 1.0, 1)
    assert figure.verdict is Verdict.ABSENT
    assert (figure.peer, figure.absent) == ("Terraform", "not installed")
    assert len(figure.samples) == 1
    assert figure.samples[0] > 0


@pytest.mark.usefixtures("no_programs")
def test_the_machine_names_what_is_absent_and_why() -> None:
    here = machine.machine()
    assert here["Terraform"] == here["docker-compose"] == "not installed"
    assert "Docker" not in here["Docker"]
    assert here["Docker"], "why no engine can be asked"
    assert here["Python"].startswith("CPython 3.")


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_as_many_sandboxes_and_a_plan_of_it_changes_nothing(shape: str) -> None:
    with applied(shape, 3) as folder:
        here = Folder(folder)
        assert len(here.state()["sandboxes"]) == 3
        here(*PLAN, code=0)


def test_seconds_of_each_step_are_read_from_the_events(tmp_path: Path) -> None:
    SHAPES["replicas"](tmp_path, 4)
    events = Folder(tmp_path)("apply", "--auto-approve", "--json").stdout
    assert len(elapsed(events)) == 4
    assert min(elapsed(events)) >= 0
