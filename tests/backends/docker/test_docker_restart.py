"""A container started again on the real engine: what it holds stays, what a stop takes away is put back."""

from __future__ import annotations

import shutil
import socket
import stat
import time
from pathlib import Path

import pytest

from reconciler.backends.docker import DockerBackend
from reconciler.errors import Conflict, NotFound, Permanent, Transient, Unavailable
from reconciler.model.desired import Network, Port, ProbeKind, Readiness, Resources, SandboxSpec, Security
from reconciler.model.observed import Phase, SandboxInfo
from tests.backends.docker.conftest import OOM_TRIES, OPEN, Lab, a_secret
from tests.backends.docker.wire import Wire
from tests.support.docker import get_json

UNASKED = Readiness(kind=ProbeKind.NONE)  # else who waits for it finds out how it is

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]
SECRETS = {"TOKEN": a_secret("first-value"), "OTHER": a_secret("second-value")}


def sh(backend: DockerBackend, info: SandboxInfo, script: str) -> str:
    done = backend.exec(info, ["sh", "-c", script])
    return (done.stdout + done.stderr).strip()


def killed(lab: Lab, info: SandboxInfo) -> SandboxInfo:
    lab.stack.client.api.kill(info.container_id)
    return lab.dead(info)


def phase(lab: Lab, info: SandboxInfo) -> Phase:
    seen = lab.backend.look(info.sandbox_id)
    assert seen is not None
    return seen.phase


def test_it_answers_again_at_the_port_that_the_engine_gives_it(lab: Lab) -> None:
    spec = lab.spec(network=OPEN)
    info = lab.backend.create(None, lab.id(), spec=spec)
    again = lab.backend.restart(killed(lab, info), spec)
    assert again.container_id == info.container_id
    assert again.sandbox_url.endswith(f":{again.ports['http']}")
    assert again == lab.backend.discover(info.sandbox_id)
    assert get_json(again.sandbox_url)["version"] == "1"


def test_one_that_is_paused_is_stopped_and_started(lab: Lab) -> None:
    info = lab.running()
    started = lab.raw(info)["State"]["StartedAt"]
    lab.stack.client.api.pause(info.container_id)
    begun = time.monotonic()
    lab.backend.restart(info, lab.spec())
    assert lab.raw(info)["State"]["StartedAt"] != started
    assert phase(lab, info) is Phase.STARTING
    assert time.monotonic() - begun < 15


def test_one_that_ignores_being_asked_is_made_to_end(lab: Lab) -> None:
    spec = lab.spec(image=lab.stack.images.deaf, security=Security(init=False))
    info = lab.backend.create(None, lab.id(), spec=spec)
    process = lab.raw(info)["State"]["Pid"]
    lab.backend.restart(info, spec)
    assert lab.raw(info)["State"]["Pid"] != process
    assert lab.backend.is_alive(info)


def test_one_that_was_made_and_never_started_is_started(lab: Lab, wire: Wire) -> None:
    sandbox_id, spec = lab.id(), lab.spec(secrets=SECRETS)
    with wire.fault(r"POST \S*/start", first=wire.close, swallow=True), pytest.raises(Unavailable):
        lab.make(wire.url).create(None, sandbox_id, spec=spec)
    info = lab.backend.restart(SandboxInfo(sandbox_id, ""), spec)
    assert sh(lab.backend, info, "cat $TOKEN_FILE") == "first-value"


# -- secrets


