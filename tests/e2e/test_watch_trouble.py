"""`watch` while something else is in trouble: each ends well, and is told once when it begins and once when it is over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.model.desired import Address
from tests.backends.docker.private_engine import lacks, private_engine
from tests.crash.test_damage import fill, small_disk
from tests.e2e.test_watch import THREE, id_of
from tests.support.cli import Folder, folder
from tests.support.docker import Images
from tests.support.required import skip_unless
from tests.support.watching import watching

BOTH = """version: 1
stack: both
backends:
  here: {{type: process}}
  engine: {{type: docker, host: "{url}", timeout: 5s}}
sandboxes:
  web: {{backend: here}}
  box: {{backend: engine, image: {image}, network: {{mode: isolated}}, readiness: none}}
  near: {{backend: here, depends_on: [box]}}
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    with folder(tmp_path) as made:
        made.write(THREE)
        yield made


def test_a_full_disk_is_told_and_when_there_is_room_again_all_is_put_back(here: Folder) -> None:
    here("apply", "--auto-approve")
    state = here.path / "state"
    with small_disk(state), watching(here) as watch:
        filler = fill(state, but=0)
        here.kill(id_of(here, "db"))
        store = watch.until("incident_opened", kind="store")
        assert "No space left on device" in store["summary"]
        filler.unlink()
        watch.until("correction", address="db", ok=True)
        watch.until("incident_closed", kind="store")
        watch.until("look", drifted=0, ready=3)
        assert len(watch.of("incident_opened", kind="store")) == 1
    # the directory is back as it was before the small disk
    assert "web[0]" in here("status").stdout


def test_a_state_that_cannot_be_read_is_told_and_nothing_is_touched_until_it_can(here: Folder) -> None:
    here("apply", "--auto-approve")
    [file] = (here.path / "state").glob("*.json")
    kept = file.read_bytes()
    with watching(here) as watch:
        file.write_bytes(kept[: len(kept) // 2])
        watch.until("incident_opened", kind="store")
        here.kill(next(name for name in here.sandboxes() if name.startswith("db")))
        looks = len(watch.of("look"))
        file.write_bytes(kept)
        watch.until("incident_closed", kind="store")
        watch.until("correction", address="db", ok=True)
        assert len(watch.of("look")) > looks


def test_an_engine_that_dies_and_returns(here: Folder, short: Path) -> None:
    """What is on it is unknown, not gone; what is elsewhere and needs nothing of it is put back all the same."""
    missing = lacks()
    skip_unless(not missing, missing)
    with private_engine(short) as engine:
        client = engine.client()
        image = Images(client).agent
        client.close()
        here.write(BOTH.format(url=engine.url, image=image))
        here("apply", "--auto-approve")
        record = here.state()["sandboxes"]["box"]
        with watching(here) as watch:
            engine.kill()
            lost = watch.until("incident_opened", kind="backend", subject="engine")
            assert "engine" in lost["summary"]
            here.kill(id_of(here, "web"))
            watch.until("correction", address="web", ok=True)
            here.kill(id_of(here, "near"))
            blind = watch.until("look", count=len(watch.of("look")) + 2)
            assert (blind["drifted"], blind["failures"].keys()) == (0, {"engine"})
            engine.start()
            watch.until("incident_closed", kind="backend", subject="engine")
            watch.until("correction", address="box", ok=True)
            watch.until("correction", address="near", ok=True)
            watch.until("look", drifted=0, ready=3)
            assert len(watch.of("incident_opened", kind="backend")) == 1
            assert [told["address"] for told in watch.of("correction")] == ["web", "box", "near"]
        assert here.state()["sandboxes"]["box"]["sandbox_id"] == record["sandbox_id"]
        here("destroy", "--auto-approve")


@pytest.fixture
def short() -> Iterator[Path]:
    """A socket's path must not be long."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="rw") as name:
        yield Path(name)


def test_a_configuration_that_is_gone_is_told_and_the_one_before_goes_on(here: Folder) -> None:
    here("apply", "--auto-approve")
    with watching(here) as watch:
        os.rename(here.path / "sandboxes.yaml", here.path / "aside")
        watch.until("incident_opened", kind="configuration")
        here.kill(id_of(here, "db"))
        watch.until("correction", address=Address("db"), ok=True)
        os.rename(here.path / "aside", here.path / "sandboxes.yaml")
        watch.until("incident_closed", kind="configuration")
