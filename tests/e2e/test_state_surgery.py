"""Surgery on the state of real processes: they run on, whatever happens to their records."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Folder, folder

TWO = """version: 1
stack: e2e
sandboxes:
  worker: {replicas: 2}
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    with folder(tmp_path) as made:
        made.write(TWO)
        made("apply", "--auto-approve")
        try:
            yield made
        finally:  # whatever was let go is nobody's, so no `destroy` removes it
            newest = max((int(p.stem) for p in (made.path / "state/e2e.history").glob("*.json")), default=0)
            for serial in range(newest, 0, -1):
                if made("state", "history", str(serial), "--json", code=None).stdout.count('"address"') >= 2:
                    made("state", "pull", "--serial", str(serial), "-o", "all.json", code=None)
                    made("state", "push", "--force", "all.json", code=None)
                    break


def records(here: Folder) -> dict[str, str]:
    return {address: record["sandbox_id"] for address, record in here.state()["sandboxes"].items()}


def test_a_moved_record_is_of_the_same_sandbox_which_runs_on(here: Folder) -> None:
    before, processes = records(here), sorted(here.processes())
    here("state", "mv", "worker[1]", "spare")
    assert records(here) == {"worker[0]": before["worker[0]"], "spare": before["worker[1]"]}
    assert here("state", "list").stdout.split() == ["spare", "worker[0]"]
    assert before["worker[1]"] in here("state", "show", "spare").stdout
    assert sorted(here.processes()) == processes
    here("state", "mv", "spare", "worker[1]")
    assert records(here) == before
    here("plan", "--detailed-exitcode", code=0)


def test_what_was_let_go_runs_on_and_can_be_taken_back(here: Folder) -> None:
    before, processes = records(here), sorted(here.processes())
    here("state", "rm", "worker[1]")
    assert records(here) == {"worker[0]": before["worker[0]"]}
    assert here.state()["released"] == [
        {"address": "worker[1]", "backend": "process", "sandbox_id": before["worker[1]"]}
    ]
    assert sorted(here.processes()) == processes
    assert here.sandboxes() == sorted(before.values())
    serial = json.loads(here("state", "history", "--json").stdout)["versions"][1]["serial"]
    here("state", "pull", "--serial", str(serial), "-o", "old.json")
    here("state", "push", "--force", "old.json")
    assert records(here) == before
    assert here("exec", "worker[1]", "--", "echo", "well").stdout == "well\n"
    here("plan", "--detailed-exitcode", code=0)


def test_of_two_at_once_each_happens_whole_and_none_is_lost(here: Folder) -> None:
    before = records(here)
    runs = [
        here.start("state", "mv", f"worker[{i}]", f"moved-{i}", "--lock-timeout", "60s") for i in range(2)
    ]
    for run in runs:
        _, err = run.communicate(timeout=90)
        assert run.returncode == 0, err
    assert records(here) == {f"moved-{i}": before[f"worker[{i}]"] for i in range(2)}
    here("state", "mv", "moved-0", "worker[0]")
    here("state", "mv", "moved-1", "worker[1]")


def test_of_two_for_the_same_record_one_is_told_that_it_is_gone(here: Folder) -> None:
    runs = [here.start("state", "mv", "worker[1]", name, "--lock-timeout", "60s") for name in ("x", "y")]
    told = [run.communicate(timeout=90)[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1], told
    assert any("nothing is recorded as worker[1]" in text for text in told)
    here("state", "mv", "x" if "x" in records(here) else "y", "worker[1]")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_a_directory_that_cannot_be_written_is_told_and_nothing_changes(here: Folder) -> None:
    before = here.state()
    for path in (here.path / "state/e2e.history", here.path / "state"):
        path.chmod(0o500)
    try:
        assert "check owner and mode" in here("state", "rm", "worker[1]", code=1).stderr
        assert "is not writable" in here("doctor", code=1).stdout
    finally:
        for path in (here.path / "state", here.path / "state/e2e.history"):
            path.chmod(0o700)
    assert here.state() == before