@pytest.mark.parametrize("remote", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize(
    "lost", [pytest.param(False, id="still there"), pytest.param(True, id="gone, as after a reboot")]
)
def test_secret_files_are_there_again(lab: Lab, tcp: Wire, remote: bool, lost: bool) -> None:
    backend = lab.make(tcp.url) if remote else lab.backend
    spec = lab.spec(secrets=SECRETS, security=Security(user="1000"))
    info = killed(lab, backend.create(None, lab.id(), spec=spec))
    if lost and lab.secrets_root.exists():
        shutil.rmtree(lab.secrets_root)
    backend.restart(info, spec)
    assert sh(backend, info, "cat $TOKEN_FILE $OTHER_FILE; stat -c '%a %u' $TOKEN_FILE") == (
        "first-valuesecond-value400 1000"
    )
    backend.destroy(info)
    assert list(lab.secrets_root.rglob("TOKEN")) == []
    assert lab.volumes(info.sandbox_id) == []


@pytest.mark.parametrize("damage", ["one is missing", "a restart was killed while it wrote"])
def test_what_is_there_by_halves_is_made_whole(lab: Lab, damage: str) -> None:
    spec = lab.spec(secrets=SECRETS)
    info = killed(lab, lab.backend.create(None, lab.id(), spec=spec))
    [file] = lab.secrets_root.rglob("TOKEN")
    file.parent.chmod(0o700)
    if damage == "one is missing":
        file.unlink()
        file.parent.chmod(0o555)
    else:
        file.chmod(0o600)
        file.write_text("first-")
    lab.backend.restart(info, spec)
    assert sh(lab.backend, info, "cat $TOKEN_FILE $OTHER_FILE") == "first-valuesecond-value"
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o555
    assert stat.S_IMODE(lab.secrets_root.stat().st_mode) == 0o700


def test_files_below_another_root_are_left_as_they_are_and_missed_when_they_are_gone(
    lab: Lab, tmp_path: Path
) -> None:
    spec = lab.spec(secrets=SECRETS)
    info = lab.backend.create(None, lab.id(), spec=spec)
    other = lab.make(secrets_root=str(tmp_path / "other"))
    other.restart(info, spec)
    assert sh(other, info, "cat $TOKEN_FILE") == "first-value"
    shutil.rmtree(lab.secrets_root)
    with pytest.raises(Permanent, match="the secrets are gone from") as raised:
        other.restart(info, spec)
    assert "secrets_root:" in raised.value.hint
    assert not (tmp_path / "other").exists()
    assert len(lab.labelled(info.sandbox_id)) == 1


def test_a_secret_without_a_value_is_refused_before_anything_is_stopped(lab: Lab) -> None:
    info = lab.running()
    unresolved = a_secret("x")
    spec = SandboxSpec(secrets={"TOKEN": type(unresolved)(source="env X", kind="env", target=("X",))})
    with pytest.raises(Permanent, match="the secret TOKEN has no value"):
        lab.backend.restart(info, spec)
    assert lab.backend.is_alive(info)


# -- what cannot be started


def test_one_that_ends_at_once_is_an_error_with_its_last_words_and_stays(lab: Lab) -> None:
    spec = lab.spec(image=lab.stack.images.crash, readiness=UNASKED)
    info = lab.dead(lab.backend.create(None, lab.id(), spec=spec))
    with pytest.raises(Permanent) as raised:
        lab.backend.restart(info, spec)
    assert "ended right after it was started again: exit code 3: crash: " in raised.value.message
    assert raised.value.message.endswith("crash: no settings found; crash: giving up")
    assert raised.value.hint
    assert phase(lab, info) is Phase.FAILED


def test_one_that_runs_out_of_memory_again_says_so(lab: Lab) -> None:
    spec = lab.spec(
        command=("sh", "-c", "tail /dev/zero"),
        resources=Resources(memory=8 << 20),
        security=Security(init=False),
        readiness=UNASKED,
    )
    info = lab.dead(lab.backend.create(None, lab.id(), spec=spec))
    for _ in range(OOM_TRIES):
        with pytest.raises(Permanent, match=r"exit code 137 \(SIGKILL\)") as raised:
            lab.backend.restart(info, spec)
        if "exit code 137 (SIGKILL), out of memory" in raised.value.message:
            return
    pytest.fail(f"never told as out of memory: {raised.value.message}")


def test_a_declared_port_that_was_taken_is_a_conflict_and_the_container_stays(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    spec = lab.spec(network=OPEN, ports=(Port(name="http", container=8080, host=port),))
    info = killed(lab, lab.backend.create(None, lab.id(), spec=spec))
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Conflict, match=str(port)) as raised:
        lab.backend.restart(info, spec)
    assert "free it" in raised.value.hint
    assert lab.backend.restart(info, spec) == info


def test_a_network_that_is_gone_is_not_taken_for_the_absence_of_the_sandbox(lab: Lab) -> None:
    network = lab.stack.network()
    spec = lab.spec(network=Network(name=network))
    info = killed(lab, lab.backend.create(None, lab.id(), spec=spec))
    lab.stack.client.networks.get(network).remove()
    with pytest.raises((Permanent, Transient), match="network") as raised:
        lab.backend.restart(info, spec)
    assert not isinstance(raised.value, NotFound)
    assert len(lab.labelled(info.sandbox_id)) == 1


def test_a_container_of_others_is_left_alone_unless_it_is_named_by_its_id(lab: Lab) -> None:
    name = lab.owns(f"{lab.stack.name}-stranger")
    container = lab.stack.stranger(name)
    process = lab.stack.inspect(container)["State"]["Pid"]
    with pytest.raises(Conflict, match="is not ours, so it is left alone"):
        lab.backend.restart(SandboxInfo(name, ""), lab.spec())
    assert lab.stack.inspect(container)["State"]["Pid"] == process
    again = lab.backend.restart(SandboxInfo(name, "", container_id=container), lab.spec())
    assert again.container_id == container
    assert lab.stack.inspect(container)["State"]["Pid"] != process


def test_an_engine_that_loses_the_answer_leaves_it_for_the_next_attempt(lab: Lab, wire: Wire) -> None:
    info = killed(lab, lab.running())
    with wire.fault(r"POST \S*/start", first=wire.close, lose=True), pytest.raises(Unavailable):
        lab.make(wire.url).restart(info, lab.spec())
    assert lab.backend.restart(info, lab.spec()).container_id == info.container_id
    assert lab.backend.is_alive(info)
