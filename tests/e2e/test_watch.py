"""`watch` beside real processes: what is killed comes back, what a person does goes through, what is wrong is told once."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Folder, folder, lines
from tests.support.watching import watching

THREE = """version: 1
stack: watched
sandboxes:
  web: {replicas: 2, environment: {LEVEL: info}}
  db: {}
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    with folder(tmp_path) as made:
        made.write(THREE)
        made("apply", "--auto-approve")
        yield made


def id_of(here: Folder, address: str) -> str:
    return str(here.state()["sandboxes"][address]["sandbox_id"])


def stop(here: Folder, sandbox_id: str) -> None:
    """Its server stands still: it is there, and answers nobody."""
    process = json.loads((here.root / sandbox_id / "process.json").read_text())
    os.kill(process["server"][0], signal.SIGSTOP)


def test_what_is_killed_comes_back_and_both_are_told_once(here: Folder) -> None:
    with watching(here) as watch:
        here.kill(id_of(here, "db"))
        done = watch.until("correction", address="db")
        assert (done["ok"], done["action"], done["attempt"]) == (True, "repair", 1)
        closed = watch.until("incident_closed", subject="db")
        assert closed["kind"] == "drift"
        watch.until("look", drifted=0, ready=3, count=2)
        assert len(watch.of("incident_opened")) == 1
        assert len(watch.of("incident_closed")) == 1
    assert "No drift" in here("drift").stdout
    assert watch.told[-1]["type"] == "watch_stopped"


def test_what_is_removed_comes_back(here: Folder) -> None:
    with watching(here) as watch:
        here("exec", "db", "--", "sh", "-c", "true")
        victim = id_of(here, "db")
        here.kill(victim)
        os.rename(here.root / victim, here.path / "elsewhere")
        watch.until("correction", address="db", ok=True)
    assert id_of(here, "db") in here.sandboxes()


def test_the_configuration_is_read_again_and_a_broken_one_changes_nothing(here: Folder) -> None:
    with watching(here) as watch:
        here.write(THREE.replace("sandboxes:", "sandboxes: ["))
        broken = watch.until("reloaded", ok=False)
        assert broken["problems"][0]["position"]["file"].endswith("sandboxes.yaml")
        assert (
            "it is read again when it changes: "
            in watch.until("incident_opened", kind="configuration")["fix"]
        )
        here.kill(id_of(here, "db"))
        watch.until("correction", address="db", ok=True)
        here.write(THREE.replace("db: {}", "db: {drift: report}"))
        watch.until("incident_closed", kind="configuration")
        here.kill(id_of(here, "db"))
        watch.until("incident_opened", kind="drift", subject="db", count=2)
        looks = len(watch.of("look"))
        watch.until("look", drifted=1, count=2)
        assert len(watch.of("correction")) == 1, looks


def test_an_edit_waits_for_its_apply_and_that_gets_in(here: Folder) -> None:
    with watching(here) as watch:
        here.write(THREE.replace("LEVEL: info", "LEVEL: debug").replace("replicas: 2", "replicas: 3"))
        watch.until("reloaded", ok=True)
        watch.until("look", pending=3)
        here.kill(id_of(here, "web[0]"))
        watch.until("correction", address="web[0]", ok=True)
        assert here.state()["sandboxes"]["web[0]"]["spec"]["environment.LEVEL"] == "info"
        here("apply", "--auto-approve", "--lock-timeout", "20s")
        watch.until("look", pending=0, drifted=0, ready=4)
        assert not watch.of("correction", ok=False)
    assert here.state()["sandboxes"]["web[0]"]["spec"]["environment.LEVEL"] == "debug"


def test_what_waits_for_one_that_is_only_reported_says_so(here: Folder) -> None:
    here.write(THREE.replace("db: {}", "db: {drift: report}") + "  near: {depends_on: [db]}\n")
    here("apply", "--auto-approve")
    with watching(here) as watch:
        here.kill(id_of(here, "db"))
        assert "drift: report" in watch.until("incident_opened", subject="db")["fix"]
        here.kill(id_of(here, "near"))
        assert "waits for db" in watch.until("incident_opened", subject="near")["fix"]
        here("apply", "--auto-approve", "--lock-timeout", "20s")
        for address in ("db", "near"):
            watch.until("incident_closed", subject=address)
        assert not watch.of("correction")


