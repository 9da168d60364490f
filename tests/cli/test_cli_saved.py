"""Plan files and selectors on the command line: what is written, shown, applied, and refused with which exit code."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import jsonschema_rs
import pytest

from reconciler.backends.memory import MemoryBackend
from reconciler.cli.main import run
from reconciler.config.schemas import schema_text

CONFIG = """\
version: 1
stack: research
variables:
  level: {type: string, default: info}
  token: {type: string, sensitive: true, default: CANARY-token}
backends:
  local: {type: "reconciler.backends.memory:MemoryBackend", path: WORLD}
defaults:
  backend: local
sandboxes:
  db:
    image: postgres:16
  researcher:
    image: aio:1
    replicas: 2
    environment: {LEVEL: "${var.level}"}
    secrets: {TOKEN: {value: "${var.token}"}}
outputs:
  hidden: {value: "CANARY-output", sensitive: true}
"""


class Project:
    """A directory with a configuration, and the world its sandboxes live in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.world = path / "world" / "memory.json"
        self.write(CONFIG)

    def write(self, text: str) -> None:
        (self.path / "sandboxes.yaml").write_text(text.replace("WORLD", str(self.world)), encoding="utf-8")

    def run(self, *args: str) -> int:
        return run(["-C", str(self.path), *args])

    @property
    def file(self) -> Path:
        return self.path / "p.json"

    def backend(self) -> MemoryBackend:
        return MemoryBackend(path=str(self.world))

    def live(self) -> list[str]:
        return sorted(info.sandbox_id for info in self.backend().list_running())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def applied(project: Project, capsys) -> Project:
    assert project.run("apply", "--auto-approve") == 0
    capsys.readouterr()
    return project


# --- making one ------------------------------------------------------------------------------------------------


def test_a_plan_file_is_after_its_schema_for_its_owner_alone_and_the_plan_is_shown_too(project, capsys):
    assert project.run("plan", "-o", "p.json") == 0
    captured = capsys.readouterr()
    assert "3 to create" in captured.out
    assert "Run `reconciler apply p.json`" in captured.err
    assert stat.S_IMODE(project.file.stat().st_mode) == 0o600
    document = json.loads(project.file.read_text())
    jsonschema_rs.validator_for(json.loads(schema_text("plan"))).validate(document)
    assert (document["format"], document["serial"], document["integrity"]["kind"]) == ("1.0", 0, "sha256")
    assert sorted(path.name for path in project.path.iterdir()) == ["p.json", "sandboxes.yaml", "world"]


def test_with_a_key_its_code_is_keyed_and_no_secret_is_in_it(applied):
    assert applied.run("plan", "-o", "p.json", "--var", "level=debug", "--var", "token=CANARY-other") == 0
    text = applied.file.read_text()
    document = json.loads(text)
    assert document["integrity"]["kind"] == "hmac-sha256"
    assert document["inputs"]["variables"]["token"].startswith("hmac-sha256:")
    assert "CANARY" not in text


def test_the_exit_code_of_a_plan_is_the_same_with_a_file(project):
    assert project.run("plan", "-o", "p.json", "--detailed-exitcode") == 2


def test_a_file_that_is_there_is_replaced_whole(project):
    project.file.write_text("x" * 100_000)
    assert project.run("plan", "-o", "p.json") == 0
    assert json.loads(project.file.read_text())["kind"] == "reconciler plan"


@pytest.mark.parametrize(
    ("name", "told", "code"),
    [
        pytest.param("-", "a plan is kept in a file", 64, id="standard output"),
        pytest.param("", "it is empty", 64, id="nothing"),
        pytest.param("world", "it is a directory", 1, id="a directory"),
        pytest.param("/dev/null", "it is no regular file", 1, id="a device"),
        pytest.param("link.json", "it is no regular file", 1, id="a link"),
        pytest.param("no/p.json", "No such file or directory", 1, id="a directory that is not there"),
        pytest.param("sandboxes.yaml/p.json", "Not a directory", 1, id="below a file"),
        pytest.param("/sys/p.json", "denied|Read-only", 1, id="where nobody may write"),
        pytest.param("sandboxes.yaml", "it is the configuration", 1, id="the configuration itself"),
        pytest.param("a\0b", "null byte", 1, id="a name that cannot be"),
    ],
)
def test_where_a_plan_file_cannot_go_is_told_and_nothing_is_lost(applied, name, told, code, capsys):
    (applied.path / "link.json").symlink_to("elsewhere.json")
    before = (applied.path / "sandboxes.yaml").read_text()
    assert applied.run("plan", "-o", name) == code
    err = capsys.readouterr().err
    assert any(word in err for word in told.split("|"))
    assert "internal error" not in err
    assert (applied.path / "sandboxes.yaml").read_text() == before
    assert not [path for path in applied.path.iterdir() if ".tmp-" in path.name]


