"""Every example is valid, laid out as `fmt` does it, and works on this machine; the tour ends well."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from msgspec import Struct

from reconciler.backends.process.isolation import find_bubblewrap
from tests.docs.pages import DEPLOYMENTS, EXAMPLES, ROOT
from tests.support.required import required

_BROKEN = "" if find_bubblewrap().path else find_bubblewrap().detail
_GIVEN = {"API_TOKEN": "token-of-the-tests", "RECONCILER_VAR_password": "password-of-the-tests"}
NEEDS_BUBBLEWRAP = {"isolated"}
NEEDS_AN_IMAGE = {
    "cluster",
    "docker-aio",
}  # gigabytes from a registry: validated here, without any engine or cluster, and applied by hand

NEEDS_A_PROVISIONER = {"remote"}  # applied on one of the tests' own, in tests/e2e/test_remote_stack.py


def _each(names: list[str]) -> pytest.MarkDecorator:
    needs = required("bwrap", broken=_BROKEN)
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=needs if name in NEEDS_BUBBLEWRAP else ()) for name in names]
    )


each_example = _each(EXAMPLES)
each_that_runs_here = _each([name for name in EXAMPLES if name not in NEEDS_AN_IMAGE | NEEDS_A_PROVISIONER])


class Project(Struct, frozen=True, kw_only=True):
    """A copy of an example, with a state directory of its own."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "reconciler", *words],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def project(name: str, tmp_path: Path) -> Iterator[Project]:
    folder = tmp_path / name
    shutil.copytree(ROOT / "examples" / name, folder)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILER_", "COV_"))}
    environment |= {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "xdg"), **_GIVEN}
    environment["DOCKER_HOST"] = f"unix://{tmp_path}/no-engine.sock"
    made = Project(folder=folder, environment=environment)
    yield made
    if name not in NEEDS_AN_IMAGE | NEEDS_A_PROVISIONER:
        made.run("destroy", "--auto-approve")


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6
    listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert all(f"[`{name}`]" in listed for name in {*EXAMPLES, *DEPLOYMENTS})


@each_example
def test_an_example_is_valid_and_in_the_canonical_layout(project: Project) -> None:
    project.ok("validate")
    project.ok("fmt", "--check")


@each_that_runs_here
def test_an_example_is_applied_answers_stays_and_leaves_nothing(project: Project) -> None:
    project.ok("apply", "--auto-approve")
    rows = json.loads(project.ok("show", "--json"))["sandboxes"]
    assert rows
    assert {row["status"] for row in rows.values()} == {"ready"}
    project.ok("plan", "--detailed-exitcode")
    for address in sorted(rows)[:1]:
        project.ok("exec", address, "--", "true")
    project.ok("destroy", "--auto-approve")
    root = Path(project.environment["XDG_STATE_HOME"]) / "reconciler" / "process"
    assert [path.name for path in root.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.slow
def test_the_tour_ends_well_and_cleans_up(tmp_path: Path) -> None:
    """With the installed command, or with this checkout's where none is installed."""
    command = tmp_path / "bin" / "reconciler"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m reconciler "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECONCILER_")}
    environment |= {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(temporary),
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "tour.py")],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  ok  ") == 8
    assert list(temporary.iterdir()) == []