def test_a_report_promises_no_correction_of_what_waits(here: Folder) -> None:
    here.write(THREE.replace("db: {}", "db: {drift: report}") + "  near: {depends_on: [db]}\n")
    here("apply", "--auto-approve")
    for address in ("db", "near"):
        here.kill(id_of(here, address))
    told = here("drift")
    assert "it waits for db" in told.stdout
    assert "--correct" not in told.stderr
    found = {
        line["address"]: line for line in lines(here("drift", "--json").stdout) if line["type"] == "drift"
    }
    assert (found["near"]["waits_for"], found["db"]["waits_for"]) == ("db", None)
    here("drift", "--correct", "--fail-on-drift", code=2)


def test_two_watches_of_one_stack_put_back_once(here: Folder) -> None:
    before = here.sandboxes()
    with watching(here) as one, watching(here) as other:
        for address in ("db", "web[0]", "web[1]"):
            here.kill(id_of(here, address))
            both = lambda address=address: len(  # noqa: E731
                one.of("correction", address=address, ok=True)
                + other.of("correction", address=address, ok=True)
            )
            one.until_that(lambda both=both: both() == 1, f"the correction of {address}")
        for watch in (one, other):
            watch.until("look", drifted=0, ready=3)
        time.sleep(1.5)  # another look of each
        assert len(one.of("correction") + other.of("correction")) == 3
    assert here.sandboxes() == before


def test_a_signal_has_the_configuration_read_again(here: Folder) -> None:
    with watching(here, interval="60s") as watch:
        here.kill(id_of(here, "db"))
        watch.signal(signal.SIGHUP)
        watch.until("reloaded", ok=True)
        watch.until("correction", address="db", ok=True)


def test_what_happens_while_an_apply_is_at_work_is_put_back_after_it(here: Folder) -> None:
    here.write(
        THREE.replace("db: {}", "db: {readiness: {exec: [test, -e, /nowhere], timeout: 2s}, drift: ignore}")
    )
    before = id_of(here, "db")
    with watching(here) as watch:
        apply = here.start("apply", "--auto-approve", "--replace", "db")
        watch.until_that(lambda: before not in here.sandboxes(), "the replacement")
        here.kill(id_of(here, "web[0]"))
        assert apply.wait(60) == 5
        apply.communicate()
        ended = time.time()
        assert watch.until("correction", address="web[0]", ok=True)["at"] >= ended - 0.2
        assert not watch.of("incident_opened", subject="db")


class TestOnce:
    def test_it_puts_back_and_leaves(self, here: Folder) -> None:
        here.kill(id_of(here, "db"))
        told = lines(here("watch", "--once", "--json").stdout)
        assert [t["type"] for t in told if t["type"] in ("correction", "incident_closed")] == [
            "correction", "incident_closed",
        ]  # fmt: skip
        assert told[-1]["type"] == "watch_stopped"
        assert "correction" not in here("watch", "--once", "--json").stdout

    def test_it_refuses_when_too_many_are_gone(self, here: Folder) -> None:
        here.write(THREE + "policy: {max_drift_percent: 50}\n")
        for address in ("db", "web[0]"):
            here.kill(id_of(here, address))
        told = lines(here("watch", "--once", "--json", code=7).stdout)
        assert next(t["kind"] for t in told if t["type"] == "incident_opened") == "fleet"
        assert not [t for t in told if t["type"] == "correction"]

    def test_somebody_else_at_work_is_told(self, here: Folder) -> None:
        here.kill(id_of(here, "db"))
        here.write(THREE.replace("db: {}", "db: {readiness: {exec: [test, -e, /nowhere], timeout: 4s}}"))
        apply = here.start("apply", "--auto-approve", "--replace", "web[0]", "--replace", "db")
        try:
            deadline = time.monotonic() + 20
            while "nobody" in here("lock", "show").stdout.lower():
                assert time.monotonic() < deadline
            assert "locked by" in here("watch", "--once", code=4).stderr
        finally:
            apply.send_signal(signal.SIGINT)
            apply.communicate(timeout=60)


