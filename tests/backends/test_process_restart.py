"""A sandbox of the embedded backend started again: what stays, what may change, and what a kill in between leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.backends.process import ProcessBackend
from reconciler.backends.process.launch import LONG_LOG
from reconciler.errors import Permanent, Transient
from reconciler.model.desired import Port, SandboxSpec, Secret, SecretRef
from reconciler.model.observed import Phase, SandboxInfo
from reconciler.testing.backend_conformance import an_owner
from tests.backends.processes import (
    ISOLATIONS,
    eventually,
    left_with,
    parent,
    pids,
    processes_with,
    runs,
    server_pid,
)

POINTS = ("locked", "ended", "recorded", "spawned", "told", "started")
RESTARTER = """
import os, sys
from reconciler.backends.process import ProcessBackend
from reconciler.model.desired import SandboxSpec
from reconciler.model.observed import SandboxInfo
from reconciler.testing.backend_conformance import an_owner

root, isolation, deadly = sys.argv[1:]

def die(point):
    if point == deadly:
        os.kill(os.getpid(), 9)

backend = ProcessBackend(root, isolation, checkpoint=die)
backend.restart(SandboxInfo("again", ""), SandboxSpec(owner=an_owner()))
"""
SPEC = SandboxSpec(owner=an_owner())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(params=ISOLATIONS)
def backend(root: Path, request: pytest.FixtureRequest) -> Iterator[ProcessBackend]:
    backend = ProcessBackend(str(root), request.param)
    yield backend
    backend.destroy(SandboxInfo("again", ""))
    assert left_with(backend.root) == []


def sh(backend: ProcessBackend, info: SandboxInfo, script: str) -> str:
    return backend.exec(info, ["sh", "-c", script]).stdout


def holding(backend: ProcessBackend, spec: SandboxSpec = SPEC) -> SandboxInfo:
    """A sandbox with a file in its home."""
    info = backend.create(None, "again", spec=spec)
    sh(backend, info, "echo precious > held")
    return info


def killed(backend: ProcessBackend, which: str = "main") -> None:
    root = Path(backend.root)
    server_pid(root, "again")
    os.kill(pids(root, "again")[which], signal.SIGKILL)
    eventually(lambda: phase(backend).is_dead, "it to be dead")
    if which == "main":
        eventually(lambda: keepers(backend) == [], "its keeper to end, and with it all that has its port")


def phase(backend: ProcessBackend) -> Phase:
    seen = backend.look("again")
    assert seen is not None
    return seen.phase


def keepers(backend: ProcessBackend) -> list[int]:
    """Without those that a keeper has just forked and that are about to become something else."""
    found = processes_with(f"sandboxd/keeper.py\0{backend.root}/again\0")
    return [pid for pid in found if parent(pid) not in found]


def a_secret(value: str, delivery: str = "file") -> SecretRef:
    return SecretRef(
        source="env X", kind="env", target=("X",), digest="d" * 32, delivery=delivery, value=Secret(value)
    )


@contextlib.contextmanager
def taken(port: int) -> Iterator[None]:
    """By another program."""
    with socket.create_server(("127.0.0.1", port)):
        yield


# -- what stays


@pytest.mark.parametrize("which", ["main", "keeper"])
def test_its_address_key_and_record_stay_and_its_processes_are_others(
    backend: ProcessBackend, root: Path, which: str
) -> None:
    info = holding(backend)
    key, record = backend.request_headers(info), (root / "again" / "record.json").read_text()
    before = pids(root, "again")
    killed(backend, which)
    assert backend.restart(info, SPEC) == info
    assert backend.request_headers(info) == key
    assert (root / "again" / "record.json").read_text() == record
    assert sh(backend, info, "cat held") == "precious\n"
    assert keepers(backend) == [pids(root, "again")["keeper"]]
    assert not any(runs(pid) for pid in before.values())


def test_one_that_runs_is_ended_first_with_all_it_started(backend: ProcessBackend, root: Path) -> None:
    info = holding(backend)
    seconds = 100_000 + os.getpid()  # another worker's sleeper is none of ours
    sh(backend, info, f"setsid sleep {seconds} >/dev/null 2>&1 &")
    before = [*pids(root, "again").values(), *processes_with(f"sleep\000{seconds}")]
    assert backend.restart(info, SPEC) == info
    assert not any(runs(pid) for pid in before)
    assert sh(backend, info, "cat held") == "precious\n"
    assert keepers(backend) == [pids(root, "again")["keeper"]]


def test_one_that_was_stopped_by_a_signal_runs_again(backend: ProcessBackend, root: Path) -> None:
    info = holding(backend)
    os.kill(server_pid(root, "again"), signal.SIGSTOP)
    eventually(lambda: phase(backend) is Phase.PAUSED, "it to be paused")
    backend.restart(info, SPEC)
    assert sh(backend, info, "cat held") == "precious\n"


def test_how_it_ended_before_is_forgotten_and_how_it_ends_next_is_told(
    backend: ProcessBackend, root: Path
) -> None:
    info = holding(backend)
    killed(backend)
    eventually((root / "again" / "exit.json").exists, "the keeper's last word")
    backend.restart(info, SPEC)
    assert not (root / "again" / "exit.json").exists()
    killed(backend)
    eventually((root / "again" / "exit.json").exists, "the keeper's last word")
    seen = backend.look("again")
    assert seen is not None
    assert seen.detail == "exit code 137 (SIGKILL)"


@pytest.mark.parametrize("which", ["main", "keeper"])
def test_secrets_that_were_in_memory_are_there_again(backend: ProcessBackend, which: str) -> None:
    spec = SandboxSpec(
        owner=an_owner(), secrets={"TOKEN": a_secret("t0k3n"), "KEY": a_secret("k3y", "environment")}
    )
    info = holding(backend, spec)
    killed(backend, which)  # a keeper that is killed takes no file away
    backend.restart(info, spec)
    assert sh(backend, info, "cat $TOKEN_FILE; echo $KEY; stat -c %a $TOKEN_FILE") == "t0k3nk3y\n400\n"


def test_a_secret_without_a_value_is_refused_before_anything_is_stopped(backend: ProcessBackend) -> None:
    info = holding(backend)
    unresolved = SecretRef(source="env X", kind="env", target=("X",))
    with pytest.raises(Permanent, match="secret TOKEN has no value"):
        backend.restart(info, SandboxSpec(owner=an_owner(), secrets={"TOKEN": unresolved}))
    assert sh(backend, info, "cat held") == "precious\n"


@pytest.mark.skipif("bubblewrap" not in ISOLATIONS, reason="mounts need bubblewrap")
def test_what_was_mounted_beside_its_specification_is_mounted_again(root: Path, tmp_path: Path) -> None:
    backend = ProcessBackend(str(root), "bubblewrap")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("shared")
    info = backend.create(None, "again", [(str(tmp_path / "data"), "/data", True)], spec=SPEC)
    try:
        backend.restart(info, SPEC)
        assert sh(backend, info, "cat /data/file; touch /data/new 2>/dev/null || echo no") == "sharedno\n"
    finally:
        backend.destroy(info)


# -- the port


def test_a_port_that_another_program_took_is_changed_and_read_back(backend: ProcessBackend) -> None:
    info = holding(backend)
    killed(backend)
    with taken(info.ports["http"]):
        again = backend.restart(info, SPEC)
        assert again.ports != info.ports
        assert str(again.ports["http"]) in again.sandbox_url
        assert backend.list_running() == [again]
        assert sh(backend, again, "cat held") == "precious\n"


def test_a_port_that_was_asked_for_is_waited_for_and_nothing_is_lost(backend: ProcessBackend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    spec = SandboxSpec(owner=an_owner(), ports=(Port(name="http", container=8080, host=port),))
    info = holding(backend, spec)
    killed(backend)
    with taken(port), pytest.raises(Transient, match=f"port {port} on 127.0.0.1 is in use"):
        backend.restart(info, spec)
    assert phase(backend).is_dead
    assert backend.restart(info, spec) == info
    assert sh(backend, info, "cat held") == "precious\n"


# -- interrupted


def test_a_restart_that_fails_leaves_a_dead_one_with_all_it_held(root: Path) -> None:
    def fail(point: str) -> None:
        if point == "told" and failing:
            raise RuntimeError("the disk is on fire")

    failing = False
    backend = ProcessBackend(str(root), "none", checkpoint=fail)
    info = holding(backend)
    try:
        failing = True
        with pytest.raises(RuntimeError):
            backend.restart(info, SPEC)
        assert phase(backend).is_dead
        assert keepers(backend) == []
        failing = False
        backend.restart(info, SPEC)
        assert sh(backend, info, "cat held") == "precious\n"
    finally:
        backend.destroy(info)


def restart_and_die(backend: ProcessBackend, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RESTARTER, backend.root, backend.isolation, point],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("was", ["running", "dead"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_half_way_it_is_dead_or_runs_and_holds_what_it_held(
    backend: ProcessBackend, root: Path, point: str, was: str
) -> None:
    info = holding(backend)
    if was == "dead":
        killed(backend)
    restart_and_die(backend, point)
    runs_on = point in ("told", "started") or (point, was) == ("locked", "running")
    eventually(lambda: phase(backend) is Phase.STARTING or not runs_on, "the keeper")
    eventually(lambda: len(keepers(backend)) == int(runs_on), "what was begun to end")
    assert phase(backend).is_dead is not runs_on
    assert (root / "again" / "workspace" / "held").read_text() == "precious\n"
    assert backend.restart(info, SPEC) == info
    assert backend.list_running() == [info]
    assert sh(backend, info, "cat held") == "precious\n"
    assert keepers(backend) == [pids(root, "again")["keeper"]]


@pytest.mark.parametrize("point", POINTS)
def test_destroying_what_was_left_leaves_nothing(backend: ProcessBackend, root: Path, point: str) -> None:
    holding(backend)
    restart_and_die(backend, point)
    backend.destroy(SandboxInfo("again", ""))
    assert backend.observe() == []
    assert left_with(backend.root) == []
    assert sorted(path.name for path in root.iterdir()) == [".locks", ".trash"]


def test_of_a_long_log_the_newest_half_stays(backend: ProcessBackend) -> None:
    info = holding(backend)
    log = Path(backend.root) / "again" / "log"
    line = "x" * 1023 + "\n"
    with log.open("a") as file:
        file.write("first\n" + line * (LONG_LOG // 1024) + "last\n")
    backend.restart(info, SPEC)
    said = list(backend.logs(info))
    assert log.stat().st_size <= LONG_LOG // 2 + 4096
    assert (log.stat().st_mode & 0o777, list(log.parent.glob("log*"))) == (0o600, [log])
    assert "first" not in said
    assert "last" in said
    assert {len(each) for each in said[:100]} == {1023}
    assert eventually(lambda: "serving" in list(backend.logs(info))[-1], "it to say so in what is left")


def test_a_log_of_common_length_stays_whole(backend: ProcessBackend) -> None:
    info = holding(backend)
    before = list(backend.logs(info))
    backend.restart(info, SPEC)
    assert list(backend.logs(info))[: len(before)] == before
