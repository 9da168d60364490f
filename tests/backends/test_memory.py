"""The in-memory backend: time, worlds, what happens behind the tool's back, and its file."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.backends.memory import MemoryBackend
from reconciler.errors import Conflict, NotFound
from reconciler.model.desired import Network, NetworkMode, Port, ProbeKind, Readiness, Resources, SandboxSpec
from reconciler.model.drift import Cause, Provenance
from reconciler.model.observed import Phase
from reconciler.testing.backend_conformance import an_owner
from reconciler.testing.event_conformance import Hints


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def backend(clock: Time, tmp_path: Path) -> MemoryBackend:
    return MemoryBackend(
        world=str(tmp_path), create_seconds=0.03, ready_seconds=0.5, now=clock, sleep=clock.sleep
    )


def test_creating_and_becoming_ready_take_their_time(backend: MemoryBackend, clock: Time) -> None:
    info = backend.create(None, "a")
    assert info.created_at == clock.now == pytest.approx(1000.03)
    assert phase(backend, "a") is Phase.STARTING
    answer = backend.probe(info, Readiness(), 1.0)
    assert answer is not None
    assert not answer.ready
    clock.now += 0.5
    assert phase(backend, "a") is Phase.READY
    answer = backend.probe(info, Readiness(kind=ProbeKind.EXEC, command=("false",)), 1.0)
    assert answer is not None
    assert (answer.ready, answer.detail) == (False, "exit code 1")


def phase(backend: MemoryBackend, sandbox_id: str) -> Phase:
    seen = backend.look(sandbox_id)
    assert seen is not None
    return seen.phase


def test_worlds_are_apart(tmp_path: Path) -> None:
    one, two = MemoryBackend(world=f"{tmp_path}/1"), MemoryBackend(world=f"{tmp_path}/2")
    one.create(None, "a")
    assert two.observe() == []


def test_what_happens_outside_is_seen(backend: MemoryBackend, clock: Time) -> None:
    spec = SandboxSpec(image="aio:1", network=Network(mode=NetworkMode.OPEN), environment={"A": "1"})
    for sandbox_id in ("killed", "paused", "altered", "removed"):
        backend.create(None, sandbox_id, spec=spec)
    backend.kill("killed")
    backend.pause("paused")
    backend.alter("altered", "environment.A", "2")
    backend.alter("altered", "image", None)
    backend.remove("removed")
    seen = {s.info.sandbox_id: s for s in backend.observe()}
    assert seen.keys() == {"altered", "killed", "paused"}
    assert (seen["killed"].phase, seen["killed"].detail) == (Phase.FAILED, "exit code 137")
    assert seen["paused"].phase is Phase.PAUSED
    assert seen["altered"].attributes == {"environment.A": "2", "network.mode": "open"}
    with pytest.raises(NotFound):
        backend.kill("removed")


def test_update_changes_resources_and_owner_and_nothing_else(backend: MemoryBackend) -> None:
    before = SandboxSpec(
        image="aio:1", resources=Resources(cpu=1, memory=5, pids=9), labels={"team": "a"}, owner=an_owner()
    )
    info = backend.create(None, "a", spec=before)
    after = SandboxSpec(
        image="aio:2",
        resources=Resources(cpu=2.5, memory=5),
        labels={"team": "b"},
        owner=an_owner(generation=2),
    )
    assert backend.update(info, after) == info
    seen = backend.look("a")
    assert seen is not None
    assert seen.owner == an_owner(generation=2)
    assert seen.attributes == {
        "image": "aio:1",
        "labels.team": "a",
        "resources.cpu": 2.5,
        "resources.memory": 5,
    }


def test_a_restart_takes_as_long_to_be_ready_and_keeps_the_instance_and_its_ports(
    backend: MemoryBackend, clock: Time
) -> None:
    ports = (Port(name="web", container=80), Port(name="fixed", container=81, host=4000))
    info = backend.create(None, "a", spec=SandboxSpec(ports=ports, owner=an_owner(protected=True)))
    clock.now += 0.5
    backend.kill("a")
    assert backend.restart(info, SandboxSpec()) == info
    assert phase(backend, "a") is Phase.STARTING
    clock.now += 0.5
    seen = backend.look("a")
    assert seen is not None
    assert (seen.phase, seen.detail, seen.owner) == (Phase.READY, "", an_owner(protected=True))
    backend.restart(info, SandboxSpec())
    assert phase(backend, "a") is Phase.STARTING
    assert list(backend.logs(info))[-1] == "restarted"


def test_every_sandbox_gets_ports_of_its_own(backend: MemoryBackend) -> None:
    spec = SandboxSpec(
        ports=(Port(name="http", container=8080), Port(name="vnc", container=5900, host=20001))
    )
    one = backend.create(None, "one", spec=spec)
    assert one.ports == {"http": 20000, "vnc": 20001}
    assert backend.create(None, "two").ports == {"http": 20002}
    with pytest.raises(Conflict, match="port 20001 is taken"):
        backend.create(None, "three", spec=spec)


def test_five_thousand_are_made_in_reasonable_time(tmp_path: Path) -> None:
    backend = MemoryBackend(world=str(tmp_path))
    for number in range(5000):
        backend.create(None, f"s-{number}")
    assert len({seen.info.ports["http"] for seen in backend.observe()}) == 5000


def test_what_is_done_to_it_is_told_at_once_and_remembered_until_it_is_undone(
    backend: MemoryBackend, clock: Time
) -> None:
    told: list[str] = []
    for sandbox_id in ("killed", "paused", "altered", "removed", "well"):
        backend.create(None, sandbox_id)
    subscription = backend.listen(told.append)
    backend.kill("killed", "exit code 3", Cause.CRASHED)
    backend.pause("paused")
    backend.alter("altered", "image", "other")
    backend.remove("removed")
    assert told == ["killed", "paused", "altered", "removed"]
    assert backend.provenance(["killed", "paused", "altered", "removed", "well", "never"]) == {
        "killed": Provenance(cause=Cause.CRASHED, detail="exit code 3", at=clock.now),
        "paused": Provenance(cause=Cause.PAUSED, detail="paused by hand", at=clock.now),
        "altered": Provenance(cause=Cause.EDITED, at=clock.now),
        "removed": Provenance(cause=Cause.REMOVED, at=clock.now),
    }
    backend.restart(backend.create(None, "altered"), SandboxSpec())
    backend.destroy(backend.create(None, "removed"))
    assert told[4:] == ["altered", "altered", "removed", "removed"]
    assert backend.provenance(["altered", "removed"]) == {}
    backend.close()
    subscription.close()
    backend.kill("well")
    assert len(told) == 8


# -- with a file


def test_another_process_sees_and_changes_the_same_world(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "world.json"
    backend = MemoryBackend(path=str(path))
    mine = backend.create("t-1", "mine", spec=SandboxSpec(environment={"A": "ü"}, owner=an_owner()))
    script = (
        "import sys; from reconciler.backends.memory import MemoryBackend\n"
        "b = MemoryBackend(path=sys.argv[1])\n"
        "assert b.look('mine').owner.stack == 'conformance'\n"
        "b.create(None, 'theirs'); b.kill('mine')\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(path)], check=True, cwd=Path(__file__).parents[2], timeout=30
    )
    seen = {s.info.sandbox_id: s for s in backend.observe()}
    assert seen["mine"].phase is Phase.FAILED
    assert seen["mine"].info == mine
    assert seen["theirs"].info.ports != mine.ports
    assert [p.name for p in path.parent.iterdir() if p.name.endswith(".new")] == []


def test_what_another_process_does_to_a_file_is_told_with_its_cause(tmp_path: Path) -> None:
    path, hints = str(tmp_path / "world.json"), Hints()
    backend = MemoryBackend(path=path)
    backend.create(None, "killed")
    backend.create(None, "removed")
    backend.listen(hints)
    script = (
        "import sys; from reconciler.backends.memory import MemoryBackend\n"
        "b = MemoryBackend(path=sys.argv[1])\n"
        "b.kill('killed'); b.remove('removed')\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, path], check=True, cwd=Path(__file__).parents[2], timeout=30
    )
    hints.wait("killed")
    hints.wait("removed")
    backend.close()
    origins = backend.provenance(["killed", "removed"])
    assert {name: origin.cause for name, origin in origins.items()} == {
        "killed": Cause.KILLED,
        "removed": Cause.REMOVED,
    }


def test_concurrent_changes_of_a_file_are_all_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "world.json")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: MemoryBackend(path=path).create(None, f"s-{n}"), range(24)))
    assert len(MemoryBackend(path=path).list_running()) == 24
    assert len(Path(path).read_text().splitlines()) == 24


def test_a_line_that_was_never_finished_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    MemoryBackend(path=str(path)).create(None, "one")
    with path.open("a") as file:
        file.write('["two", {"sandbox_')
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    late = MemoryBackend(path=str(copy))
    assert [info.sandbox_id for info in late.list_running()] == ["one"]
    late.create(None, "three")
    assert sorted(info.sandbox_id for info in MemoryBackend(path=str(copy)).list_running()) == [
        "one",
        "three",
    ]
