"""A stack from end to end through the command line, on the cluster at hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.conftest import Ground
from tests.support.cli import Folder, folder
from tests.support.kubernetes.reach import eventually

BODY = """sandboxes:
  agent:
    replicas: 2
    environment: {LEVEL: info}
    labels: {team: search}
    secrets: {TOKEN: {env: TOKEN}}
    readiness: {http: /v1/sandbox, timeout: 120s}
  user:
    depends_on: [agent]
    readiness: {http: /v1/sandbox, timeout: 120s}
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    with folder(tmp_path, TOKEN="canary-of-the-tests") as made:
        yield made


def pods(ground: Ground) -> dict[str, str]:
    """Those that live, by name, with their uids."""
    found = [pod["metadata"] for pod in ground.listed("pods")]
    return {one["name"]: one["uid"] for one in found if not one.get("deletionTimestamp")}


def test_a_plan_of_what_is_not_there_asks_and_makes_nothing(ground: Ground, here: Folder) -> None:
    here.write(ground.config(BODY))
    here("plan", "--detailed-exitcode", code=2)
    assert pods(ground) == {}


@pytest.mark.slow
def test_a_stack_lives_drifts_is_put_back_changes_and_ends(ground: Ground, here: Folder) -> None:
    ground.needs_nodes()
    here.write(ground.config(BODY))
    assert "3 created" in here("apply", "--auto-approve").stdout
    here("plan", "--detailed-exitcode", code=0)
    before = pods(ground)
    assert len(before) == 3
    assert "canary-of-the-tests" not in json.dumps(ground.listed("pods"))

    victim = next(name for name in before if "agent-0" in name)
    done = ground.reach.ask("DELETE", ground.reach.path("pods", victim))
    assert done.status_code in (200, 202), done.text
    here("drift", "--fail-on-drift", code=2)  # whether it still ends, or is gone by now
    here("drift", "--correct")
    here("plan", "--detailed-exitcode", code=0)
    after = pods(ground)
    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} == {victim}

    here.write(ground.config(BODY.replace("LEVEL: info", "LEVEL: debug")))
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    assert len(pods(ground)) == 3

    assert "3 destroyed" in here("destroy", "--auto-approve").stdout
    assert pods(ground) == {}
    ours = [secret for secret in ground.listed("secrets") if "reconciler" in secret["metadata"]["name"]]
    eventually(
        lambda: not [s for s in ground.listed("secrets") if "reconciler" in s["metadata"]["name"]],
        f"the cluster takes {len(ours)} secrets away with their owners",
        60,
    )
