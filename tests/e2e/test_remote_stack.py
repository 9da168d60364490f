"""The command over a provisioner with its flaws, and over a sandbox that exists elsewhere, by real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Folder, folder
from tests.support.provisioner import Provisioner, page, provisioner, saying

KEY = "canary-key-1234"
_FILE = """\
version: 1
stack: far
backends:
  far: {{type: remote, url: "{url}", api_key: {{env: PROVISIONER_API_KEY}}}}
  given: {{type: url, url: "{given}"}}
sandboxes:
  browser: {{backend: given}}
  worker:
    backend: far
    replicas: 2
    image: aio:1
    environment: {{A: b}}
    thread_id: t-1
    depends_on: [browser]
outputs: {{browser: "${{sandbox.browser.url}}", worker: "${{sandbox.worker[0].url}}"}}
"""


@pytest.fixture
def far() -> Iterator[Provisioner]:
    with provisioner(key=KEY) as made:
        yield made


@pytest.fixture
def elsewhere() -> Iterator[Provisioner]:
    with provisioner() as made:
        made.create({"sandbox_id": "browser", "thread_id": None})
        yield made


@pytest.fixture
def cli(tmp_path: Path, far: Provisioner, elsewhere: Provisioner) -> Iterator[Folder]:
    with folder(tmp_path, PROVISIONER_API_KEY=KEY) as made:
        made.write(_FILE.format(url=far.url, given=elsewhere.services["browser"]))
        yield made


def _edit(cli: Folder, before: str, after: str) -> None:
    text = (cli.path / "sandboxes.yaml").read_text()
    assert before in text
    cli.write(text.replace(before, after))


def test_the_whole_life(cli: Folder, far: Provisioner, elsewhere: Provisioner) -> None:
    assert "is valid" in cli("validate", environ={"PROVISIONER_API_KEY": ""}).stdout
    assert far.requests == []
    planned = cli("plan")
    assert "exists elsewhere: it is recorded and waited for, not created" in planned.stdout
    assert "goes without `image: aio:1` of worker: cannot be enforced" in planned.stderr
    assert "goes without `environment.A` of worker: cannot be enforced" in planned.stderr
    cli("apply", "--auto-approve")
    assert "No changes" in cli("plan").stdout
    assert "No drift" in cli("drift").stdout
    outputs = json.loads(cli("output", "--json").stdout)
    assert elsewhere.services["browser"] in json.dumps(outputs)
    assert "3 ready" in cli("status").stdout

    first = set(far.services)
    _edit(cli, "aio:1", "aio:2")  # nothing can be done about it, so nothing is
    assert "recorded only: the backend cannot enforce it" in cli("plan").stdout
    cli("apply", "--auto-approve")
    assert set(far.services) == first
    assert "No changes" in cli("plan").stdout

    far.grace = 60.0  # what is deleted lives on for a while: its successor must not attach to it
    _edit(cli, "t-1", "t-2")
    cli("apply", "--auto-approve")
    assert first.isdisjoint(far.services)
    assert all(far.pods[name].dying is None for name in far.services)

    destroyed = cli("destroy", "--auto-approve").stdout
    assert "exists elsewhere: only its record goes, and it runs on" in destroyed
    assert far.services == {}
    assert list(elsewhere.pods) == ["browser"]
    told = "".join(path.read_text(errors="replace") for path in cli.path.rglob("*") if path.is_file())
    assert KEY not in told + planned.stdout + planned.stderr + destroyed


def test_drift_and_repair(cli: Folder, far: Provisioner) -> None:
    cli("apply", "--auto-approve")
    half, whole = sorted(far.services)
    far.kill_pod(half)
    drift = cli("drift", code=None)
    assert "it has a service and no pod" in drift.stdout
    far.unreadable[whole] = 1
    cli("apply", "--auto-approve")
    assert half not in far.services
    assert whole in far.services
    assert len(far.services) == 2
    assert "No changes" in cli("plan").stdout


def test_what_cannot_be_seen_is_never_planned_on(cli: Folder, far: Provisioner) -> None:
    cli("apply", "--auto-approve")
    before = dict(far.services)
    far.rotten.append({"status": "Running"})
    assert "has no usable id" in cli("plan", code=1).stderr
    far.rotten.clear()
    far.next_answers.append(page())
    assert "web page" in cli("apply", "--auto-approve", code=1).stderr
    far.next_answers.append(saying(500))
    assert "No changes" in cli("plan").stdout
    wrong = cli("plan", code=1, environ={"PROVISIONER_API_KEY": "wrong-key-1"})
    assert "is not the one it knows" in wrong.stderr
    assert "wrong-key-1" not in wrong.stderr + wrong.stdout
    assert far.services == before


def test_what_exists_elsewhere_is_drift_when_it_does_not_answer_and_is_forgotten_when_not_wanted(
    cli: Folder, elsewhere: Provisioner
) -> None:
    cli("apply", "--auto-approve")
    elsewhere.pods["browser"].server.server_close()
    drift = cli("drift", code=None)
    assert "browser" in drift.stdout
    assert "nobody listens" in drift.stdout
    text = (cli.path / "sandboxes.yaml").read_text()
    kept = [line for line in text.splitlines() if "browser" not in line]
    cli.write("\n".join(kept) + "\n")
    planned = cli("plan").stdout
    assert "only its record goes, and it runs on" in planned
    assert "1 to forget" in planned
    cli("apply", "--auto-approve")
    assert "No changes" in cli("plan").stdout


def test_the_example(cli: Folder, far: Provisioner, elsewhere: Provisioner) -> None:
    example = Path(__file__).parents[2] / "examples" / "remote" / "sandboxes.yaml"
    cli.write(example.read_text())
    given = elsewhere.services["browser"]
    places = ("--var", f"provisioner={far.url}", "--var", f"browser={given}")
    cli("apply", "--auto-approve", *places)
    assert len(far.services) == 2
    assert "No changes" in cli("plan", *places).stdout
    cli("destroy", "--auto-approve", *places)
    assert (len(far.services), len(elsewhere.services)) == (0, 1)


def test_an_apply_right_after_a_destroy_does_not_meet_what_still_dies(cli: Folder, far: Provisioner) -> None:
    cli("apply", "--auto-approve")
    far.grace = 3600.0
    for _ in range(2):
        cli("destroy", "--auto-approve")
        dying = set(far.pods)
        cli("apply", "--auto-approve")
        assert len(far.services) == 2
        assert dying.isdisjoint(far.services)
        assert all(far.pods[name].dying is None for name in far.services)
        assert "No changes" in cli("plan").stdout
        assert "No drift" in cli("drift").stdout


def test_a_saved_plan_of_something_new_holds_when_the_state_has_moved_on(
    cli: Folder, far: Provisioner
) -> None:
    cli("apply", "--auto-approve")
    _edit(cli, "replicas: 2", "replicas: 4")
    cli("plan", "-o", "plan.json")
    cli("apply", "--auto-approve", "--target", "worker[2]")
    cli("apply", "plan.json", code=6)  # one of the two is there by now
    assert len(far.services) == 4
    assert "No changes" in cli("plan").stdout


def test_what_exists_elsewhere_is_not_replaced_in_silence(cli: Folder, far: Provisioner) -> None:
    cli("apply", "--auto-approve")
    before = set(far.services)
    refused = cli("plan", "--replace", "browser", code=7)
    assert "--replace browser means browser, and nothing of that is made from here" in refused.stderr
    told = cli("apply", "--auto-approve", "--replace", "*")
    assert "browser exists elsewhere, so `--replace` leaves it as it is" in told.stderr
    assert "2 replaced" in told.stdout
    assert before.isdisjoint(far.services)


def test_what_an_older_state_does_not_know_is_refused_and_not_made_twice(
    cli: Folder, far: Provisioner
) -> None:
    _edit(cli, "replicas: 2", "replicas: 1")
    cli("apply", "--auto-approve")
    cli("state", "pull", "-o", "old.json")
    _edit(cli, "replicas: 1", "replicas: 2")
    cli("apply", "--auto-approve")
    cli("state", "push", "--force", "old.json")
    refused = cli("apply", "--auto-approve", code=7)
    assert "which belongs to an object without our labels" in " ".join(refused.stderr.split())
    assert len(far.services) == 2