# --- showing one -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags", [[], ["--json"], ["--format", "markdown"]], ids=["text", "json", "markdown"]
)
def test_a_plan_file_shows_what_the_plan_showed(applied, flags, capsys):
    applied.run("plan", "-o", "p.json", "--var", "level=debug", *flags)
    made = capsys.readouterr().out
    assert applied.run("show", "p.json", *flags) == 0
    assert capsys.readouterr().out == made


def test_a_new_sandbox_is_shown_with_the_same_lines_of_yaml(project, capsys):
    project.run("plan", "-o", "p.json")
    made = capsys.readouterr().out
    project.run("show", "p.json")
    shown = capsys.readouterr()
    assert shown.out == made
    assert "sandboxes.yaml:12" in shown.out
    assert "for stack research, by reconciler " in shown.err


def test_a_plan_file_needs_no_configuration_to_be_shown(applied, tmp_path, capsys):
    applied.run("plan", "-o", "p.json", "--var", "level=debug")
    (applied.path / "sandboxes.yaml").unlink()
    capsys.readouterr()
    assert applied.run("show", "p.json") == 0
    captured = capsys.readouterr()
    assert "2 to replace" in captured.out
    assert "cannot be told here" in captured.err


def test_an_edited_plan_file_is_not_shown(applied, capsys):
    applied.run("plan", "-o", "p.json", "--var", "level=debug")
    applied.file.write_text(applied.file.read_text().replace("debug", "debut"))
    assert applied.run("show", "p.json") == 1
    assert "was changed after it was made" in capsys.readouterr().err


def test_an_address_that_is_recorded_wins_over_a_file_of_its_name(applied, capsys):
    applied.run("plan", "-o", "db")
    capsys.readouterr()
    assert applied.run("show", "db") == 0
    assert "postgres:16" in capsys.readouterr().out
    assert applied.run("show", "./db") == 0
    assert "No changes" in capsys.readouterr().out


def test_what_is_neither_address_nor_file_is_still_no_record(applied, capsys):
    assert applied.run("show", "bd") == 1
    assert "did you mean db?" in capsys.readouterr().err


# --- applying one ----------------------------------------------------------------------------------------------


def test_a_plan_file_is_the_approval(project, capsys):
    project.run("plan", "-o", "p.json")
    assert project.run("apply", "p.json") == 0
    captured = capsys.readouterr()
    assert "Apply complete: 3 created" in captured.out
    assert "answer:" not in captured.err
    assert len(project.live()) == 3


def test_a_plan_file_of_a_destroy_destroys_without_its_flag_and_without_secrets(applied, capsys):
    assert applied.run("plan", "--destroy", "-o", "p.json") == 0
    assert applied.run("apply", "p.json") == 0
    assert "Destroy complete: 3 destroyed" in capsys.readouterr().out
    assert applied.live() == []


def test_the_same_file_twice_is_6_and_changes_nothing(applied, capsys):
    applied.run("plan", "-o", "p.json", "--var", "level=debug")
    assert applied.run("apply", "p.json", "--var", "level=debug") == 0
    before = applied.live()
    capsys.readouterr()
    assert applied.run("apply", "p.json", "--var", "level=debug") == 6
    captured = capsys.readouterr()
    assert "2 stale" in captured.out
    assert "moved since the plan, left alone: it is as planned already" in captured.err
    assert applied.live() == before


def test_a_variable_that_is_not_given_again_is_named(applied, capsys):
    applied.run("plan", "-o", "p.json", "--var", "level=debug")
    assert applied.run("apply", "p.json") == 6
    assert 'LEVEL "debug" → "info" (variable level changed)' in capsys.readouterr().err


def test_a_sensitive_variable_that_changed_is_named_and_not_shown(applied, capsys):
    applied.run("plan", "-o", "p.json", "--var", "token=CANARY-two")
    assert applied.run("apply", "p.json", "--var", "token=CANARY-three") == 6
    captured = capsys.readouterr()
    assert "the secret TOKEN changed (variable token changed)" in captured.err
    assert "CANARY" not in captured.out + captured.err


