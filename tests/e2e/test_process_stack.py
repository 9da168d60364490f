"""The main job from a folder, through the command line, on real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cli import Folder, folder, lines

THREE = """version: 1
stack: e2e
sandboxes:
  worker:
    replicas: 3
    environment: {LOG_LEVEL: info, INDEX: "${replica.index}"}
outputs:
  first: "${sandbox.worker[0].url}"
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    with folder(tmp_path) as made:
        yield made


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def test_the_main_job(here: Folder) -> None:
    here("init", ".")
    here("validate")
    here.write(THREE)
    assert "3 to create" in here("plan").stdout
    here("plan", "--detailed-exitcode", code=2)
    assert here.sandboxes() == []
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    first = here("output", "first").stdout.strip()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{first}/v1/sandbox", timeout=10)
    assert here("exec", "worker[1]", "--", "sh", "-c", "echo $INDEX-$LOG_LEVEL").stdout == "1-info\n"
    here("exec", "worker[1]", "--", "sh", "-c", "exit 7", code=7)
    assert "--timeout 5m" in here("exec", "--timeout", "0.2s", "worker[1]", "--", "sleep", "9", code=1).stderr
    rows = json.loads(here("status", "--json").stdout)["sandboxes"]
    assert [(row["address"], row["ready"]) for row in rows] == [(f"worker[{i}]", True) for i in range(3)]

    before = here.sandboxes()
    here.write(THREE.replace("LOG_LEVEL: info", "LOG_LEVEL: debug").replace("replicas: 3", "replicas: 2"))
    plan = here("plan").stdout
    assert "sandboxes.yaml:6" in plan
    assert "2 to replace, 1 to destroy" in plan
    here("apply", "--auto-approve")
    assert len(here.sandboxes()) == 2
    assert not set(before) & set(here.sandboxes())

    here.kill(here.sandboxes()[0])
    until(lambda: here("plan", "--detailed-exitcode", code=None).returncode == 2)
    assert "worker[0]" in here("plan").stdout
    here("apply", "--auto-approve")
    again = here("apply", "--auto-approve")
    assert "No changes" in again.stdout

    here("destroy", "--auto-approve")
    assert here.sandboxes() == []
    assert here.processes() == []
    assert here.state()["sandboxes"] == {}


def killed_in_the_middle(here: Folder) -> list[str]:
    """What an apply said that was killed while a new sandbox with all the secrets was awaited."""
    text = (here.path / "sandboxes.yaml").read_text()
    secrets = text[text.index("    secrets:") : text.index("outputs:")]
    noisy = "  b:\n    readiness: {http: /nowhere, timeout: 100s}\n" + secrets
    here.write(text.replace("outputs:", noisy + "outputs:"))
    run = here.start("apply", "--auto-approve", "-v")
    until(lambda: len(here.sandboxes()) == 2)
    time.sleep(0.3)
    os.killpg(run.pid, signal.SIGKILL)
    said = run.communicate(timeout=30)
    here.write(text)
    return list(said)


