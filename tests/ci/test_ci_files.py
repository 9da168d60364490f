"""The files of `examples/ci/` are what their readers take: by the published schemas, by shellcheck, and by rule."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from reconciler import __version__
from reconciler.cli.exit_codes import ExitCode
from tests.ci.pipelines import EXAMPLE, GITHUB, GITLAB, every_shell, parsed
from tests.docs.pages import ROOT

_BIN = Path(sys.executable).parent
_PRE_COMMIT = EXAMPLE / ".pre-commit-config.yaml"


def checked(*words: str | Path, text: str | None = None) -> None:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=ROOT,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "options"),
    [
        pytest.param(GITHUB, ["vendor.github-workflows"], id="the workflow of GitHub"),
        pytest.param(
            GITLAB, ["vendor.gitlab-ci", "--data-transform", "gitlab-ci"], id="the pipeline of GitLab"
        ),
    ],
)
def test_a_pipeline_is_valid_by_the_schema_that_its_forge_publishes(file: Path, options: list[str]) -> None:
    checked(_BIN / "check-jsonschema", "--builtin-schema", *options, file)


def test_the_hooks_and_their_use_are_valid_for_pre_commit() -> None:
    checked(_BIN / "pre-commit", "validate-manifest", ROOT / ".pre-commit-hooks.yaml")
    checked(_BIN / "pre-commit", "validate-config", _PRE_COMMIT)


@pytest.mark.parametrize("shell", [pytest.param(shell, id=where) for where, shell in every_shell()])
def test_shellcheck_has_nothing_to_say_about(shell: str) -> None:
    checked(
        _BIN / "shellcheck",
        "--shell=bash",
        "--enable=quote-safe-variables",
        "-",
        text=f"set -eo pipefail\n{shell}",
    )


def test_every_action_is_pinned_to_a_commit_and_says_which_version_that_is() -> None:
    used = re.findall(r"uses: (.*)", GITHUB.read_text(encoding="utf-8"))
    assert len(used) >= 7
    for each in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each), each


def test_no_expression_gets_into_a_shell_where_its_value_would_be_code() -> None:
    assert not [where for where, shell in every_shell() if "${{" in shell]


def test_on_github_each_job_has_the_least_rights_and_keeps_no_credentials() -> None:
    workflow = parsed(GITHUB)
    assert workflow["permissions"] == {}
    assert {name: job["permissions"] for name, job in workflow["jobs"].items()} == {
        "plan": {"contents": "read", "pull-requests": "write"},
        "apply": {"contents": "read"},
        "drift": {"contents": "read", "issues": "write"},
    }
    for job in workflow["jobs"].values():
        assert job["steps"][0]["with"] == {"persist-credentials": False}
    assert "head.repo.full_name == github.repository" in workflow["jobs"]["plan"]["if"]


def test_two_applies_never_run_at_once_and_none_is_cut_off() -> None:
    jobs = parsed(GITHUB)["jobs"]
    assert jobs["apply"]["concurrency"] == {"group": "reconciler-apply", "cancel-in-progress": False}
    assert jobs["apply"]["environment"] == "production"
    assert jobs["drift"]["concurrency"]["group"] != "reconciler-apply"
    pipeline = parsed(GITLAB)
    assert pipeline["apply"]["resource_group"] == pipeline["drift"]["resource_group"] == "production"
    assert pipeline["apply"]["interruptible"] is False


def test_the_pipelines_install_this_version() -> None:
    assert parsed(GITHUB)["env"]["PACKAGE"] == f"sandbox-reconciler=={__version__}"
    assert parsed(GITLAB)["variables"]["PACKAGE"] == f"sandbox-reconciler=={__version__}"
    [repository] = parsed(_PRE_COMMIT)["repos"]
    assert repository["rev"] == f"v{__version__}"
    offered = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for hook in repository["hooks"]] == [hook["id"] for hook in offered]


def test_the_readme_says_what_a_pipeline_does_with_every_exit_code() -> None:
    page = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)] == sorted(ExitCode)
