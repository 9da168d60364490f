"""The pipelines of `examples/ci/` do what they say: their own shell, real sandboxes, and a forge on loopback."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import Struct

from tests.ci.forge import BOT, TOKEN, Forge, forge
from tests.ci.pipelines import EXAMPLE, Ran, github_steps, gitlab_steps, programs, run_job
from tests.docs.pages import ROOT
from tests.support.cli import Folder, folder
from tests.support.required import required

pytestmark = [required("jq"), required("curl")]
MARK = "<!-- reconciler plan ci -->"
DRIFT = "<!-- reconciler drift ci -->"
_VALUES = {
    "github.token": TOKEN,
    "secrets.API_TOKEN": "token-of-the-tests",
    "github.event.pull_request.number": "7",
    "github.event.pull_request.head.sha": "c0ffee",
}


class Pipeline(Struct, frozen=True, kw_only=True):
    """A checkout of the example, the forge it talks to, and its jobs."""

    here: Folder
    forge: Forge

    def github(self, job: str) -> Ran:
        return run_job(github_steps(job, _VALUES), self.here.path, self.here.environ)

    def gitlab(self, job: str) -> Ran:
        return run_job(gitlab_steps(job), self.here.path, self.here.environ)

    def edit(self, before: str, after: str) -> None:
        text = (self.here.path / "sandboxes.yaml").read_text(encoding="utf-8")
        assert before in text
        self.here.write(text.replace(before, after))

    @contextmanager
    def apply_that_does_not_end(self) -> Iterator[None]:
        """Another run, which holds the lock until the block ends."""
        path = self.here.path / "slow"
        path.mkdir()
        never = "readiness: {http: /nowhere, timeout: 60s}"
        (path / "sandboxes.yaml").write_text(
            (self.here.path / "sandboxes.yaml")
            .read_text()
            .replace("replicas: 2", f"replicas: 3\n    {never}")
        )
        run = self.here.start("-C", "slow", "apply", "--auto-approve")
        try:
            assert run.stderr is not None
            assert run.stderr.readline()  # the first step is told of after the lock is taken
            yield
        finally:
            run.kill()
            run.communicate(timeout=30)


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    shutil.copytree(EXAMPLE, tmp_path / "checkout")
    with forge() as held:
        environ = {
            "PATH": programs(
                tmp_path / "bin", gh=f'exec {sys.executable} {Path(__file__).with_name("gh.py")} "$@"'
            ),
            "PYTHONPATH": str(ROOT),
            "FORGE": held.url,
            "RECONCILER_STATE": str(tmp_path / "state"),
            "API_TOKEN": _VALUES["secrets.API_TOKEN"],
            "GITHUB_REPOSITORY": "us/fleet",
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            "CI_API_V4_URL": f"{held.url}/api/v4",
            "CI_PROJECT_ID": "1",
            "CI_MERGE_REQUEST_IID": "7",
            "CI_COMMIT_SHA": "c0ffee",
            "NOTES_TOKEN": TOKEN,
        }
        with folder(tmp_path / "checkout", **environ) as here:
            yield Pipeline(here=here, forge=held)


def ended(ran: Ran, code: int, step: str = "") -> None:
    assert ran.code == code, ran.log
    assert step in ("", ran.step), ran.log


@pytest.mark.slow
def test_on_github_a_plan_is_one_comment_that_follows_the_pull_request(pipeline: Pipeline) -> None:
    others = [{"id": n, "user": {"login": "somebody"}, "body": f"{MARK}\nquoted"} for n in range(120)]
    pipeline.forge.comments += others
    ended(pipeline.github("plan"), 0)
    [comment] = pipeline.forge.comments[120:]
    assert comment["body"].startswith(f"{MARK}\n")
    assert "2 to create" in comment["body"]
    assert "Commit c0ffee." in comment["body"]
    assert pipeline.here.sandboxes() == []

    ended(pipeline.github("apply"), 0)
    assert len(pipeline.here.sandboxes()) == 2
    ended(pipeline.github("plan"), 0)
    assert "No changes" in comment["body"]

    pipeline.edit("LOG_LEVEL: info", "LOG_LEVEL: debug")
    ended(pipeline.github("plan"), 0)
    assert '"info" → "debug"' in comment["body"]
    assert pipeline.forge.comments == [*others, comment]
    summary = Path(pipeline.here.environ["GITHUB_STEP_SUMMARY"]).read_text(encoding="utf-8")
    assert summary.count(MARK) == 3
    assert (pipeline.here.path / "plan.json").stat().st_size


@pytest.mark.slow
def test_on_github_drift_is_one_issue_that_closes_when_it_is_gone(pipeline: Pipeline) -> None:
    pipeline.forge.issues.append({"number": 0, "user": BOT, "state": "open", "body": None})
    ended(pipeline.github("apply"), 0)
    ended(pipeline.github("drift"), 0)
    assert pipeline.forge.writes == []

    pipeline.here.kill(pipeline.here.sandboxes()[0])
    for _ in range(2):
        ended(pipeline.github("drift"), 2, "Look")
    [issue] = pipeline.forge.issues[1:]
    assert issue["title"] == "The sandboxes are not as they were applied"
    assert issue["body"].startswith(f"{DRIFT}\n")
    assert "it was killed" in issue["body"]
    assert [method for method, _ in pipeline.forge.writes] == ["POST", "PATCH"]

    ended(pipeline.github("apply"), 0)
    ended(pipeline.github("drift"), 0)
    assert issue["state"] == "closed"
    assert pipeline.forge.issues[0]["state"] == "open"


def test_what_was_merged_and_not_applied_yet_is_no_drift(pipeline: Pipeline) -> None:
    ended(pipeline.github("apply"), 0)
    pipeline.edit("LOG_LEVEL: info", "LOG_LEVEL: debug")
    ended(pipeline.github("drift"), 0)
    ended(pipeline.gitlab("drift"), 0)
    assert "Waiting for an apply" in (pipeline.here.path / "drift.md").read_text(encoding="utf-8")
    assert pipeline.forge.issues == []


def test_on_github_an_apply_at_work_is_not_taken_for_drift(pipeline: Pipeline) -> None:
    with pipeline.apply_that_does_not_end():
        ran = pipeline.github("drift")
        ended(ran, 0)
        assert "An apply is at work" in ran.log
    assert pipeline.forge.issues == []

    # It was killed, and its lock stayed behind. The lease ends by itself; here it ended already.
    file = Path(pipeline.here.environ["RECONCILER_STATE"]) / "ci.lock"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["holder"]["expires"] = 1.0
    file.write_text(json.dumps(record), encoding="utf-8")
    ended(pipeline.github("drift"), 2, "Look")
    assert len(pipeline.forge.issues) == 1


def test_a_look_that_fails_is_neither_drift_nor_its_end(pipeline: Pipeline, tmp_path: Path) -> None:
    issue = {"number": 3, "user": BOT, "state": "open", "body": f"{DRIFT}\nof before"}
    pipeline.forge.issues.append(issue)
    ended(pipeline.github("apply"), 0)
    elsewhere = {**pipeline.here.environ, "XDG_STATE_HOME": str(tmp_path / "elsewhere")}
    ended(run_job(github_steps("drift", _VALUES), pipeline.here.path, elsewhere), 7, "Look")
    ended(run_job(gitlab_steps("drift"), pipeline.here.path, elsewhere), 7)
    assert pipeline.forge.writes == []


@pytest.mark.slow
def test_on_gitlab_the_whole_way(pipeline: Pipeline) -> None:
    theirs = {"id": 1, "author": {"id": 5}, "body": f"{MARK}\nquoted"}
    pipeline.forge.notes.append(theirs)
    ended(pipeline.gitlab("validate"), 0)
    ended(pipeline.gitlab("plan"), 0)
    [note] = pipeline.forge.notes[1:]
    assert note["body"].startswith(f"{MARK}\n")
    assert "2 to create" in note["body"]

    ended(pipeline.gitlab("apply"), 0)
    ended(pipeline.gitlab("plan"), 0)
    assert "No changes" in note["body"]
    assert pipeline.forge.notes == [theirs, note]

    ended(pipeline.gitlab("drift"), 0)
    pipeline.here.kill(pipeline.here.sandboxes()[0])
    ended(pipeline.gitlab("drift"), 2)
    assert "it was killed" in (pipeline.here.path / "drift.md").read_text(encoding="utf-8")


def test_an_invalid_configuration_ends_with_3_and_is_no_comment(pipeline: Pipeline) -> None:
    pipeline.edit("replicas: 2", "replica: 2")
    for ran in (pipeline.github("plan"), pipeline.gitlab("validate")):
        ended(ran, 3)
        assert "did you mean `replicas`?" in ran.log
    assert pipeline.github("plan").step == "Validate"
    ended(pipeline.github("drift"), 3)
    assert pipeline.forge.writes == []


def test_a_layout_that_is_not_canonical_fails_with_the_difference(pipeline: Pipeline) -> None:
    pipeline.edit("    replicas: 2", "    replicas:   2")
    for ran in (pipeline.github("plan"), pipeline.gitlab("validate")):
        ended(ran, 1)
        assert "-    replicas:   2" in ran.log


def test_an_apply_that_is_not_complete_ends_with_5(pipeline: Pipeline) -> None:
    pipeline.edit("replicas: 2", "replicas: 2\n    readiness: {http: /nowhere, timeout: 200ms}")
    ended(pipeline.github("apply"), 5, "Apply")
    ended(pipeline.gitlab("apply"), 5)


def test_only_a_stale_plan_is_made_anew_and_only_once(pipeline: Pipeline, tmp_path: Path) -> None:
    """Sandboxes that move within one run cannot be had at will: here the command itself only says how it ended."""
    calls = tmp_path / "calls"
    for first, then, code in [(6, 0, 0), (6, 6, 6), (4, 0, 4), (7, 0, 7)]:
        once = f'echo >>{calls}; [ "$(wc -l <{calls})" -eq 1 ] && exit {first}; exit {then}'
        programs(tmp_path / "bin", reconciler=f'[ "$1" = apply ] || exit 0; {once}')
        for job in (pipeline.github, pipeline.gitlab):
            calls.write_text("")
            ended(job("apply"), code)
            assert len(calls.read_text().splitlines()) == (2 if first == 6 else 1)


def test_a_forge_that_refuses_the_comment_fails_the_job(pipeline: Pipeline) -> None:
    pipeline.here.environ["NOTES_TOKEN"] = pipeline.here.environ["GH_TOKEN"] = "wrong"
    ended(pipeline.gitlab("plan"), 22)  # curl's: the server said no
    assert pipeline.github("plan").step == "Comment"
    assert pipeline.forge.writes == []
