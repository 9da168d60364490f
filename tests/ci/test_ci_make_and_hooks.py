"""The Makefile of `examples/ci/` ends as `reconciler` did; the hooks for pre-commit run as pre-commit runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.ci.pipelines import EXAMPLE, programs
from tests.docs.pages import ROOT
from tests.support.cli import Folder, folder
from tests.support.required import required

_MESSY = "    replicas:   2"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    """A copy of the example, on a machine where `reconciler` is this checkout's."""
    shutil.copytree(EXAMPLE, tmp_path / "checkout")
    environ = {
        "PATH": programs(tmp_path / "bin"),
        "PYTHONPATH": str(ROOT),
        "API_TOKEN": "token-of-the-tests",
        "PRE_COMMIT_HOME": str(tmp_path / "pre-commit"),
    }
    with folder(tmp_path / "checkout", **environ) as made:
        yield made


def edit(here: Folder, before: str, after: str) -> None:
    text = (here.path / "sandboxes.yaml").read_text(encoding="utf-8")
    assert before in text
    here.write(text.replace(before, after))


def run(here: Folder, *words: str) -> tuple[int, str]:
    """(exit code, all that was printed)"""
    done = subprocess.run(
        words,
        cwd=here.path,
        env={k: v for k, v in here.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=120,
    )
    return done.returncode, done.stdout


def make(here: Folder, *words: str, fails: int = 0) -> str:
    """Its output. `fails` is the code of the recipe; make's own is 2 then."""
    code, told = run(here, "make", "-C", ".", *words)
    assert code == (2 if fails else 0), told
    assert not fails or f"Error {fails}\n" in told, told
    return told


@required("make")
class TestMake:
    def test_the_whole_way(self, here: Folder) -> None:
        assert "2 to create" in make(here, "plan")
        assert "--auto-approve" in make(here, "apply", fails=1)  # nobody is there to ask
        make(here, "apply", "APPROVE=--auto-approve")
        make(here, "drift")
        here.kill(here.sandboxes()[0])
        assert "it was killed" in make(here, "drift", fails=2)
        assert "1 to repair" in make(here, "plan")

    def test_a_configuration_that_is_wrong_stops_every_target_that_checks_it(self, here: Folder) -> None:
        edit(here, "replicas", "replica")
        for target in ("validate", "plan", "apply", "drift"):
            make(here, target, fails=3)

    def test_an_apply_that_is_not_complete(self, here: Folder) -> None:
        edit(here, "{env: API_TOKEN}", "{env: API_TOKEN}\n    readiness: {http: /nowhere, timeout: 200ms}")
        make(here, "apply", "APPROVE=--auto-approve", fails=5)

    def test_only_a_stale_plan_is_made_anew_and_only_once(self, here: Folder) -> None:
        """Here the command itself only says how it ended: such runs cannot be had at will."""
        calls = here.path / "calls"
        for first, then, fails in [(6, 0, 0), (6, 6, 6), (4, 0, 4), (7, 0, 7)]:
            once = f'echo >>{calls}; [ "$(wc -l <{calls})" -eq 1 ] && exit {first}; exit {then}'
            programs(here.path.parent / "bin", reconciler=f'[ "$1" = apply ] || exit 0; {once}')
            calls.write_text("")
            make(here, "apply", fails=fails)
            assert len(calls.read_text().splitlines()) == (2 if first == 6 else 1)


def pre_commit(here: Folder, hook: str, **more: object) -> tuple[int, str]:
    """Runs one hook on all files of the folder, by pre-commit itself. Of the manifest only how to install is left out:
    the command is here already."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    [offered] = [each for each in hooks if each["id"] == hook]
    config = {"repos": [{"repo": "local", "hooks": [{**offered, "language": "system", **more}]}]}
    (here.path / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    if not (here.path / ".git").exists():
        run(here, "git", "init", "--quiet")
    run(here, "git", "add", "--all")
    return run(here, sys.executable, "-m", "pre_commit", "run", "--all-files", "--color=never")


@required("git")
class TestHooks:
    def test_good_files_pass(self, here: Folder) -> None:
        for hook in ("reconciler-validate", "reconciler-fmt"):
            code, told = pre_commit(here, hook)
            assert code == 0, told
            assert "Passed" in told

    def test_a_mistake_is_told_with_its_line_and_fails(self, here: Folder) -> None:
        edit(here, "replicas", "replica")
        code, told = pre_commit(here, "reconciler-validate")
        assert code == 1, told
        assert "exit code: 3" in told
        assert "sandboxes.yaml:9:5" in told

    def test_a_layout_that_is_not_canonical_is_mended_shown_and_fails(self, here: Folder) -> None:
        edit(here, "    replicas: 2", _MESSY)
        code, told = pre_commit(here, "reconciler-fmt")
        assert code == 1, told
        assert f"-{_MESSY}" in told
        assert _MESSY not in (here.path / "sandboxes.yaml").read_text(encoding="utf-8")
        assert pre_commit(here, "reconciler-fmt")[0] == 0

    def test_nothing_runs_where_there_is_no_such_file(self, here: Folder) -> None:
        os.rename(here.path / "sandboxes.yaml", here.path / "boxes.yaml")
        assert "no files to check" in pre_commit(here, "reconciler-validate")[1]

    def test_a_configuration_in_a_folder_of_its_own(self, here: Folder) -> None:
        (here.path / "infra").mkdir()
        os.rename(here.path / "sandboxes.yaml", here.path / "infra" / "fleet.yaml")
        where = {"args": ["-C", "infra"], "files": "^infra/"}
        assert pre_commit(here, "reconciler-validate", **where)[0] == 0
        text = (here.path / "infra" / "fleet.yaml").read_text(encoding="utf-8")
        here.write(text.replace("    replicas: 2", _MESSY), "infra/fleet.yaml")
        assert pre_commit(here, "reconciler-fmt", **where)[0] == 1
        assert (here.path / "infra" / "fleet.yaml").read_text(encoding="utf-8") == text
