"""The life cycle on a real container engine: rollouts, repairs, protection, moves, what is let go, plan files."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Folder, folder
from tests.support.docker import EngineStack, requires_docker

pytestmark = requires_docker

LABEL = "sandbox-reconciler/"


@pytest.fixture
def here(tmp_path: Path, docker_stack: EngineStack) -> Iterator[Folder]:
    with folder(tmp_path) as made:
        yield made


def config(stack: EngineStack, body: str) -> str:
    options = {"type": "docker", "host": stack.host, "image": stack.images.agent, "stop_timeout": "1s"}
    return f"version: 1\nstack: {stack.name}\nbackends: {{local: {json.dumps(options)}}}\n{body}"


def ids(stack: EngineStack) -> dict[str, str]:
    """The container of each address that its label speaks of."""
    return {item["Config"]["Labels"][f"{LABEL}address"]: item["Id"] for item in stack.containers()}


def fleet(stack: EngineStack, version: str, rollout: str, probe: str = "http: /v1/sandbox") -> str:
    return config(
        stack,
        f"""sandboxes:
  s:
    replicas: 4
    environment: {{V: "{version}"}}
    readiness: {{{probe}, timeout: 5s}}
    rollout: {{{rollout}}}
""",
    )


def test_a_rollout_takes_down_no_more_than_it_may(here: Folder, docker_stack: EngineStack) -> None:
    here.write(fleet(docker_stack, "1", "max_unavailable: 1"))
    here("apply", "--auto-approve")
    before = ids(docker_stack)
    here.write(fleet(docker_stack, "2", "max_unavailable: 1, canary: 1, min_healthy: 200ms"))
    told = here("plan").stdout
    assert "Rollout of s: 4 waves, at most 1 of 4 down at a time" in " ".join(told.split())
    run = here.start("apply", "--auto-approve")
    fewest = 4
    while run.poll() is None:
        fewest = min(fewest, _running(docker_stack))
    output = run.communicate()
    assert run.returncode == 0, output
    assert fewest >= 3, "more than one was away at a time"
    assert set(ids(docker_stack).values()).isdisjoint(before.values())
    here("plan", "--detailed-exitcode", code=0)


def _running(stack: EngineStack) -> int:
    """How many run at one moment: one listing."""
    found: list[Any] = stack.client.api.containers(filters={"label": f"{LABEL}stack={stack.name}"})
    return sum(item["State"] == "running" for item in found)


def test_a_bad_rollout_is_taken_back(here: Folder, docker_stack: EngineStack) -> None:
    probe = 'exec: [sh, -c, "test $V != 2"]'
    here.write(fleet(docker_stack, "1", "auto_revert: true", probe))
    here("apply", "--auto-approve")
    before = ids(docker_stack)
    here.write(fleet(docker_stack, "2", "auto_revert: true", probe))
    done = here("apply", "--auto-approve", code=5)
    assert "Taken back to what was healthy:" in done.stdout
    after = ids(docker_stack)
    assert sorted(after) == sorted(before)
    assert {a for a in after if after[a] != before[a]} == {"s[0]"}, "a later wave began"
    versions = [item["Config"]["Env"] for item in docker_stack.containers()]
    assert all("V=1" in environment for environment in versions)
    here.write(fleet(docker_stack, "1", "auto_revert: true", probe))
    here("plan", "--detailed-exitcode", code=0)


def test_what_ended_is_restarted_with_all_it_holds(here: Folder, docker_stack: EngineStack) -> None:
    here.write(config(docker_stack, "sandboxes: {s: {secrets: {T: {env: TOKEN}}}}\n"))
    here.environ["TOKEN"] = "some-token"
    here("apply", "--auto-approve")
    here("exec", "s", "--", "sh", "-c", "echo kept > /kept")
    before = docker_stack.container("s")["Id"]
    docker_stack.client.api.kill(before)
    done = here("apply", "--auto-approve")
    assert "s: restarted: it answers" in done.stdout
    assert docker_stack.container("s")["Id"] == before
    assert here("exec", "s", "--", "sh", "-c", "cat /kept; cat $T_FILE").stdout == "kept\nsome-token"
    here("plan", "--detailed-exitcode", code=0)


def test_protection_outlives_the_declaration_and_the_state(here: Folder, docker_stack: EngineStack) -> None:
    protected = "sandboxes: {db: {lifecycle: {prevent_destroy: %s}}, other: {}}\n"
    here.write(config(docker_stack, protected % "true"))
    here("apply", "--auto-approve")
    assert docker_stack.container("db")["Config"]["Labels"][f"{LABEL}protected"] == "true"
    here.write(config(docker_stack, "sandboxes: {other: {}}\n"))
    refused = here("apply", "--auto-approve", code=7)
    assert "which outlives its declaration" in " ".join(refused.stdout.split())
    (here.path / "state").rename(here.path / "away")
    assert "which outlives its declaration" in " ".join(here("plan", code=7).stdout.split())
    here("apply", "--auto-approve", code=7)
    assert "db" in ids(docker_stack)
    shutil.rmtree(here.path / "state")
    (here.path / "away").rename(here.path / "state")
    here("destroy", "--auto-approve", code=7)
    here.write(config(docker_stack, protected % "false"))
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    here.write(config(docker_stack, "sandboxes: {other: {}}\n"))
    here("apply", "--auto-approve")
    assert sorted(ids(docker_stack)) == ["other"]


def test_what_moves_stays_and_its_old_address_is_free(here: Folder, docker_stack: EngineStack) -> None:
    here.write(config(docker_stack, "sandboxes: {old: {replicas: 2}}\n"))
    here("apply", "--auto-approve")
    before = set(ids(docker_stack).values())
    body = "sandboxes: {new: {replicas: 2}}\nmoved: [{from: old, to: new}]\n"
    here.write(config(docker_stack, body))
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    assert {item["Id"] for item in docker_stack.containers()} == before
    here.write(config(docker_stack, "sandboxes: {new: {replicas: 2}, old: {replicas: 1}}\n"))
    here("apply", "--auto-approve")
    assert before < {item["Id"] for item in docker_stack.containers()}
    assert len(docker_stack.containers()) == 3
    here("plan", "--detailed-exitcode", code=0)
    here("destroy", "--auto-approve")
    assert docker_stack.containers() == []


def test_what_is_let_go_is_never_touched_again(here: Folder, docker_stack: EngineStack) -> None:
    here.write(config(docker_stack, "sandboxes: {legacy: {}, other: {}}\n"))
    here("apply", "--auto-approve")
    legacy = docker_stack.container("legacy")["Id"]
    here.write(config(docker_stack, "sandboxes: {other: {}}\nremoved: [{from: legacy, destroy: false}]\n"))
    here("apply", "--auto-approve")
    here.write(config(docker_stack, "sandboxes: {other: {}}\n"))
    here("plan", "--detailed-exitcode", code=0)
    here.write(config(docker_stack, "sandboxes: {other: {}, legacy: {}}\n"))
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    here("destroy", "--auto-approve")
    assert [item["Id"] for item in docker_stack.containers()] == [legacy]
    assert docker_stack.inspect(legacy)["State"]["Running"]


def test_of_a_saved_plan_what_still_holds_is_done(here: Folder, docker_stack: EngineStack) -> None:
    here.write(config(docker_stack, 'sandboxes: {s: {replicas: 3, environment: {V: "1"}}}\n'))
    here("apply", "--auto-approve")
    here.write(config(docker_stack, 'sandboxes: {s: {replicas: 3, environment: {V: "2"}}}\n'))
    here("plan", "-o", "plan.json")
    docker_stack.client.api.remove_container(docker_stack.container("s[1]")["Id"], force=True)
    done = here("apply", "plan.json", code=6)
    assert "s[1]" in done.stdout
    versions = {a: docker_stack.container(a)["Config"]["Env"] for a in ("s[0]", "s[2]")}
    assert all("V=2" in environment for environment in versions.values())
    assert sorted(ids(docker_stack)) == ["s[0]", "s[2]"]


def test_what_is_too_old_is_replaced(here: Folder, docker_stack: EngineStack) -> None:
    here.write(config(docker_stack, "sandboxes: {s: {lifecycle: {max_lifetime: 1h}}}\n"))
    here("apply", "--auto-approve")
    before = docker_stack.container("s")["Id"]
    assert "expires in" in here("plan").stdout
    here.write(config(docker_stack, "sandboxes: {s: {lifecycle: {max_lifetime: 1ms}}}\n"))
    time.sleep(0.01)
    assert "older than its `max_lifetime`" in " ".join(here("plan").stdout.split())
    here("apply", "--auto-approve")
    assert docker_stack.container("s")["Id"] != before
