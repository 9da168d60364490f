"""Whole commands in one process: real configuration, real file store, and the memory backend's shared world."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest

from reconciler.backends.memory import MemoryBackend
from reconciler.cli.main import run
from reconciler.cli.starter import starter
from reconciler.config.schemas import schema_text

ROOT = Path(__file__).parents[2]

CONFIG = """\
version: 1
stack: research
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
    environment:
      LEVEL: info
    depends_on: [db]
outputs:
  url: "${sandbox.db.url}"
"""


class Project:
    """A directory with a configuration, and the world its sandboxes live in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.world = path / "world" / "memory.json"
        self.write(CONFIG)

    def write(self, text: str) -> None:
        (self.path / "sandboxes.yaml").write_text(text.replace("WORLD", str(self.world)), encoding="utf-8")

    def edit(self, old: str, new: str) -> None:
        text = (self.path / "sandboxes.yaml").read_text(encoding="utf-8")
        assert old in text
        self.write(text.replace(old, new))

    def run(self, *args: str) -> int:
        return run(["-C", str(self.path), *args])

    def apply(self, capsys) -> None:
        assert self.run("apply", "--auto-approve") == 0
        capsys.readouterr()

    def backend(self) -> MemoryBackend:
        return MemoryBackend(path=str(self.world))

    def live(self) -> list[str]:
        return [info.sandbox_id for info in self.backend().list_running()]


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="module")
def event_schema():
    return jsonschema_rs.validator_for(json.loads(schema_text("event")))


def events(out: str, schema) -> list[dict]:
    found = [json.loads(line) for line in out.splitlines()]
    for data in found:
        schema.validate(data)
    assert found[0]["type"] == "version"
    return found


# --- plan ------------------------------------------------------------------------------------------------------


def test_a_plan_shows_what_is_to_be_created_and_changes_nothing(project, capsys):
    assert project.run("plan") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == "Plan: 3 to create, 0 to change, 0 to replace, 0 to destroy."
    assert "researcher[0..1] (2×)" in captured.out
    assert "sandboxes.yaml:" in captured.out
    assert "reconciler apply" in captured.err
    assert sorted(path.name for path in project.path.iterdir()) == ["sandboxes.yaml", "world"]
    assert project.live() == []


@pytest.mark.parametrize(("flags", "code"), [([], 0), (["--detailed-exitcode"], 2)])
def test_changes_are_an_exit_code_only_when_asked(project, flags, code, capsys):
    assert project.run("plan", *flags) == code


def test_no_changes_are_0_with_the_detailed_exit_code(project, capsys):
    project.apply(capsys)
    assert project.run("plan", "--detailed-exitcode") == 0
    assert capsys.readouterr().out == "No changes. All 3 sandboxes of stack research are as declared.\n"


@pytest.mark.parametrize("args", [["plan", "--json"], ["--json", "plan"], ["plan", "--format", "json"]])
def test_a_plan_for_programs_is_valid_events(project, args, capsys, event_schema):
    assert project.run(*args) == 0
    captured = capsys.readouterr()
    kinds = [data["type"] for data in events(captured.out, event_schema)]
    assert kinds.count("planned_change") == 3
    assert kinds[-1] == "change_summary"
    assert captured.err == ""


def test_a_plan_for_a_pull_request_is_markdown(project, capsys):
    assert project.run("plan", "--format", "markdown") == 0
    assert capsys.readouterr().out.startswith(
        "<!-- reconciler plan research -->\n### Plan for stack `research`"
    )


def test_a_destroy_plan_lists_everything(project, capsys):
    project.apply(capsys)
    assert project.run("plan", "--destroy") == 0
    assert (
        capsys.readouterr().out.splitlines()[-1]
        == "Plan: 0 to create, 0 to change, 0 to replace, 3 to destroy."
    )


def test_a_changed_field_is_shown_with_its_line(project, capsys):
    project.apply(capsys)
    project.edit("LEVEL: info", "LEVEL: debug")
    project.run("plan")
    out = capsys.readouterr().out
    line = 1 + (project.path / "sandboxes.yaml").read_text().splitlines().index("      LEVEL: debug")
    assert '"info" → "debug"' in out
    assert f"sandboxes.yaml:{line}" in out


