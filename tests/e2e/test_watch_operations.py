"""What a real watch has beside its loop: one killed sandbox shows in metrics, audit log and webhook, and no secret does."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.crash.test_damage import fill, small_disk
from tests.e2e.test_watch import id_of
from tests.operations.receiver import receiver
from tests.support.cli import Folder, folder
from tests.support.docker import eventually
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
    del counted["reconciler_looks"]  # the first one may be over
    assert counted == {
        "reconciler_corrections": 0,
        "reconciler_incidents": 0,
        "reconciler_reloads": 0,
        "reconciler_notifications": 0,
        "reconciler_audit_entries": 0,
    }


def entries(port: int) -> dict[str, float]:
    """How many lines of the audit log came to which end."""
    return {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(got(port, "/metrics"))
        for sample in family.samples
        if sample.name == "reconciler_audit_entries_total"
    }


def test_a_full_disk_of_the_audit_log_is_told_once_and_counted_and_all_is_put_back(here: Folder) -> None:
    port = free_port()
    place = here.path / "audit"
    place.mkdir()
    with small_disk(place):
        with watching(here, "--listen", str(port), "--audit", "audit/audit.log") as watch:
            watch.until_that(lambda: entries(port)["written"] == 1, "the line that a watch begins")
            filler = fill(place, but=0)
            (place / "audit.log").write_bytes(
                b"\n" * os.stat(place).st_blksize
            )  # the page it has is full, too
            for count in (1, 2):
                here.kill(id_of(here, "web"))
                watch.until("incident_closed", subject="web", count=count)
            watch.until_that(lambda: entries(port)["lost"] == 6, "two incidents, corrections and ends")
            filler.unlink()
            here.kill(id_of(here, "web"))
            watch.until_that(
                lambda: entries(port) == {"written": 4, "unsynced": 0, "lost": 6}, "what followed"
            )
        kept = [json.loads(line) for line in (place / "audit.log").read_text().split("\n") if line]
    assert [line["type"] for line in kept] == [
        "gap", "incident_opened", "correction", "incident_closed", "stopped",
    ]  # fmt: skip
    assert kept[0]["lost"] == 6
    assert watch.errors.count("No space left on device") == 1
    assert watch.errors.count("can be written again") == 1
    assert len(watch.of("correction", ok=True)) == 3


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


@pytest.mark.parametrize("address", ["0", "127.0.0.1:0"])
def test_a_port_that_was_chosen_is_told_to_programs(here: Folder, address: str) -> None:
    with watching(here, "--listen", address) as watch:
        told = watch.until("watch_listening")
        with urllib.request.urlopen(f"{told['url']}/healthz", timeout=10) as answer:
            assert answer.read() == b"ok\n"
        assert watch.told.index(told) < watch.told.index(watch.until("watch_started"))
    assert "metrics" not in watch.errors


@pytest.mark.parametrize("how", [(), ("-q",)], ids=["loud", "quiet"])
def test_a_port_that_was_chosen_is_told_to_people(here: Folder, how: tuple[str, ...]) -> None:
    watch = here.start("watch", "--listen", "127.0.0.1:0", *how)
    assert watch.stderr is not None
    try:
        told = watch.stderr.readline()
        address = re.fullmatch(r"metrics and health are at (http://127\.0\.0\.1:[1-9]\d+)\n", told)
        assert address, told
        port = int(address[1].rpartition(":")[2])
        eventually(lambda: status(port, "/readyz") == 200)
    finally:
        watch.terminate()
        watch.communicate(timeout=60)
    assert watch.returncode == 0


def test_a_port_that_is_taken_is_an_error_with_what_to_do(here: Folder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = here("watch", "--listen", str(taken.getsockname()[1]), code=1).stderr
    assert "cannot" in told
    assert "--listen" in told or "another" in told


class Notified:
    """The socket that systemd would listen on; `heard` is what came, in order."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.heard: list[dict[str, str]] = []

    def until(self, name: str) -> dict[str, str]:
        """The next datagram that sets this."""
        while True:
            text = self._listening.recv(4096).decode()
            self.heard.append(dict(line.partition("=")[::2] for line in text.splitlines()))
            if name in self.heard[-1]:
                return self.heard[-1]

    def nothing(self) -> None:
        """Nothing has come: whoever could have sent something has ended."""
        self._listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            self._listening.recv(4096)


