"""What a real watch has beside its loop: one killed sandbox shows in metrics, audit log and webhook, and no secret does."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_watch import id_of
from tests.operations.receiver import receiver
from tests.support.cli import Folder, folder
from tests.support.watching import watching

CANARY = "canary-5f2e9c-hush"
TEXT = """version: 1
stack: beside
sandboxes:
  web: {secrets: {TOKEN: {env: TOKEN}}}
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    with folder(tmp_path, TOKEN=CANARY) as made:
        made.write(TEXT)
        made("apply", "--auto-approve")
        yield made


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def got(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def status(port: int, path: str) -> int:
    try:
        got(port, path)
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def test_one_killed_sandbox_shows_everywhere_and_no_secret_does(here: Folder) -> None:
    port = free_port()
    with receiver() as there:
        here.environ["RECONCILER_NOTIFY"] = there.url
        with watching(here, "--listen", str(port), "--audit", "audit.log") as watch:
            assert got(port, "/healthz") == "ok\n"
            watch.until_that(lambda: status(port, "/readyz") == 200, "readiness")
            here.kill(id_of(here, "web"))
            watch.until("incident_closed", subject="web")
            taken = there.took(2)
            watch.until("look", drifted=0, count=len(watch.of("look", drifted=0)) + 1)
            metrics = got(port, "/metrics")
        there.took(2)
        assert [one.body["type"] for one in there.asked] == ["incident_opened", "incident_closed"]
    done = 'reconciler_corrections_total{action="repair",cause="killed",outcome="done",stack="beside"} 1.0'
    assert done in metrics
    assert 'reconciler_ready{stack="beside"} 1.0' in metrics
    audit = (here.path / "audit.log").read_text()
    kinds = [json.loads(line)["type"] for line in audit.splitlines()]
    assert kinds == ["started", "incident_opened", "correction", "incident_closed", "stopped"]
    said = metrics + audit + watch.errors + watch.story() + json.dumps([one.body for one in taken])
    assert CANARY not in said
    assert "s3cret" not in said


def test_every_counter_of_a_watch_that_has_just_begun_is_there(here: Folder) -> None:
    """So that the first correction, incident or reload is an increase that an alert sees."""
    port = free_port()
    with watching(here, "--listen", str(port), interval="60s"):
        families = list(text_string_to_metric_families(got(port, "/metrics")))
    counted = {
        family.name: sum(sample.value for sample in family.samples if sample.name.endswith("_total"))
        for family in families
        if family.type == "counter" and family.samples
    }
    assert counted.pop("reconciler_looks") >= 1
    assert counted == {
        "reconciler_corrections": 0,
        "reconciler_incidents": 0,
        "reconciler_reloads": 0,
        "reconciler_notifications": 0,
    }


def test_readiness_follows_the_configuration(here: Folder) -> None:
    port = free_port()
    with watching(here, "--listen", str(port)) as watch:
        here.write("nonsense")
        watch.until("incident_opened", kind="configuration")
        watch.until_that(lambda: status(port, "/readyz") == 503, "the loss of readiness")
        assert got(port, "/healthz") == "ok\n"
        here.write(TEXT)
        watch.until("incident_closed", kind="configuration")
        watch.until_that(lambda: status(port, "/readyz") == 200, "readiness")


def test_a_port_that_is_taken_is_an_error_with_what_to_do(here: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = here("watch", "--listen", str(taken.getsockname()[1]), code=1).stderr
    assert "cannot" in told
    assert "--listen" in told or "another" in told


def test_systemd_hears_of_it_all(here: Folder, tmp_path: Path) -> None:
    place = Path(f"/tmp/rs-{time.monotonic_ns()}.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(place))
        listening.settimeout(30)
        here.environ |= {"NOTIFY_SOCKET": str(place), "WATCHDOG_USEC": "1000000"}
        here.environ.pop("WATCHDOG_PID", None)
        heard: list[str] = []
        try:
            with watching(here) as watch:
                while not any("READY=1" in text for text in heard):
                    heard.append(listening.recv(4096).decode())
                while not any("WATCHDOG=1" in text for text in heard):
                    heard.append(listening.recv(4096).decode())
                watch.signal(signal.SIGHUP)
                watch.until("reloaded")
            listening.settimeout(0.5)
            while not any("STOPPING=1" in text for text in heard):
                heard.append(listening.recv(4096).decode())
        finally:
            place.unlink()
    assert any(text.startswith("RELOADING=1\nMONOTONIC_USEC=") for text in heard)
    assert any("STATUS=1 of 1 ready" in text for text in heard)


def test_one_look_tells_webhooks_and_the_audit_log(here: Folder) -> None:
    with receiver() as there:
        here.kill(id_of(here, "web"))
        here("watch", "--once", "-q", "--audit", "audit.log", environ={"RECONCILER_NOTIFY_SLACK": there.url})
        assert [bool(one.body["blocks"]) for one in there.asked] == [True, True]
    assert "correction" in (here.path / "audit.log").read_text()