def test_secrets_appear_nowhere(here: Folder) -> None:
    """Every way to give a secret, a full tour, then a search through everything that was written or can be seen."""
    canaries = {
        kind: f"CANARY-{kind}-{os.urandom(6).hex()}"
        for kind in ("env", "file", "command", "value", "asenv", "output", "default")
    }
    (here.path / "token").write_text(canaries["file"] + "\n")
    (here.path / "say").write_text(f"#!/bin/sh\nhead -1 {here.path}/spoken\n")
    (here.path / "say").chmod(0o700)
    (here.path / "spoken").write_text(canaries["command"] + "\n")
    here.write(f"""version: 1
stack: canary
variables:
  token: {{type: string, sensitive: true}}
  fixed: {{type: string, sensitive: true, default: "{canaries["default"]}"}}
sandboxes:
  a:
    secrets:
      FROM_ENV: {{env: MY_TOKEN}}
      FROM_FILE: {{file: token}}
      FROM_COMMAND: {{command: ["{here.path}/say"]}}
      FROM_VALUE: {{value: "${{var.token}}"}}
      FROM_DEFAULT: {{value: "${{var.fixed}}"}}
      AS_ENV: {{env: OTHER_TOKEN, as: environment}}
outputs:
  hidden: {{value: "{canaries["output"]}", sensitive: true}}
""")
    here.environ |= {
        "MY_TOKEN": canaries["env"],
        "OTHER_TOKEN": canaries["asenv"],
        "RECONCILER_VAR_token": canaries["value"],
    }
    said = [
        here("plan").stdout,
        here("plan", "--json").stdout,
        here("plan", "--format", "markdown").stdout,
        here("plan", "-o", "first.plan").stdout,
        here("show", "first.plan").stdout,
        *(getattr(here("apply", "--auto-approve", "-v"), stream) for stream in ("stdout", "stderr")),
    ]
    for name, kind in (
        ("FROM_ENV", "env"),
        ("FROM_FILE", "file"),
        ("FROM_COMMAND", "command"),
        ("FROM_VALUE", "value"),
        ("FROM_DEFAULT", "default"),
    ):
        shown = here("exec", "a", "--", "sh", "-c", f'cat "${name}_FILE"').stdout
        assert shown.strip() == canaries[kind], f"{name} did not arrive"
    assert here("exec", "a", "--", "sh", "-c", 'echo "$AS_ENV"').stdout.strip() == canaries["asenv"]
    here.environ["MY_TOKEN"] = canaries["env"] + "-rotated"
    changed = here("plan")
    assert "FROM_ENV" in changed.stdout
    here("plan", "-o", "second.plan")
    here("plan", "-o", "destroy.plan", "--destroy")
    said += [
        changed.stdout,
        here("show", "second.plan").stdout,
        here("apply", "second.plan", "--json").stdout,
    ]
    assert here("output", "hidden").stdout.strip() == canaries["output"], "asked for by name, it is told"
    said += [
        here(*command).stdout
        for command in (
            ["show"],
            ["why", "a"],
            ["logs", "a"],
            ["status"],
            ["status", "--json"],
            ["output"],
            ["output", "--json"],
            ["state", "show", "a"],
            ["state", "pull"],
            ["state", "history", "--json"],
            ["graph"],
            ["doctor"],
        )
    ]
    said += killed_in_the_middle(here)
    for text in said:
        assert not any(canary in text for canary in canaries.values())
    written = [
        file for folder_ in ("state", "xdg") for file in (here.path / folder_).rglob("*") if file.is_file()
    ]
    names = {file.name for file in written}
    assert {"canary.json", "canary.json.backup", "canary.journal.jsonl", "canary.key", "1.json"} <= names
    written += (kept := sorted(here.path.glob("*.plan")))
    assert len(kept) == 3
    for file in written:
        text = file.read_bytes()
        assert not any(canary.encode() in text for canary in canaries.values()), file
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                argv = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            assert not any(canary.encode() in argv for canary in canaries.values()), argv
    here.environ["OTHER_TOKEN"] = ""
    failed = here("plan", code=3)
    assert "OTHER_TOKEN" in failed.stderr


def test_kill_9_at_any_moment_then_apply_converges(here: Folder) -> None:
    here.write(THREE.replace("replicas: 3", "replicas: 4"))
    for round_ in range(6):
        run = here.start("apply", "--auto-approve")
        time.sleep(0.25 + 0.15 * round_)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate(timeout=30)
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    assert len(here.sandboxes()) == 4
    assert len(here.state()["sandboxes"]) == 4
    here("destroy", "--auto-approve")
    assert here.processes() == []


def test_ctrl_c_drains_saves_and_says_what_is_unfinished(here: Folder) -> None:
    """A readiness that never comes keeps the run going until it is interrupted."""
    here.write(
        THREE.replace("replicas: 3\n", "replicas: 3\n    readiness: {http: /nowhere, timeout: 100s}\n")
    )
    run = here.start("apply", "--auto-approve")
    until(lambda: len(here.sandboxes()) == 3)
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "interrupted" in (out + err).lower()
    assert "Traceback" not in err
    assert len(here.state()["sandboxes"]) == 3
    here.write(THREE)
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)