@pytest.fixture
def notified(here: Folder) -> Iterator[Notified]:
    with (
        tempfile.TemporaryDirectory(prefix="rs") as name,  # a socket's path must not be long
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening,
    ):
        listening.bind(f"{name}/notify")
        listening.settimeout(30)
        here.environ |= {"NOTIFY_SOCKET": f"{name}/notify", "WATCHDOG_USEC": "1000000"}
        here.environ.pop("WATCHDOG_PID", None)
        yield Notified(listening)


def test_systemd_hears_of_it_all(here: Folder, notified: Notified) -> None:
    with watching(here):
        notified.until("READY")
        while notified.until("STATUS")["STATUS"] != "1 of 1 ready":
            pass
        notified.until("WATCHDOG")
    notified.until("STOPPING")


def test_systemd_is_told_the_end_of_every_reload_that_it_was_told_the_beginning_of(
    here: Folder, notified: Notified
) -> None:
    """Where a reload has no end, `systemctl reload` waits for it, and the unit never runs again."""
    with watching(here, interval="60s") as watch:
        notified.until("READY")

        def reload() -> str:
            asked = time.monotonic_ns() // 1000
            watch.signal(signal.SIGHUP)
            begun = notified.until("RELOADING")
            assert asked <= int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            return notified.until("READY")["STATUS"]

        assert [reload(), reload()] == ["reloaded", "reloaded"], "nothing has changed in between"
        here.write("nonsense")
        watch.until("incident_opened", kind="configuration")
        assert "not valid" in notified.until("READY")["STATUS"], "as it was found to be without being asked"
        assert ["not valid" in reload() for _ in range(2)] == [True, True]
        here.write(TEXT)
        assert reload() == "reloaded"
        watch.until("incident_closed", kind="configuration")
        assert len(watch.of("reloaded", ok=False)) == 3
        assert len(watch.of("incident_opened")) == 1


def test_a_receiver_that_does_not_answer_holds_nothing_up(here: Folder) -> None:
    """It answers once two sandboxes were put back, and hears of both in order, each once."""
    answers = threading.Event()
    with receiver() as there:
        there.before = lambda: answers.wait(120) and None
        here.environ["RECONCILER_NOTIFY"] = there.url
        with watching(here) as watch:
            for count in (1, 2):
                here.kill(id_of(here, "web"))
                watch.until("incident_closed", subject="web", count=count)
            assert there.asked == []
            answers.set()
            there.took(4)
    assert [one.body["type"] for one in there.asked] == ["incident_opened", "incident_closed"] * 2
    assert len({one.headers["Idempotency-Key"] for one in there.asked}) == 4


def test_a_receiver_that_is_in_trouble_hears_of_each_incident_once(here: Folder) -> None:
    with receiver() as there:
        there.answers = [503]
        here.environ["RECONCILER_NOTIFY"] = there.url
        with watching(here, "--listen", "0") as watch:
            here.kill(id_of(here, "web"))
            watch.until("incident_closed", subject="web")
            there.took(3)
            delivered = 'reconciler_notifications_total{outcome="delivered",stack="beside"} 2.0'
            port = int(watch.until("watch_listening")["address"].rpartition(":")[2])
            watch.until_that(lambda: delivered in got(port, "/metrics"), "the count of both")
    keys = [one.headers["Idempotency-Key"] for one in there.asked]
    assert keys[0] == keys[1], "the same delivery again"
    assert len(set(keys)) == 2
    assert watch.errors.count("it answers 503; it is tried again") == 1


def test_one_look_is_no_service_that_systemd_could_wait_for(here: Folder, notified: Notified) -> None:
    here("watch", "--once")
    notified.nothing()


def test_one_look_serves_no_metrics(here: Folder) -> None:
    before = here.state()
    here.kill(id_of(here, "web"))
    told = here("watch", "--once", "--listen", "0", code=64).stderr
    assert "--listen" in told
    assert "leave one of them out" in told
    assert here.state() == before


def test_one_look_tells_webhooks_and_the_audit_log(here: Folder) -> None:
    with receiver() as there:
        here.kill(id_of(here, "web"))
        here("watch", "--once", "-q", "--audit", "audit.log", environ={"RECONCILER_NOTIFY_SLACK": there.url})
        assert [bool(one.body["blocks"]) for one in there.asked] == [True, True]
    audit = [json.loads(line) for line in (here.path / "audit.log").read_text().splitlines()]
    assert [line["type"] for line in audit if line["type"] != "incident_closed"] == [
        "started", "incident_opened", "correction", "stopped",
    ]  # fmt: skip
    assert audit[0]["interval"] == 0
