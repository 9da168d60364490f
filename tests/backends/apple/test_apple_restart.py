"""A container of Apple's engine started again: its disk and ports stay, its secrets are made whole."""

from __future__ import annotations

import shutil
import socket
import stat
from pathlib import Path

import pytest

from reconciler.backends.apple import AppleBackend
from reconciler.engine.ready import wait_for_sandbox_ready
from reconciler.errors import Conflict, NotFound, Permanent, Unavailable
from reconciler.model.desired import Port, SandboxSpec
from reconciler.model.observed import SandboxInfo
from tests.backends.apple.builders import backend_on, secret
from tests.backends.fake_container import Engine

SECRETS = {"TOKEN": secret("first-value"), "OTHER": secret("second-value")}


@pytest.fixture
def backend(engine: Engine, tmp_path: Path) -> AppleBackend:
    return backend_on(engine, tmp_path)


def mounted(engine: Engine, name: str) -> Path:
    """What the engine shows where secrets are."""
    mounts = engine.container(name)["configuration"]["mounts"]
    [source] = [mount["source"] for mount in mounts if mount["destination"] == "/run/secrets"]
    return Path(source)


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_restart_stops_then_starts_then_looks(engine: Engine, backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    engine.forget_calls()
    again = backend.restart(info, SandboxSpec())
    name = "reconciler-a1"
    assert engine.calls() == [
        ["inspect", name],
        ["stop", "-t", "10", name],
        ["start", name],
        ["inspect", name],
    ]
    assert again.ports == info.ports
    assert wait_for_sandbox_ready(again.sandbox_url, 10)


def test_one_that_does_not_run_is_only_started(engine: Engine, backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    backend.create(None, "a2")
    engine.kill("reconciler-a1")
    engine.forget_calls()
    assert backend.restart(info, SandboxSpec()).container_id == info.container_id
    assert [call[0] for call in engine.calls()] == ["inspect", "start", "inspect"]


@pytest.mark.parametrize("damage", ["none", "all are gone", "one is missing", "half written"])
def test_secret_files_are_whole_again(
    engine: Engine, backend: AppleBackend, tmp_path: Path, damage: str
) -> None:
    spec = SandboxSpec(secrets=SECRETS)
    info = backend.create(None, "a1", spec=spec)
    folder = mounted(engine, "reconciler-a1")
    match damage:
        case "all are gone":
            shutil.rmtree(tmp_path / "kept")
        case "one is missing":
            folder.chmod(0o700)
            (folder / "TOKEN").unlink()
            folder.chmod(0o555)
        case "half written":
            folder.chmod(0o700)
            (folder / "TOKEN").chmod(0o600)
            (folder / "TOKEN").write_text("first-")
    backend.restart(info, spec)
    assert texts(folder) == {"TOKEN": "first-value", "OTHER": "second-value"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o555
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700


def test_what_is_mounted_from_elsewhere_is_not_ours_to_make(
    engine: Engine, backend: AppleBackend, tmp_path: Path
) -> None:
    spec = SandboxSpec(secrets=SECRETS)
    info = backend.create(None, "a1", spec=spec)
    other = backend_on(engine, tmp_path, root=str(tmp_path / "other"))
    other.restart(info, spec)
    assert list((tmp_path / "other").rglob("TOKEN")) == []
    shutil.rmtree(tmp_path / "kept")
    with pytest.raises(Permanent, match="does not exist"):
        other.restart(info, spec)


def test_one_that_ends_at_once_is_an_error_with_its_last_words_and_stays(
    engine: Engine, backend: AppleBackend
) -> None:
    info = backend.create(None, "a1")
    engine.kill("reconciler-a1")
    engine.set(dies=1)
    with pytest.raises(Permanent, match="ended right after it was started again: stopped") as raised:
        backend.restart(info, SandboxSpec())
    assert "the sandbox is up; listening" in raised.value.message
    assert backend.look("a1") is not None
    backend.restart(info, SandboxSpec())
    assert backend.is_alive(info)


def test_a_declared_port_that_was_taken_is_named(engine: Engine, backend: AppleBackend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    spec = SandboxSpec(ports=(Port(name="http", container=8080, host=port),))
    info = backend.create(None, "a1", spec=spec)
    engine.kill("reconciler-a1")
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(Conflict, match=f"port {port} of 127.0.0.1"),
    ):
        backend.restart(info, spec)
    assert backend.restart(info, spec).ports == {"http": port}


def test_a_container_of_others_is_left_alone(engine: Engine, backend: AppleBackend) -> None:
    engine.add("theirs")
    engine.forget_calls()
    with pytest.raises(Conflict, match="is not ours, so it is left alone"):
        backend.restart(SandboxInfo("theirs", ""), SandboxSpec())
    assert {call[0] for call in engine.calls()} <= {"inspect", "ls"}


def test_a_failed_stop_starts_nothing(engine: Engine, backend: AppleBackend) -> None:
    info = backend.create(None, "a1")
    engine.set(fail={"stop": "internalError: no"})
    engine.forget_calls()
    with pytest.raises(Permanent, match="no"):
        backend.restart(info, SandboxSpec())
    assert "start" not in [call[0] for call in engine.calls()]


def test_a_secret_without_a_value_is_refused_before_anything_is_stopped(
    engine: Engine, backend: AppleBackend
) -> None:
    info = backend.create(None, "a1")
    unresolved = type(SECRETS["TOKEN"])(source="env X", kind="env", target=("X",))
    engine.forget_calls()
    with pytest.raises(Permanent, match="the secret TOKEN has no value"):
        backend.restart(info, SandboxSpec(secrets={"TOKEN": unresolved}))
    assert engine.calls() == []


def test_one_that_is_gone_is_not_found_and_an_engine_that_is_down_is_not_that(
    engine: Engine, backend: AppleBackend
) -> None:
    with pytest.raises(NotFound):
        backend.restart(SandboxInfo("a1", ""), SandboxSpec())
    engine.set(system="stopped")
    with pytest.raises(Unavailable):
        backend.restart(SandboxInfo("a1", ""), SandboxSpec())