def test_a_second_ctrl_c_leaves_at_once_and_the_next_run_converges(here: Folder) -> None:
    here.write(
        THREE.replace("replicas: 3\n", "replicas: 3\n    readiness: {http: /nowhere, timeout: 100s}\n")
    )
    run = here.start("apply", "--auto-approve")
    until(lambda: len(here.sandboxes()) == 3)
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=30)
    assert run.returncode == 130
    here.write(THREE)
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    assert len(here.sandboxes()) == 3


def test_a_saved_plan_is_done_as_far_as_it_still_holds(here: Folder) -> None:
    here.write(THREE)
    here("plan", "-o", "first.plan")
    assert here.sandboxes() == []
    here("apply", "first.plan")
    assert len(here.sandboxes()) == 3
    here.write(THREE.replace("LOG_LEVEL: info", "LOG_LEVEL: debug"))
    made = here("plan", "-o", "p.json").stdout
    assert here("show", "p.json").stdout == made

    before = here.sandboxes()
    [victim] = [name for name in before if name.startswith("worker-1-")]
    here.kill(victim)
    until(lambda: "repair" in here("plan").stdout)
    done = here("apply", "p.json", code=6)
    assert "2 replaced, 1 stale" in done.stdout
    assert "worker[1]: moved since the plan, left alone: it is not running any more" in done.stderr
    assert set(here.sandboxes()) & set(before) == {victim}

    again = here("apply", "p.json", code=6)
    assert "worker[0]: moved since the plan, left alone: it is as planned already" in again.stderr
    assert "0 replaced" not in again.stdout
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)


def test_an_edited_plan_file_does_nothing(here: Folder) -> None:
    here.write(THREE)
    here("apply", "--auto-approve")
    here("plan", "-o", "p.json")
    text = (here.path / "p.json").read_text()
    (here.path / "p.json").write_text(text.replace('"destroy":false', '"destroy":true'))
    assert "was changed after it was made" in here("apply", "p.json", code=1).stderr
    assert len(here.sandboxes()) == 3


class TestExitCodes:
    def test_1_without_a_yes(self, here: Folder) -> None:
        here.write(THREE)
        refused = here("apply", code=1)
        assert "--auto-approve" in refused.stderr
        assert here.sandboxes() == []

    def test_3_for_a_wrong_configuration(self, here: Folder) -> None:
        here.write(THREE.replace("replicas", "replica"))
        told = here("plan", code=3).stderr
        assert "sandboxes.yaml:5:5" in told
        assert "replicas" in told

    def test_4_when_another_holds_the_lock(self, here: Folder) -> None:
        here.write(
            THREE.replace("replicas: 3\n", "replicas: 1\n    readiness: {http: /nowhere, timeout: 60s}\n")
        )
        run = here.start("apply", "--auto-approve")
        until(lambda: here.sandboxes() != [])
        try:
            told = here("apply", "--auto-approve", code=4).stderr
            assert f"pid {run.pid}" in told
            assert str(run.pid) in here("lock", "show").stdout
        finally:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate(timeout=30)
        here.write(THREE)
        after = here("apply", "--auto-approve")
        assert "left by a run that is gone" in after.stderr

    def test_5_when_it_is_incomplete(self, here: Folder) -> None:
        here.write(
            THREE.replace("replicas: 3\n", "replicas: 2\n    readiness: {http: /nowhere, timeout: 0.5s}\n")
        )
        told = here("apply", "--auto-approve", code=5)
        assert "not ready after 0.5s; last answer: HTTP 404" in told.stdout + told.stderr

    def test_64_for_a_wrong_call(self, here: Folder) -> None:
        here("aply", code=64)
        here("plan", "--nonsense", code=64)