def test_what_something_else_changed_is_shown_apart(project, capsys):
    project.apply(capsys)
    (victim,) = [name for name in project.live() if "db" in name]
    project.backend().alter(victim, "image", "mysql:8")
    project.run("plan")
    out = capsys.readouterr().out
    assert "Changed outside, since the last apply:" in out
    assert '"mysql:8" live, declared "postgres:16"' in out


def test_a_plan_through_a_pipe_imports_neither_rich_nor_httpx(project, capsys):
    project.apply(capsys)
    code = (
        "import sys\nfrom reconciler.cli.main import run\n"
        f"code = run(['-C', {str(project.path)!r}, 'plan'])\n"
        "sys.stderr.write(' '.join(m for m in ('rich', 'httpx', 'docker') if m in sys.modules))\n"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0
    assert done.stdout.startswith("No changes.")
    assert done.stderr == ""


# --- apply and destroy -----------------------------------------------------------------------------------------


def test_an_apply_makes_the_fleet_and_says_so(project, capsys):
    assert project.run("apply", "--auto-approve") == 0
    captured = capsys.readouterr()
    assert "Apply complete: 3 created in" in captured.out
    assert "Outputs:\n  url  " in captured.out
    assert "researcher[1]: created after" in captured.err
    assert len(project.live()) == 3


def test_a_second_apply_has_nothing_to_do(project, capsys):
    project.apply(capsys)
    assert project.run("apply", "--auto-approve") == 0
    assert capsys.readouterr().out.startswith(
        "No changes. All 3 sandboxes of stack research are as declared.\n"
    )


@pytest.mark.parametrize("args", [["apply"], ["destroy"], ["apply", "--json"]])
def test_where_nobody_can_answer_nothing_is_done_without_auto_approve(project, args, capsys):
    assert project.run(*args) == 1
    captured = capsys.readouterr()
    assert f"reconciler {args[0]} --auto-approve" in captured.out + captured.err
    assert not (project.path / "state").exists()
    assert project.live() == []


def test_an_apply_for_programs_is_valid_events_and_nothing_else(project, capsys, event_schema):
    assert project.run("apply", "--auto-approve", "--json") == 0
    captured = capsys.readouterr()
    found = events(captured.out, event_schema)
    kinds = [data["type"] for data in found]
    assert kinds.count("apply_complete") == 3
    assert found[-2]["results"]["done"] == 3
    assert list(found[-1]["outputs"]) == ["url"]
    assert captured.err == ""


def test_a_destroy_takes_down_everything(project, capsys):
    project.apply(capsys)
    assert project.run("destroy", "--auto-approve") == 0
    assert "3 destroyed" in capsys.readouterr().out
    assert project.live() == []


def test_quiet_leaves_out_progress_and_keeps_the_answer(project, capsys):
    assert project.run("-q", "apply", "--auto-approve") == 0
    captured = capsys.readouterr()
    assert "Apply complete" in captured.out
    assert captured.err == ""


def test_a_sandbox_that_never_answers_is_an_incomplete_apply_with_its_log(project, capsys):
    project.edit(f"path: {project.world}", f"path: {project.world}, ready_seconds: 3600")
    project.edit("  backend: local\n", "  backend: local\n  readiness: {http: /, timeout: 200ms}\n")
    assert project.run("apply", "--auto-approve") == 5
    captured = capsys.readouterr()
    assert "db: create failed" in captured.err
    assert "researcher[0]: skipped" in captured.err
    assert "Apply incomplete: 1 failed, 2 skipped" in captured.out
    assert "last lines of its log:" in captured.out


def test_a_held_lock_is_4_and_names_the_holder(project, capsys, monkeypatch):
    from reconciler.model.desired import StoreConfig
    from reconciler.stores.registry import open_store

    store = open_store(StoreConfig(options={"path": "state"}), stack="research", directory=project.path)
    with store.lock("apply") as lease:
        assert project.run("lock", "show", "--json") == 0
        assert json.loads(capsys.readouterr().out)["lock"]["id"] == lease.info.id
        assert project.run("lock", "show") == 0
        assert lease.info.id in capsys.readouterr().out
        code = (
            f"import sys\nfrom reconciler.cli.main import run\nsys.exit(run(['-C', {str(project.path)!r}, 'apply', "
            "'--auto-approve']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 4, done.stderr
        assert str(os.getpid()) in done.stderr
        assert project.run("force-unlock", "wrong-id") == 1
        assert project.run("force-unlock", lease.info.id) == 0
        assert "is broken" in capsys.readouterr().out


# --- validate, fmt, init, schema -------------------------------------------------------------------------------


def test_a_valid_configuration_is_said_to_be_valid(project, capsys):
    assert project.run("validate") == 0
    assert capsys.readouterr().out == "The configuration is valid: stack research, 3 sandboxes.\n"


def test_an_invalid_configuration_is_3_with_line_column_and_caret(project, capsys):
    project.edit("image: aio:1", "imag: aio:1")
    assert project.run("validate") == 3
    err = capsys.readouterr().err
    assert "sandboxes.yaml:" in err
    assert "^^^^" in err
    assert "image" in err
    assert "Traceback" not in err


def test_an_invalid_configuration_for_programs_is_a_diagnostic_event(project, capsys, event_schema):
    project.edit("image: aio:1", "imag: aio:1")
    assert project.run("validate", "--json") == 3
    found = events(capsys.readouterr().out, event_schema)
    assert [data["type"] for data in found] == ["version", "diagnostic"]
    assert found[1]["position"]["line"] > 1


def test_a_valid_configuration_for_programs_is_a_stream_without_errors(project, capsys, event_schema):
    assert project.run("validate", "--json") == 0
    assert [data["type"] for data in events(capsys.readouterr().out, event_schema)] == ["version"]


def test_without_any_file_the_next_step_is_init(tmp_path, capsys):
    assert run(["-C", str(tmp_path), "plan"]) == 3
    assert "reconciler init" in capsys.readouterr().err


def test_variables_come_from_either_side_of_the_command(project, capsys):
    project.edit(
        "stack: research", "stack: research\nvariables:\n  image: {type: string}\n  level: {type: string}"
    )
    project.edit("image: aio:1", "image: ${var.image}")
    project.edit("LEVEL: info", "LEVEL: ${var.level}")
    assert project.run("plan") == 3
    capsys.readouterr()
    assert project.run("--var", "image=aio:9", "plan", "--var", "level=debug") == 0
    out = capsys.readouterr().out
    assert '"aio:9"' in out
    assert '"debug"' in out


def test_fmt_writes_the_canonical_layout_once(project, capsys):
    text = (project.path / "sandboxes.yaml").read_text()
    (project.path / "sandboxes.yaml").write_text(
        text.replace("stack: research", "stack:    research   # mine")
    )
    assert project.run("fmt", "--check") == 1
    assert "stack:    research" in (project.path / "sandboxes.yaml").read_text()
    assert project.run("fmt", "--diff") == 0
    assert "-stack:    research   # mine" in capsys.readouterr().out
    assert "# mine" in (project.path / "sandboxes.yaml").read_text()
    assert project.run("fmt", "--check") == 0


def test_init_writes_a_configuration_that_is_valid_as_it_stands(tmp_path, capsys):
    assert run(["-C", str(tmp_path), "init", "My Agents!"]) == 0
    captured = capsys.readouterr()
    assert "wrote My Agents!/sandboxes.yaml" in captured.out
    assert "reconciler -C" in captured.err
    target = tmp_path / "My Agents!"
    assert run(["-C", str(target), "validate"]) == 0
    assert "stack my-agents, 2 sandboxes" in capsys.readouterr().out
    header = (target / "sandboxes.yaml").read_text().splitlines()[0]
    assert (target / header.rpartition("$schema=")[2]).read_text() == schema_text("config").rstrip(
        "\n"
    ) + "\n"
    assert "state/" in (target / ".gitignore").read_text().splitlines()
    assert run(["-C", str(target), "fmt", "--check"]) == 0


def test_what_init_says_to_run_next_can_be_pasted(tmp_path, capsys):
    assert run(["-C", str(tmp_path), "init", "My Agents!"]) == 0
    assert "`reconciler -C 'My Agents!' plan`" in capsys.readouterr().err


def test_who_asks_for_podman_is_sent_to_the_backend_that_speaks_to_it(tmp_path, capsys):
    assert run(["-C", str(tmp_path), "init", "--backend", "podman"]) == 64
    assert "--backend docker" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["process", "memory", "docker", "apple", "url"])
def test_init_writes_a_valid_configuration_for_each_backend(backend, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")  # and asks none
    monkeypatch.setenv("API_TOKEN", "token-of-the-tests")
    assert run(["-C", str(tmp_path), "init", "--backend", backend]) == 0
    assert run(["-C", str(tmp_path), "validate"]) == 0
    assert run(["-C", str(tmp_path), "fmt", "--check"]) == 0
    assert capsys.readouterr().err.count("error") == 0


def test_each_hint_of_a_starter_for_containers_can_be_switched_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "token-of-the-tests")
    text = starter("s", "docker")
    hints = [line for line in text.splitlines() if line.startswith("    # ") and "depends_on" not in line]
    assert [line.split()[1] for line in hints] == [
        "secrets:", "resources:", "ports:", "mounts:", "security:", "network:", "restart:",
    ]  # fmt: skip
    for line in hints:
        on = text.replace(line, line.replace("    # ", "    ", 1))
        (tmp_path / "sandboxes.yaml").write_text(on)
        assert run(["-C", str(tmp_path), "validate"]) == 0, capsys.readouterr().err


def test_what_a_backend_cannot_hold_is_shown_with_its_line_and_reason(project, capsys, event_schema):
    refusing = "backends:\n  other: {type: process}\n"
    project.edit("backends:\n", refusing)
    project.edit("sandboxes:\n", "sandboxes:\n  box: {backend: other, restart: always}\n")
    assert project.run("plan") == 3
    err = capsys.readouterr().err
    assert "cannot hold `restart: always` of box: nothing starts a process again" in err
    line = next(line for line in err.splitlines() if "|   box: {backend: other, restart: always}" in line)
    caret = err.splitlines()[err.splitlines().index(line) + 1]
    assert caret.index("^^^^^^") == line.index("always")
    assert project.run("validate", "--json") == 3
    found = [
        data for data in events(capsys.readouterr().out, event_schema) if data.get("code") == "unsupported"
    ]
    assert [(data["snippet"], data["width"]) for data in found] == [
        ("  box: {backend: other, restart: always}", len("always"))
    ]


def test_an_option_that_a_backend_does_not_know_is_shown_with_its_line(project, capsys):
    project.edit(f"path: {project.world}", f"path: {project.world}, pth: x")
    assert project.run("plan") == 3
    shown = capsys.readouterr().err.splitlines()
    assert "has no option 'pth'" in shown[0]
    assert "--> sandboxes.yaml:4:3" in shown[1]
    assert shown[3].startswith("4 |   local: {type: ")
    assert shown[4].endswith("|   ^")


def test_init_overwrites_nothing(project, capsys):
    before = (project.path / "sandboxes.yaml").read_bytes()
    assert project.run("init") == 1
    assert "nothing was written" in capsys.readouterr().err
    assert (project.path / "sandboxes.yaml").read_bytes() == before
    assert not (project.path / ".gitignore").exists()


def test_init_adds_to_a_gitignore_that_is_there_and_only_once(tmp_path, capsys):
    (tmp_path / ".gitignore").write_text("*.pyc")
    assert run(["-C", str(tmp_path), "init"]) == 0
    lines = (tmp_path / ".gitignore").read_text().splitlines()
    assert lines[0] == "*.pyc"
    assert lines.count("state/") == 1


def test_init_names_the_backends_it_knows(tmp_path, capsys):
    assert run(["-C", str(tmp_path), "init", "--backend", "proces"]) == 64
    assert "did you mean process" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_schema_is_printed_as_it_is_shipped(capsys):
    assert run(["schema", "config"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(schema_text("config"))


def test_an_unknown_schema_names_the_known(capsys):
    assert run(["schema", "confg"]) == 64
    assert "did you mean config" in capsys.readouterr().err


# --- looks -----------------------------------------------------------------------------------------------------


def test_the_status_of_a_fleet_is_a_table(project, capsys):
    project.apply(capsys)
    assert project.run("status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"ADDRESS", "PHASE", "READY", "URL"} <= set(lines[0].split())  # more, where there is room
    assert [line.split()[0] for line in lines[1:4]] == ["db", "researcher[0]", "researcher[1]"]
    assert lines[-1] == "3 sandboxes: 3 ready."


def test_the_status_of_one_sandbox_for_programs_is_one_object(project, capsys):
    project.apply(capsys)
    assert project.run("status", "researcher*", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert [one["address"] for one in json.loads(line)["sandboxes"]] == ["researcher[0]", "researcher[1]"]


@pytest.mark.slow
def test_a_watched_status_is_printed_again_and_again_until_ctrl_c(project, capsys):
    project.apply(capsys)
    with subprocess.Popen(
        [sys.executable, "-m", "reconciler", "-C", str(project.path), "status", "--watch", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - a job of the background ignores it
    ) as child:
        assert child.stdout is not None
        looks = [json.loads(child.stdout.readline()) for _ in range(2)]
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=30)
    assert [len(look["sandboxes"]) for look in looks] == [3, 3]
    assert child.returncode == 130


def test_a_pattern_that_matches_nothing_is_an_error_with_what_there_is(project, capsys):
    assert project.run("status", "nobody*") == 1
    assert "researcher[0]" in capsys.readouterr().err


def test_an_output_is_bare_by_name_and_a_table_without(project, capsys):
    project.apply(capsys)
    assert project.run("output", "url") == 0
    bare = capsys.readouterr().out
    assert project.run("output") == 0
    assert capsys.readouterr().out == f"Outputs:\n  url  {bare}"
    assert project.run("output", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"url": {"value": bare.strip(), "sensitive": False}}
    assert project.run("output", "ur") == 1
    assert "did you mean url" in capsys.readouterr().err


def test_the_state_is_listed_and_shown(project, capsys):
    assert project.run("state", "list") == 0
    assert capsys.readouterr().out == ""
    project.apply(capsys)
    assert project.run("state", "list") == 0
    assert capsys.readouterr().out.split() == ["db", "researcher[0]", "researcher[1]"]
    assert project.run("state", "show", "db") == 0
    assert '"postgres:16"' in capsys.readouterr().out
    assert project.run("show") == 0
    assert "3 sandboxes recorded." in capsys.readouterr().out
    assert project.run("show", "db", "--json") == 0
    assert json.loads(capsys.readouterr().out)["spec"]["image"] == "postgres:16"
    assert project.run("state", "show", "bd") == 1
    assert "did you mean db" in capsys.readouterr().err
    assert project.run("show", "x.plan") == 1
    assert "there is no record or plan file 'x.plan'" in capsys.readouterr().err


def test_why_tells_the_story_of_one_sandbox(project, capsys):
    assert project.run("why", "db") == 0
    out = capsys.readouterr().out
    assert "declared" in out
    assert "+ create: declared, not there yet" in out


def test_why_follows_a_field_from_its_line_to_what_is_done(project, capsys):
    """Over the template that says it, what was applied and what lives, to the action and the rule behind it."""
    text = """version: 1
stack: story
backends: {main: {type: memory, world: why-story}}
templates:
  app:
    image: app:%s
    labels: {team: one}
sandboxes:
  a: {template: app}
"""
    (project.path / "sandboxes.yaml").write_text(text % "1")
    assert project.run("apply", "--auto-approve") == 0
    (project.path / "sandboxes.yaml").write_text(text % "2")
    capsys.readouterr()
    assert project.run("why", "a") == 0
    out = capsys.readouterr().out
    assert "image = app:2  (sandboxes.yaml:6, in template app)" in out
    action = out[out.index("-/+ replace: the configuration changed") :]
    assert [line.strip() for line in action.splitlines()[1:7]] == [
        "because the backend fixes this field at creation",
        "image: app:1 → app:2",
        "declared: app:2  (sandboxes.yaml:6, in template app)",
        "applied:  app:1",
        "live:     app:1",
        "so:       fixed at creation, so it forces replacement",
    ]


def test_the_log_is_printed_as_far_as_asked(project, capsys):
    project.apply(capsys)
    assert project.run("logs", "db") == 0
    everything = capsys.readouterr().out.splitlines()
    assert everything[0].startswith("created ")
    assert project.run("logs", "db", "--tail", "0") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "code", "out"),
    [(["echo", "-n", "--json", "hi"], 0, "-n --json hi\n"), (["false"], 1, ""), (["true"], 0, "")],
    ids=["arguments that look like options", "a failure", "a success"],
)
def test_a_command_runs_inside_and_its_exit_code_is_ours(project, words, code, out, capsys):
    project.apply(capsys)
    assert project.run("exec", "db", "--", *words) == code
    assert capsys.readouterr().out == out


def test_a_command_in_a_sandbox_that_is_not_there_is_an_error(project, capsys):
    assert project.run("exec", "db", "--", "true") == 1
    assert "`reconciler apply` creates it" in capsys.readouterr().err


def test_the_doctor_checks_configuration_store_and_backends(project, capsys):
    assert project.run("doctor") == 0
    out = capsys.readouterr().out
    assert "backend local (reconciler.backends.memory:MemoryBackend)" in out
    assert out.endswith("All is well.\n")


def test_the_doctor_says_what_is_broken_and_ends_with_1(project, capsys):
    project.world.parent.mkdir()
    project.world.write_text("not json\n")
    assert project.run("doctor", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert [check["check"] for check in found["checks"] if not check["ok"]] == ["world"]


def test_the_doctor_says_how_to_mend_a_store_apart_from_what_is_wrong(project, capsys):
    project.apply(capsys)
    [snapshot] = project.path.rglob("research.json")
    snapshot.write_text("not json\n")
    assert project.run("doctor", "--json") == 1
    [bad] = [c for c in json.loads(capsys.readouterr().out)["checks"] if c["check"] == "state is readable"]
    assert not bad["ok"]
    assert bad["fix"]
    assert bad["fix"] not in bad["detail"]


def test_the_doctor_goes_on_where_a_backend_cannot_be_opened_or_checked(project, capsys):
    project.edit(
        "defaults:\n",
        '  missing: {type: "no_such_package.backends:Own"}\n'
        '  rude: {type: "test_cli_commands:Rude"}\n'
        "defaults:\n",
    )
    assert project.run("doctor", "--json") == 1
    checks = {
        check["subject"].split()[1]: check for check in json.loads(capsys.readouterr().out)["checks"][1:]
    }
    assert checks["local"]["ok"]
    assert "No module named 'no_such_package'" in checks["missing"]["detail"]
    assert (
        checks["missing"]["fix"]
        == "install the package with no_such_package.backends, or put it on PYTHONPATH"
    )
    assert "ZeroDivisionError" in checks["rude"]["detail"]
    assert project.run("doctor") == 1
    assert "→ install the package with no_such_package.backends" in capsys.readouterr().out


class Rude(MemoryBackend):
    """Breaks the promise that a check raises nothing."""

    def __init__(self) -> None:
        super().__init__("rude")

    def check(self):
        raise ZeroDivisionError("oops")


def test_what_to_do_about_a_check_stands_on_a_line_of_its_own(project, capsys):
    project.edit("defaults:\n", '  lame: {type: "test_cli_commands:Lame"}\ndefaults:\n')
    assert project.run("doctor") == 1
    assert "  FIX engine: it is off\n      → switch it on\n" in capsys.readouterr().out


class Lame(MemoryBackend):
    """A backend that knows what to do."""

    def __init__(self) -> None:
        super().__init__("lame")

    def check(self):
        return (("engine", False, "it is off\nswitch it on"),)


# --- secrets ---------------------------------------------------------------------------------------------------


def test_a_secret_is_in_nothing_that_is_printed_or_written(project, capsys, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "hunter2-hunter2")
    project.edit(
        "    image: postgres:16\n", "    image: postgres:16\n    secrets: {TOKEN: {env: API_TOKEN}}\n"
    )
    commands = [["plan"], ["plan", "--json"], ["plan", "--format", "markdown"], ["apply", "--auto-approve"]]
    commands += [["status"], ["show", "db"], ["state", "show", "db", "--json"], ["why", "db"], ["output"]]
    for args in commands:
        assert project.run(*args) == 0, args
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err
    files = [path for path in (project.path / "state").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


def test_a_status_needs_no_secret(project, capsys, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "hunter2-hunter2")
    project.edit(
        "    image: postgres:16\n", "    image: postgres:16\n    secrets: {TOKEN: {env: API_TOKEN}}\n"
    )
    project.apply(capsys)
    monkeypatch.delenv("API_TOKEN")
    assert project.run("plan") == 3
    capsys.readouterr()
    assert project.run("status", "--json") == 0
    found = json.loads(capsys.readouterr().out)["sandboxes"]
    assert [(one["drift"], one["detail"]) for one in found if one["address"] == "db"] == [([], "")]


def test_a_status_without_secrets_still_sees_what_else_was_changed(project, capsys, monkeypatch):
    monkeypatch.setenv("API_TOKEN", "hunter2-hunter2")
    project.edit(
        "    image: postgres:16\n", "    image: postgres:16\n    secrets: {TOKEN: {env: API_TOKEN}}\n"
    )
    project.apply(capsys)
    monkeypatch.delenv("API_TOKEN")
    project.edit("{TOKEN: {env: API_TOKEN}}", "{TOKEN: {env: API_TOKEN}, NEW: {env: NEW}}")
    project.backend().alter(project.live()[0], "image", "postgres:17")
    assert project.run("status", "db", "--json") == 0
    (db,) = json.loads(capsys.readouterr().out)["sandboxes"]
    assert [change["path"] for change in db["drift"]] == ["image"]
    assert db["detail"] == "the configuration changed"


# --- what is said where ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["apply", "destroy"])
def test_what_is_wrong_with_the_configuration_comes_before_who_is_there(tmp_path, capsys, verb):
    assert run(["-C", str(tmp_path), verb]) == 3
    told = capsys.readouterr().err
    assert "there is no sandboxes.yaml" in told
    assert "nobody is here" not in told


@pytest.mark.parametrize(
    ("args", "times"),
    [
        (["validate"], 1),
        (["plan"], 1),
        (["apply", "--auto-approve"], 1),
        (["status"], 0),
        (["show"], 0),
        (["output"], 0),
        (["state", "list"], 0),
        (["doctor"], 0),
        (["destroy", "--auto-approve"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_warning_about_the_configuration_is_said_once_and_only_where_it_is_judged(
    project, capsys, args, times
):
    project.edit("    image: postgres:16\n", "    image: postgres:16\n    secrets: {T: {value: hunter2}}\n")
    assert project.run(*args) == 0
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("written in the file in clear") == times


def test_a_destroy_ends_as_a_destroy(project, capsys):
    project.apply(capsys)
    assert project.run("destroy", "--auto-approve") == 0
    assert "Destroy complete: 3 destroyed in" in capsys.readouterr().out


def test_progress_of_a_backend_is_in_the_events(project, capsys, event_schema):
    project.edit(f"path: {project.world}", f"path: {project.world}, create_seconds: 0.3, progress: [pulling]")
    assert project.run("apply", "--auto-approve", "--json") == 0
    told = [
        data for data in events(capsys.readouterr().out, event_schema) if data["type"] == "apply_progress"
    ]
    assert [(data["activity"], data["note"]) for data in told if data["address"] == "db"][:2] == [
        ("creating", ""),
        ("creating", "pulling"),
    ]
