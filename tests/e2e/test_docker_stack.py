"""The main job from a folder, through the command line, on a real container engine."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import Folder, folder, lines
from tests.support.docker import EngineStack, get_json, requires_docker
from tests.support.effort import effort

pytestmark = requires_docker

KILLS = effort(20, 50)
FLEET = 20


@pytest.fixture
def here(tmp_path: Path, docker_stack: EngineStack) -> Iterator[Folder]:
    with folder(tmp_path) as made:
        yield made


def config(stack: EngineStack, body: str, **backend: str) -> str:
    options = {"type": "docker", "host": stack.host, "image": stack.images.agent, **backend}
    return f"version: 1\nstack: {stack.name}\nbackends: {{local: {json.dumps(options)}}}\n{body}"


def plan_of(here: Folder) -> dict[str, dict[str, Any]]:
    """The planned changes by address."""
    found = lines(here("plan", "--json").stdout)
    return {event["address"]: event for event in found if event["type"] in ("planned_change", "drift")}


def test_a_fleet_its_changes_from_outside_and_its_end(here: Folder, docker_stack: EngineStack) -> None:
    here.write(
        config(
            docker_stack,
            f"""sandboxes:
  worker:
    replicas: {FLEET}
    resources: {{cpu: 0.5, memory: 64Mi, pids: 100}}
    restart: on-failure:2
    environment: {{INDEX: "${{replica.index}}"}}
