"""The shell of `examples/ci/`, taken out of its YAML and run as GitHub's runner and GitLab's shell executor run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct, field

from tests.docs.pages import ROOT

EXAMPLE = ROOT / "examples" / "ci"
GITHUB = EXAMPLE / "github" / "reconciler.yml"
GITLAB = EXAMPLE / "gitlab" / ".gitlab-ci.yml"
_EXPRESSION = re.compile(r"\$\{\{ *([\w.]+) *\}\}")
_SHELL = (
    "bash",
    "--noprofile",
    "--norc",
    "-eo",
    "pipefail",
    "-c",
)  # GitHub's for `shell: bash`; GitLab's does the same
_JOB_KEYS = {
    "stage",
    "rules",
    "timeout",
    "environment",
    "resource_group",
    "interruptible",
    "artifacts",
    "script",
}


class Step(Struct, frozen=True, kw_only=True):
    name: str
    shell: str
    environ: Mapping[str, str] = field(default_factory=dict)


class Ran(Struct, frozen=True, kw_only=True):
    """How a job ended: the exit code of the step that ended it, its name, and all that was printed."""

    code: int
    step: str
    log: str


def parsed(file: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return document


def github_steps(job: str, values: Mapping[str, str]) -> list[Step]:
    """The steps of a job that run a shell. `values` are the expressions it may use; another one is a KeyError."""
    workflow = parsed(GITHUB)
    assert workflow["defaults"]["run"] == {"shell": "bash"}
    steps = []
    for step in workflow["jobs"][job]["steps"]:
        assert set(step) <= {"name", "uses", "with", "env", "run"}, f"{step}: the tests do not know that key"
        if "run" in step:
            given = {**workflow["env"], **step.get("env", {})}
            environ = {k: _EXPRESSION.sub(lambda found: values[found[1]], str(v)) for k, v in given.items()}
            steps.append(Step(name=step["name"], shell=step["run"], environ=environ))
    return steps


def gitlab_steps(job: str) -> list[Step]:
    """The lines of a job's script, which share one shell: so they are one step."""
    pipeline = parsed(GITLAB)
    assert set(pipeline[job]) <= _JOB_KEYS, f"{job}: the tests do not know one of its keys"
    return [Step(name=job, shell="\n".join(pipeline[job]["script"]), environ=pipeline["variables"])]


def every_shell() -> Iterator[tuple[str, str]]:
    """(where, shell) of all that is in there, installing included."""
    for job, body in parsed(GITHUB)["jobs"].items():
        for step in body["steps"]:
            if "run" in step:
                yield f"github {job}: {step['name']}", step["run"]
    pipeline = parsed(GITLAB)
    yield "gitlab: before_script", "\n".join(pipeline["default"]["before_script"])
    for job, body in pipeline.items():
        if isinstance(body, dict) and "script" in body:
            yield f"gitlab {job}", "\n".join(body["script"])


def run_job(steps: Sequence[Step], checkout: Path, environ: Mapping[str, str]) -> Ran:
    """Step after step, until one fails. `environ` wins over what the file says: it is where this machine differs.
    Installing is left out, as the command is here already; so are plan files while there are none."""
    log, step, code = "", Step(name="", shell=""), 0
    for step in steps:
        if step.name == "Install":
            continue
        done = subprocess.run(
            [*_SHELL, step.shell],
            cwd=checkout,
            env={**os.environ, **step.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
        )
        log, code = f"{log}== {step.name}\n{done.stdout}", done.returncode
        if code:
            break
    return Ran(code=code, step=step.name, log=log)


def programs(folder: Path, **scripts: str) -> str:
    """A PATH on which `reconciler` is this checkout's, and the given ones are what they say in sh."""
    folder.mkdir(exist_ok=True)
    for name, body in {"reconciler": f'exec {sys.executable} -m reconciler "$@"', **scripts}.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
