"""The creator is killed at every step of a creation, for real; whoever comes next finds one sandbox or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.backends.process import ProcessBackend
from reconciler.errors import Conflict
from reconciler.model.desired import Address, SandboxSpec
from reconciler.model.observed import Phase, SandboxInfo
from reconciler.testing.backend_conformance import an_owner
from tests.backends.processes import ISOLATIONS, eventually, left_with, parent, pids, processes_with, runs

POINTS = ("locked", "recorded", "spawned", "told", "started")
CREATOR = """
import os, sys
from reconciler.backends.process import ProcessBackend
from reconciler.model.desired import SandboxSpec
from reconciler.testing.backend_conformance import an_owner

root, isolation, deadly = sys.argv[1:]

def die(point):
    if point == deadly:
        os.kill(os.getpid(), 9)

backend = ProcessBackend(root, isolation, checkpoint=die)
print(backend.create(None, "half", spec=SandboxSpec(owner=an_owner())).container_id)
"""


@pytest.fixture(params=ISOLATIONS)
def backend(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ProcessBackend]:
    backend = ProcessBackend(str(tmp_path / "state"), request.param)
    yield backend
    backend.destroy(SandboxInfo("half", ""))
    assert left_with(backend.root) == []


def create_and_die(backend: ProcessBackend, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CREATOR, backend.root, backend.isolation, point],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def keepers(backend: ProcessBackend) -> list[int]:
    """Without those that a keeper has just forked and that are about to become something else."""
    found = processes_with(f"sandboxd/keeper.py\0{backend.root}/half\0")
    return [pid for pid in found if parent(pid) not in found]


@pytest.mark.parametrize("point", POINTS)
def test_creating_again_makes_it_exactly_once(backend: ProcessBackend, point: str) -> None:
    create_and_die(backend, point)
    info = backend.create(None, "half", spec=SandboxSpec(owner=an_owner()))
    assert backend.list_running() == [info]
    assert backend.exec(info, ["true"]).exit_code == 0
    assert keepers(backend) == [pids(Path(backend.root), "half")["keeper"]]


@pytest.mark.parametrize("point", POINTS)
def test_a_listing_names_what_is_there_and_changes_nothing(backend: ProcessBackend, point: str) -> None:
    create_and_die(backend, point)
    eventually(lambda: all(seen.phase is not Phase.PENDING for seen in backend.observe()), "the keeper")
    phases = [(seen.phase, seen.owner, seen.detail) for seen in backend.observe()]
    alive = (Phase.STARTING, an_owner(), "")
    interrupted = (Phase.FAILED, an_owner(), "its creation was interrupted")
    expected = {
        "locked": [],
        "recorded": [interrupted],
        "spawned": [interrupted],
        "told": [alive],
        "started": [alive],
    }
    assert phases == expected[point]
    assert bool(keepers(backend)) == (alive in phases)


@pytest.mark.parametrize("point", POINTS)
def test_destroying_what_was_left_leaves_nothing(backend: ProcessBackend, point: str) -> None:
    create_and_die(backend, point)
    backend.destroy(SandboxInfo("half", ""))
    assert backend.observe() == []
    assert left_with(backend.root) == []
    assert sorted(path.name for path in Path(backend.root).iterdir()) == [".locks", ".trash"]


@pytest.mark.parametrize("point", ["recorded", "told"])
def test_half_made_ones_of_another_owner_stay_theirs(backend: ProcessBackend, point: str) -> None:
    create_and_die(backend, point)
    with pytest.raises(Conflict):
        backend.create(None, "half", spec=SandboxSpec(owner=an_owner(address=Address("db"))))


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.02, 0.03, 0.05, 0.08])
def test_killed_at_any_time_nothing_is_doubled(backend: ProcessBackend, delay: float) -> None:
    creator = subprocess.Popen(
        [sys.executable, "-c", CREATOR, backend.root, backend.isolation, ""],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    locks = Path(backend.root) / ".locks" / "half"
    eventually(locks.exists, "the creator to begin")
    time.sleep(delay)
    creator.kill()
    creator.wait()
    info = backend.create(None, "half", spec=SandboxSpec(owner=an_owner()))
    assert backend.list_running() == [info]
    assert len(keepers(backend)) == 1


def test_what_a_kill_left_of_one_that_nobody_wants_any_more_is_swept(backend: ProcessBackend) -> None:
    """Killed before the directory has its name; nothing of that id is created or destroyed ever again."""
    watched = (
        "from tests.crash import points\n"
        "wanted = points.Point('before', 'rename', 'backends/process/records.py:place', 1)\n"
        "points.Watch(lambda point: points.die() if point == wanted else None).begin()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", watched + CREATOR, backend.root, backend.isolation, ""],
        cwd=Path(__file__).parents[2],
        timeout=30,
    )
    assert done.returncode == -signal.SIGKILL
    assert backend.observe() == []
    trash = Path(backend.root) / ".trash"
    [left] = trash.iterdir()
    os.utime(left, (time.time() - 3600,) * 2)
    backend.create(None, "other", spec=SandboxSpec(owner=an_owner()))
    backend.destroy(SandboxInfo("other", ""))
    assert list(trash.iterdir()) == []
    assert [path.name for path in Path(backend.root).iterdir() if path.name.startswith(".new")] == []


def test_a_creation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(point: str) -> None:
        if point == "spawned":
            raise RuntimeError("the disk is on fire")

    backend = ProcessBackend(str(tmp_path / "state"), "none", checkpoint=fail)
    with pytest.raises(RuntimeError):
        backend.create(None, "half")
    assert backend.observe() == []
    assert left_with(backend.root) == []


def test_two_processes_see_each_others_sandboxes(backend: ProcessBackend) -> None:
    create_and_die(backend, "started")
    script = (
        "import sys; from reconciler.backends.process import ProcessBackend; "
        "b = ProcessBackend(sys.argv[1], sys.argv[2]); b.create(None, 'theirs'); print(b.discover('half').sandbox_url)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, backend.root, backend.isolation],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    mine, theirs = backend.list_running()
    assert (mine.sandbox_id, theirs.sandbox_id) == ("half", "theirs")
    assert mine.sandbox_url == done.stdout.strip()
    backend.destroy(theirs)


def test_creating_and_destroying_at_once_ends_in_one_or_none(backend: ProcessBackend) -> None:
    def create(_: int) -> object:
        return backend.create(None, "half")

    def destroy(_: int) -> object:
        return backend.destroy(SandboxInfo("half", ""))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: (create, destroy)[n % 2](n), range(12)))
    seen = backend.look("half")
    assert len(keepers(backend)) == (0 if seen is None else 1)
    assert all(runs(pid) for pid in keepers(backend))