def test_a_plan_made_before_there_was_a_key_is_not_believed_after(project, capsys):
    project.run("plan", "-o", "p.json")
    project.run("apply", "--auto-approve")
    capsys.readouterr()
    assert project.run("apply", "p.json") == 6
    assert "before there was a state" in capsys.readouterr().err


def test_events_of_an_applied_file_are_after_the_schema(applied, capsys):
    applied.run("plan", "-o", "p.json", "--var", "level=debug")
    victim = next(name for name in applied.live() if name.startswith("researcher-0"))
    applied.backend().remove(victim)
    capsys.readouterr()
    assert applied.run("apply", "p.json", "--json", "--var", "level=debug") == 6
    schema = jsonschema_rs.validator_for(json.loads(schema_text("event")))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for event in events:
        schema.validate(event)
    kinds = [event["type"] for event in events]
    assert (kinds.count("planned_change"), kinds.count("apply_errored"), kinds.count("apply_complete")) == (
        2,
        1,
        1,
    )
    [results] = [event["results"] for event in events if "results" in event]
    assert (results["done"], results["stale"]) == (1, 1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(None, "there is no plan file p.json", id="none"),
        pytest.param("", "it is empty", id="empty"),
        pytest.param("version: 1\n", "is no plan file", id="YAML"),
        pytest.param(
            '{"format": "1.0", "stack": "research"}', "it is something else", id="another JSON file"
        ),
    ],
)
def test_what_is_no_plan_file_is_1_and_nothing_is_done(project, content, told, capsys):
    if content is not None:
        project.file.write_text(content)
    assert project.run("apply", "p.json") == 1
    assert told in capsys.readouterr().err
    assert project.live() == []


def test_a_directory_and_a_pipe_are_no_plan_files(project, capsys):
    os.mkfifo(project.path / "pipe")
    (project.path / "folder").mkdir()
    for name, told in (("folder", "it is"), ("pipe", "it is no regular file"), ("a\0b", "null byte")):
        assert project.run("apply", name) == 1
        assert told in capsys.readouterr().err


def test_a_plan_of_another_stack_is_refused(applied, capsys):
    applied.run("plan", "-o", "p.json", "--var", "level=debug")
    applied.write(CONFIG.replace("stack: research", "stack: other"))
    assert applied.run("apply", "p.json", "--var", "level=debug") == 1
    assert "is a plan for stack 'research'" in capsys.readouterr().err


# --- selectors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["plan", "apply"])
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--refresh-only", "--replace", "db"], "--refresh-only changes nothing, and --replace does"),
        (["--refresh-only", "--destroy"], "--refresh-only changes nothing, and --destroy does"),
        (["--refresh-only", "--no-refresh"], "--no-refresh does not look at"),
        (["--replace", "db", "--destroy"], "--replace makes anew what --destroy takes away"),
        (["--target", ""], "it is empty"),
        (["--exclude", "db", "--exclude", ""], "it is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_selectors_that_make_no_sense_together_are_wrong_usage(project, command, flags, told, capsys):
    assert project.run(command, *flags) == 64
    assert told in capsys.readouterr().err
    assert project.live() == []


@pytest.mark.parametrize(
    "flags",
    [
        ["--target", "db"],
        ["--exclude", "db"],
        ["--replace", "db"],
        ["--refresh-only"],
        ["--no-refresh"],
        ["--destroy"],
    ],
    ids=lambda flags: flags[0],
)
def test_a_plan_file_takes_no_selector(applied, flags, capsys):
    applied.run("plan", "-o", "p.json")
    assert applied.run("apply", "p.json", *flags) == 64
    assert "a plan file has its selection in it" in capsys.readouterr().err


def test_selectors_are_kept_in_the_file(applied):
    flags = ["--target", "researcher", "--target", "db", "--exclude", "researcher[1]", "--no-refresh"]
    assert applied.run("plan", "-o", "p.json", *flags) == 0
    assert json.loads(applied.file.read_text())["selection"] == {
        "targets": ["researcher", "db"],
        "excludes": ["researcher[1]"],
        "replace": [],
        "refresh_only": False,
        "refresh": False,
        "destroy": False,
    }