outputs: {{first: "${{sandbox.worker[0].url}}"}}
""",
        )
    )
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    assert docker_stack.addresses() == sorted(f"worker[{n}]" for n in range(FLEET))
    assert get_json(here("output", "first").stdout.strip())["success"]
    assert here("exec", "worker[3]", "--", "sh", "-c", "echo $INDEX").stdout == "3\n"

    change_from_outside(docker_stack)
    told = here("plan", "--detailed-exitcode", code=2).stdout
    for words in EXPECTED:
        assert words in told, f"{words!r} is not in the plan:\n{told}"
    before = {
        item["Config"]["Labels"]["sandbox-reconciler/address"]: item for item in docker_stack.containers()
    }
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    after = {
        item["Config"]["Labels"]["sandbox-reconciler/address"]: item for item in docker_stack.containers()
    }
    assert sorted(after) == sorted(f"worker[{n}]" for n in range(FLEET))
    replaced = sorted(a for a in after if a not in before or after[a]["Id"] != before[a]["Id"])
    # what stopped is restarted; what was killed had been altered as well, so it is made anew
    assert replaced == ["worker[8]", "worker[9]"], "whatever can go on living does"
    assert after["worker[7]"]["State"]["Running"]
    assert after["worker[0]"]["HostConfig"]["Memory"] == 64 << 20
    assert after["worker[1]"]["HostConfig"]["NanoCpus"] == 500_000_000
    assert after["worker[2]"]["HostConfig"]["PidsLimit"] == 100
    assert after["worker[3]"]["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert after["worker[4]"]["Name"].startswith("/reconciler-worker-4-")
    assert sorted(after["worker[5]"]["NetworkSettings"]["Networks"]) == ["bridge"]
    assert not after["worker[6]"]["State"]["Paused"]

    here("destroy", "--auto-approve")
    assert docker_stack.containers() == []


EXPECTED = (
    "resources.memory",
    "resources.cpu",
    "resources.pids",
    "restart",
    "container.name",
    "container.networks",
    "container.paused",
    "it is not running any more (exit code 0)",
    "exit code 137 (SIGKILL)",
    "was created before and is gone",
)


def change_from_outside(stack: EngineStack) -> None:
    """Each of ten sandboxes in a way of its own, as people at a terminal do it."""
    api = stack.client.api

    def one(number: int) -> str:
        found: str = stack.container(f"worker[{number}]")["Id"]
        return found

    def update(number: int, **limits: Any) -> None:
        answer = api._post_json(api._url("/containers/{0}/update", one(number)), data=limits)
        api._raise_for_status(answer)

    update(0, Memory=32 << 20, MemorySwap=32 << 20)
    update(1, NanoCpus=250_000_000)
    update(2, PidsLimit=50)
    update(3, RestartPolicy={"Name": "always", "MaximumRetryCount": 0})
    api.rename(one(4), f"{stack.name}-renamed")
    api.disconnect_container_from_network(one(5), "bridge")
    api.pause(one(6))
    api.stop(one(7))
    api.update_container(one(8), restart_policy={"Name": "no"})
    api.kill(one(8))
    api.remove_container(one(9), force=True)


@pytest.mark.slow
def test_kill_9_at_any_moment_of_an_apply_then_apply_converges(
    here: Folder, docker_stack: EngineStack
) -> None:
    """Runs are killed on their way, from nothing to ten sandboxes; whatever is left, the next run goes on
    from there. Every now and then one may end, is judged, and everything goes again."""
    here.write(config(docker_stack, "sandboxes: {s: {replicas: 10}}\n"))
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    whole = None
    for attempt in range(KILLS):
        started = time.monotonic()
        run = here.start("apply", "--auto-approve")
        time.sleep(chance.uniform(0.2, 2.5 if whole is None else whole))
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        if attempt % 10 == 9:
            here("apply", "--auto-approve")
            whole = max(0.5, time.monotonic() - started)
            addresses = docker_stack.addresses()
            assert addresses == sorted(f"s[{n}]" for n in range(10)), f"seed {seed}, after kill {attempt + 1}"
            here("plan", "--detailed-exitcode", code=0)
            here("destroy", "--auto-approve")
            assert docker_stack.containers() == [], f"seed {seed}"


def test_create_first_never_leaves_nobody_answering(here: Folder, docker_stack: EngineStack) -> None:
    body = "sandboxes: {{s: {{environment: {{V: '{v}'}}, lifecycle: {{replace: create_first}}}}}}\n"
    here.write(config(docker_stack, body.format(v=1)))
    here("apply", "--auto-approve")
    old = docker_stack.container("s")
    here.write(config(docker_stack, body.format(v=2)))
    assert "+/-" in here("plan").stdout
    run = here.start("apply", "--auto-approve")
    most = 0
    while run.poll() is None:
        living = [item for item in docker_stack.containers() if item["State"]["Running"]]
        most = max(most, len(living))
        assert living, "there was a moment without any"
    assert run.communicate()
    assert run.returncode == 0
    assert most == 2
    assert docker_stack.container("s")["Id"] != old["Id"]
    here("plan", "--detailed-exitcode", code=0)


def test_a_sandbox_that_ends_at_once_is_told_with_its_last_words(
    here: Folder, docker_stack: EngineStack
) -> None:
    here.write(
        config(docker_stack, "sandboxes: {s: {readiness: {timeout: 60s}}}\n", image=docker_stack.images.crash)
    )
    started = time.monotonic()
    done = here("apply", "--auto-approve", code=5)
    assert time.monotonic() - started < 30, "it waited for the deadline"
    assert "exit code 3" in done.stdout + done.stderr
    log = docker_stack.client.api.logs(docker_stack.container("s")["Id"]).decode().strip().splitlines()
    assert log
    assert log[-1] in done.stdout + done.stderr
    assert here("logs", "s").stdout.strip().splitlines() == log


def test_secrets_are_in_no_place_that_others_read(here: Folder, docker_stack: EngineStack) -> None:
    canary = f"canary-{random.randrange(1 << 60):x}"
    here.environ["TOKEN"] = canary
    here.write(
        config(
            docker_stack, "sandboxes: {s: {secrets: {TOKEN: {env: TOKEN}}, environment: {WITH: secret}}}\n"
        )
    )
    here("apply", "--auto-approve")
    assert here("exec", "s", "--", "sh", "-c", "cat $TOKEN_FILE").stdout == canary
    assert canary not in json.dumps(docker_stack.container("s"))
    for told in (here("plan"), here("status"), here("show", "s"), here("logs", "s")):
        assert canary not in told.stdout + told.stderr
    for file in (here.path / "state").rglob("*"):
        assert file.is_dir() or canary.encode() not in file.read_bytes(), file
    mounts = docker_stack.container("s")["HostConfig"]["Mounts"]
    [source] = [mount["Source"] for mount in mounts if mount["Target"] == "/run/secrets"]
    here("destroy", "--auto-approve")
    assert not os.path.exists(source)


def test_status_shows_what_each_takes(here: Folder, docker_stack: EngineStack) -> None:
    here.write(config(docker_stack, "sandboxes: {s: {}}\n"))
    here("apply", "--auto-approve")
    [row] = json.loads(here("status", "--json").stdout)["sandboxes"]
    assert row["memory_bytes"] > 0
    assert row["cpu_cores"] >= 0


def test_the_engine_is_examined(here: Folder, docker_stack: EngineStack) -> None:
    here.write(config(docker_stack, "sandboxes: {s: {}}\n"))
    assert docker_stack.host in here("doctor").stdout
    here.write(config(docker_stack, "sandboxes: {s: {}}\n", host="unix:///nowhere/docker.sock"))
    assert "no such socket" in " ".join(here("doctor", code=None).stdout.split())
    done = here("plan", code=1)
    assert "no such socket" in done.stderr
    assert "systemctl start docker" in done.stderr