def test_json_events_of_an_apply_tell_the_whole_story(here: Folder) -> None:
    here.write(THREE)
    events = lines(here("apply", "--auto-approve", "--json").stdout)
    assert events[0] == {"type": "version", "format": "1.0"}
    kinds = [event["type"] for event in events]
    assert kinds.count("planned_change") == kinds.count("apply_start") == kinds.count("apply_complete") == 3
    assert kinds.count("change_summary") >= 1
    assert kinds[-1] == "outputs"


def test_a_sandbox_whose_backend_left_the_yaml_is_still_destroyed(here: Folder) -> None:
    here.write(THREE.replace("sandboxes:", "backends: {here: {type: process}}\nsandboxes:", 1))
    here("apply", "--auto-approve")
    here.write("version: 1\nstack: e2e\nsandboxes: {other: {}}\n")
    here("apply", "--auto-approve")
    assert [name.partition("-")[0] for name in here.sandboxes()] == ["other"]


def test_an_empty_configuration_destroys_nothing_unless_that_is_asked_for(here: Folder) -> None:
    here.write(THREE)
    here("apply", "--auto-approve")
    here.write("version: 1\nstack: e2e\nsandboxes: {}\n")
    refused = here("apply", "--auto-approve", code=7)
    assert "the configuration declares no sandboxes, and 3 are there" in " ".join(refused.stdout.split())
    assert refused.stderr.strip() == "error: the plan is refused, so nothing was done"
    assert here("plan", code=7).stdout == refused.stdout
    assert len(here.sandboxes()) == 3
    here("destroy", "--auto-approve")
    assert here.sandboxes() == []


def test_a_lost_key_is_an_error_and_replaces_nothing(here: Folder) -> None:
    here.write("version: 1\nstack: e2e\nsandboxes: {a: {secrets: {T: {env: TOKEN}}}}\n")
    here.environ["TOKEN"] = "some-token"
    here("apply", "--auto-approve")
    [key] = (here.path / "state").glob("*.key")
    kept = key.read_bytes()
    key.unlink()
    assert "key of the secrets' digests is gone" in here("plan", code=1).stderr
    assert "RECONCILER_STATE_KEY" in here("apply", "--auto-approve", code=1).stderr
    key.write_bytes(kept)
    here("plan", "--detailed-exitcode", code=0)


def test_destroy_needs_no_secrets(here: Folder) -> None:
    here.write("version: 1\nstack: e2e\nsandboxes: {a: {secrets: {T: {env: TOKEN}}}}\n")
    here("apply", "--auto-approve", environ={"TOKEN": "some-token"})
    here("destroy", "--auto-approve")
    assert here.sandboxes() == []


def test_another_root_is_not_absence(here: Folder) -> None:
    here.write(THREE)
    here("apply", "--auto-approve")
    elsewhere = {"XDG_STATE_HOME": str(here.path / "elsewhere")}
    assert "looks for sandboxes in" in here("plan", code=7, environ=elsewhere).stderr
    here("destroy", "--auto-approve", code=7, environ=elsewhere)
    here("plan", "--detailed-exitcode", code=0)


def test_a_second_checkout_of_a_stack_destroys_nothing_of_the_first(here: Folder) -> None:
    here.write(THREE)
    here("apply", "--auto-approve")
    (here.path / "second").mkdir()
    here.write(THREE.replace("replicas: 3", "replicas: 1"), "second/sandboxes.yaml")
    assert "no state" in here("-C", "second", "apply", "--auto-approve", code=7).stderr
    assert len(here.sandboxes()) == 3


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_streams_are_no_reason_to_fall_over(here: Folder, closed: str) -> None:
    here.write(THREE)
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -m reconciler plan {closed}'],
        cwd=here.path,
        env=here.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_output_is_told(here: Folder) -> None:
    here.write(THREE)
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -m reconciler plan >/dev/full'],
        cwd=here.path,
        env=here.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "internal error" not in done.stderr
    assert "Traceback" not in done.stderr