class TestDrift:
    def test_what_differs_is_named_with_its_cause_and_changes_nothing(self, here: Folder) -> None:
        victim = id_of(here, "db")
        here.kill(victim)
        told = here("drift").stdout
        assert "1 of 3 sandboxes drifted" in told
        assert "db" in told
        assert here("drift", "--fail-on-drift", code=2).stdout
        data = lines(here("drift", "--json").stdout)
        assert [(d["address"], d["correction"], d["policy"]) for d in data if d["type"] == "drift"] == [
            ("db", "repair", "correct")
        ]
        assert data[-1]["drifted"] == 1
        assert "`db`" in here("drift", "--format", "markdown").stdout
        assert here.state()["sandboxes"]["db"]["sandbox_id"] == victim

    def test_it_is_put_back_when_asked(self, here: Folder) -> None:
        here.kill(id_of(here, "db"))
        assert "1 repaired" in here("drift", "--correct", "--fail-on-drift").stdout
        assert "No drift" in here("drift", "--fail-on-drift").stdout

    def test_what_is_reported_only_stays_and_fails(self, here: Folder) -> None:
        here.write(THREE.replace("db: {}", "db: {drift: report}"))
        here.kill(id_of(here, "db"))
        here("drift", "--correct", "--fail-on-drift", code=2)
        here.write(THREE.replace("db: {}", "db: {drift: ignore}"))
        assert "ignored" in here("drift", "--correct", "--fail-on-drift").stdout

    def test_an_edit_is_none(self, here: Folder) -> None:
        here.write(THREE.replace("LEVEL: info", "LEVEL: debug"))
        told = here("drift", "--fail-on-drift").stdout
        assert "No drift" in told
        assert "2 changes of the configuration wait for an apply" in told

    def test_what_stands_still_is_put_back(self, here: Folder) -> None:
        stop(here, id_of(here, "db"))
        told = lines(here("drift", "--json").stdout)
        assert [d["cause"] for d in told if d["type"] == "drift"] == ["paused"]
        here("drift", "--correct")
        assert "No drift" in here("drift", "--fail-on-drift").stdout

    def test_what_runs_and_does_not_answer_is_asked_again_and_then_put_back(self, here: Folder) -> None:
        here.write(THREE.replace("db: {}", 'db: {readiness: {exec: [test, "!", -e, down], timeout: 2s}}'))
        here("apply", "--auto-approve")
        here("exec", "db", "--", "touch", "down")
        began = time.monotonic()
        told = lines(here("drift", "--json").stdout)
        assert time.monotonic() - began > 2 * 2.0, "three probes, two seconds apart"
        assert [(d["cause"], d["correction"]) for d in told if d["type"] == "drift"] == [("silent", "repair")]
        assert "1 repaired" in here("drift", "--correct").stdout
        assert "No drift" in here("drift", "--fail-on-drift").stdout

    def test_secrets_are_not_needed_for_a_look(self, here: Folder) -> None:
        here.write(THREE.replace("db: {}", "db: {secrets: {TOKEN: {env: TOKEN}}}"))
        here("apply", "--auto-approve", environ={"TOKEN": "hush-hush-hush"})
        assert "No drift" in here("drift", "--fail-on-drift").stdout
        here.kill(id_of(here, "db"))
        told = here("drift", "--correct", environ={"TOKEN": "hush-hush-hush"})
        assert "hush-hush" not in told.stdout + told.stderr

    def test_a_secret_that_has_another_value_now_is_not_made_up(self, here: Folder) -> None:
        here.write(THREE.replace("db: {}", "db: {secrets: {TOKEN: {env: TOKEN}}}"))
        here("apply", "--auto-approve", environ={"TOKEN": "hush-hush-hush"})
        here.kill(id_of(here, "db"))
        told = here("drift", "--correct", environ={"TOKEN": "another-value"}).stdout
        assert "db" in told.split("wait")[1]
        assert "repaired" not in told
