"""The command line on the apple backend: everything declared holds, is read back, and a second plan is empty."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.fake_container import NEW, OLD, Engine
from tests.support.cli import Folder, folder

FULL = """version: 1
stack: mac
backends:
  local: {{type: apple, binary: {binary}, bind: 127.0.0.1, timeout: 60s}}
defaults: {{backend: local}}
sandboxes:
  full:
    replicas: 2
    image: aio:1
    entrypoint: [/bin/entry, -x]
    command: [serve]
    environment: {{LEVEL: info, INDEX: "${{replica.index}}"}}
    secrets: {{TOKEN: {{value: canary-token}}, KEY: {{value: canary-key, as: environment}}}}
    ports: [{{name: http, container: 8080}}, {{name: web, container: 9000}}]
    mounts:
      - {{source: ./work, target: /mnt/work}}
      - {{source: ./key.txt, target: /mnt/key.txt, read_only: true}}
      - {{type: volume, source: data, target: /mnt/data}}
      - {{type: tmpfs, target: /mnt/tmp, size: 64Mi}}
    resources: {{cpu: 2, memory: 512Mi, pids: 100}}
    network: {{name: agents}}
    security: {{read_only_root: true, cap_drop: [NET_RAW], cap_add: [cap_sys_time], init: false, user: "1000"}}
    runtime: other
    restart: "no"
    thread_id: t-1
    labels: {{team: search}}
  bare: {{image: aio:1}}
"""


@pytest.fixture(params=[NEW, OLD])
def engine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Engine]:
    made = Engine(tmp_path / "engine", request.param)
    yield made
    made.close()


@pytest.fixture
def here(engine: Engine, tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "stack" / "work").mkdir(parents=True)
    (tmp_path / "stack" / "key.txt").write_text("key")
    with folder(tmp_path / "stack") as made:
        made.write(FULL.format(binary=engine.binary))
        yield made


def names(engine: Engine) -> list[str]:
    return sorted(call[call.index("--name") + 1] for call in engine.calls() if call[0] == "run")


def test_every_field_is_held_and_the_second_plan_is_one_call(here: Folder, engine: Engine) -> None:
    said = here("plan")
    assert "resources.pids" in said.stdout + said.stderr
    assert "run" not in {call[0] for call in engine.calls()}
    here("apply", "--auto-approve")
    rows = json.loads(here("status", "--json").stdout)["sandboxes"]
    assert [(row["address"], row["ready"]) for row in rows] == [
        ("bare", True),
        ("full[0]", True),
        ("full[1]", True),
    ]
    engine.forget_calls()
    here("plan", "--detailed-exitcode", code=0)
    assert engine.calls() == [["ls", "-a", "--format", "json"]]


def test_what_died_or_went_is_put_back_and_nothing_else_is_touched(here: Folder, engine: Engine) -> None:
    engine.add("reconciler-stranger")
    here("apply", "--auto-approve")
    dead, gone, _ = names(engine)[:3]
    engine.kill(dead)
    engine.kill(gone)
    assert "stopped" in here("plan", "--detailed-exitcode", code=2).stdout
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    here("destroy", "--auto-approve")
    assert [name for name in {*names(engine), "reconciler-stranger"} if engine.container(name)] == [
        "reconciler-stranger"
    ]
    assert not list(here.path.glob("xdg/reconciler/apple/**/TOKEN"))


def test_no_secret_is_in_an_argument_or_in_the_state(here: Folder, engine: Engine) -> None:
    here("apply", "--auto-approve")
    kept = "".join(file.read_text() for file in (here.path / "state").rglob("*") if file.is_file())
    assert "canary" not in kept + json.dumps(engine.calls())
    [file, *_] = here.path.glob("xdg/reconciler/apple/secrets/*/*/files/TOKEN")
    assert file.read_text() == "canary-token"


def test_a_changed_image_replaces(here: Folder, engine: Engine) -> None:
    here("apply", "--auto-approve")
    here.write(FULL.format(binary=engine.binary).replace("bare: {image: aio:1}", "bare: {image: aio:2}"))
    assert "-/+" in here("plan").stdout
    engine.forget_calls()
    here("apply", "--auto-approve")
    assert len(names(engine)) == 1
    here("plan", "--detailed-exitcode", code=0)
    [url] = [row["url"] for row in json.loads(here("status", "bare", "--json").stdout)["sandboxes"]]
    with urllib.request.urlopen(f"{url}/v1/sandbox", timeout=10) as answer:
        assert answer.status == 200


def test_what_it_cannot_hold_is_an_error_with_its_place_and_reason(here: Folder, engine: Engine) -> None:
    here.write(
        FULL.format(binary=engine.binary).replace(
            "bare: {image: aio:1}", "bare: {image: aio:1, security: {seccomp: default}}"
        )
    )
    said = here("validate", code=3)
    line = (
        (here.path / "sandboxes.yaml")
        .read_text()
        .split("\n")
        .index("  bare: {image: aio:1, security: {seccomp: default}}")
    )
    told = said.stdout + said.stderr
    assert f"sandboxes.yaml:{line + 1}" in told
    assert "security.seccomp" in told
    assert "no seccomp profiles" in told
    assert engine.calls() == []
