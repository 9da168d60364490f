"""Behaviours 10 to 15 of the system that came before, kept or mended, on the real engine. Each test names its one."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from reconciler.errors import Conflict, Transient, Unavailable
from reconciler.model.desired import Mount, Port, Security
from reconciler.model.observed import SandboxInfo
from tests.backends.docker.conftest import OPEN, Lab, a_secret
from tests.backends.docker.private_engine import PrivateEngine
from tests.backends.docker.wire import Wire, answer
from tests.support.docker import Images, eventually, get_json

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]


def test_behaviour_10_a_name_is_prefix_and_id(lab: Lab) -> None:
    assert lab.running("a").container_name.startswith("reconciler-a-")  # type: ignore[union-attr]
    sandbox_id = lab.id()
    other = lab.make(prefix="deer-flow-sandbox")
    info = other.create(None, sandbox_id, spec=lab.spec())
    assert lab.raw(info)["Name"] == f"/deer-flow-sandbox-{sandbox_id}"
    assert other.discover(sandbox_id) == info


def test_behaviour_11_mounts_environment_and_url_reach_the_sandbox(lab: Lab, tmp_path: Path) -> None:
    for name in ("a:b", "kept"):
        (tmp_path / name).mkdir()
    (tmp_path / "a:b" / "file").write_text("hello")
    backend, sandbox_id = lab.make(url_host="localhost"), lab.id()
    info = backend.create(
        None, sandbox_id, [(str(tmp_path / "a:b"), "/extra", True)],
        spec=lab.spec(
            mounts=(Mount(source=str(tmp_path / "kept"), target="/kept"),), environment={"WHO": "a b=c"}, network=OPEN
        ),
    )  # fmt: skip
    assert info.sandbox_url.startswith("http://localhost:")
    assert get_json(info.sandbox_url)["success"] is True  # 8080 inside

    def run(script: str) -> str:
        done = backend.exec(info, ["sh", "-c", script])
        return (done.stdout + done.stderr).strip()

    assert run("cat /extra/file; echo $WHO") == "helloa b=c"
    assert "Read-only file system" in run("echo x > /extra/file")
    assert run("echo x > /kept/new && cat /kept/new") == "x"
    assert (tmp_path / "kept" / "new").read_text() == "x\n"


def test_behaviour_12_loopback_and_hardened_without_asking(lab: Lab) -> None:
    info = lab.running(network=OPEN)
    [bound] = lab.raw(info)["NetworkSettings"]["Ports"]["8080/tcp"]
    assert bound["HostIp"] == "127.0.0.1"
    status = lab.backend.exec(info, ["cat", "/proc/1/status"]).stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"  # filtered
    assert lab.backend.exec(info, ["sh", "-c", "chown 5 /home/gem"]).exit_code != 0
    assert lab.raw(info)["HostConfig"]["PidsLimit"] == 4096


def test_behaviour_12_other_addresses_only_when_asked(lab: Lab) -> None:
    everywhere = lab.make(bind="0.0.0.0")
    info = everywhere.create(None, lab.id(), spec=lab.spec(network=OPEN))
    bound = lab.raw(info)["NetworkSettings"]["Ports"]["8080/tcp"]
    assert bound[0]["HostIp"] == "0.0.0.0"
    assert info.sandbox_url.startswith("http://127.0.0.1:")


def test_behaviour_13_a_port_the_engine_chose_that_is_taken_is_tried_again(
    dockerd: PrivateEngine, lab: Lab, short: Path
) -> None:
    """The engine looks at ten ports after the last it gave, then gives up; a try of ours later it goes on."""
    with (
        contextlib.closing(dockerd.client()) as client,
        contextlib.closing(Wire(dockerd.url, short / "p.sock")) as wire,
        taken_ports() as take,
    ):
        backend = lab.make(wire.url, image=Images(client).agent)
        first = backend.create(None, lab.id(), spec=lab.spec(network=OPEN))
        last = int(first.sandbox_url.rpartition(":")[2])
        take(range(last + 1, last + 13))
        second = backend.create(None, lab.id(), spec=lab.spec(network=OPEN))
        assert get_json(second.sandbox_url)["success"] is True
        assert wire.count(r"POST \S*/containers/create") == 3
        assert len(backend.list_running()) == 2
        for info in (first, second):
            backend.destroy(info)


@pytest.mark.parametrize("by", ["container", "program"])
def test_behaviour_13_a_port_that_was_asked_for_and_is_taken_is_a_conflict(lab: Lab, by: str) -> None:
    with taken_ports() as take:
        if by == "container":
            holder = lab.running("holder", network=OPEN)
            port, told = int(holder.sandbox_url.rpartition(":")[2]), f"container {holder.container_name}"
        else:
            [port], told = take([0]), "another program"
        sandbox_id = lab.id("name")  # the word must not be taken for a name that is taken
        ports = (Port(name="http", container=8080, host=port),)
        with pytest.raises(Conflict) as raised:
            lab.backend.create(None, sandbox_id, spec=lab.spec(ports=ports, network=OPEN))
    assert raised.value.message == f"port {port} of 127.0.0.1, for `http`, is taken by {told}"
    assert "host: auto" in raised.value.hint
    assert lab.labelled(sandbox_id) == []


def test_behaviour_13_a_name_taken_by_a_stranger_is_a_conflict_and_the_stranger_lives(lab: Lab) -> None:
    sandbox_id = lab.id()
    stranger = lab.stack.stranger(f"reconciler-{sandbox_id}")
    with pytest.raises(Conflict) as raised:
        lab.backend.create(None, sandbox_id, spec=lab.spec())
    assert f"reconciler-{sandbox_id} is taken by a container that is not ours" in raised.value.message
    assert "prefix:" in raised.value.hint
    assert lab.backend.look(sandbox_id) is None
    lab.backend.destroy(SandboxInfo(sandbox_id, ""))
    assert lab.stack.inspect(stranger)["State"]["Running"]


def test_behaviour_13_ours_with_that_name_is_adopted_running(lab: Lab) -> None:
    info = lab.running()
    assert lab.make().create(None, info.sandbox_id, spec=lab.spec()) == info
    lab.stack.client.api.pause(info.container_id)
    assert lab.make().create(None, info.sandbox_id, spec=lab.spec()) == info
    assert lab.backend.is_alive(info)


def test_behaviour_13_one_that_was_made_and_never_started_is_started(lab: Lab, wire: Wire) -> None:
    sandbox_id, backend = lab.id(), lab.make(wire.url)
    with (
        wire.fault(r"POST \S*/start", first=wire.close, swallow=True),  # killed between the two
        pytest.raises(Unavailable),
    ):
        backend.create(None, sandbox_id, spec=lab.spec())
    [made] = lab.labelled(sandbox_id)
    assert made["State"] == "created"
    info = lab.backend.create(None, sandbox_id, spec=lab.spec())
    assert info.container_id == made["Id"]
    assert lab.backend.is_alive(info)


def test_behaviour_14_no_log_and_no_error_shows_a_value(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    hidden = {"plain": "canary-environment", "file": "canary-file", "as": "canary-as-environment"}
    fields = {
        "environment": {"PLAIN": hidden["plain"]},
        "secrets": {"FILE": a_secret(hidden["file"]), "AS": a_secret(hidden["as"], "environment")},
    }
    info = lab.running(**fields)
    with pytest.raises(Exception, match="unable to find user") as raised:
        lab.running(**fields, security=Security(user="nobody-here"))
    lab.backend.destroy(info)
    told = [caplog.text, *_chain(raised.value)]
    assert "/containers/create" in caplog.text  # the SDK's connections do log
    assert not [text for text in told for value in hidden.values() if value in text]


def test_behaviour_15_a_stop_has_a_time_that_reaches_the_engine(lab: Lab, wire: Wire) -> None:
    backend = lab.make(wire.url, image=lab.stack.images.deaf, stop_timeout=2)
    info = backend.create(None, lab.id(), spec=lab.spec())
    eventually(lambda: list(backend.logs(info)) == ["deaf to SIGTERM"])
    began = time.monotonic()
    backend.destroy(info)
    assert time.monotonic() - began >= 2
    assert wire.count(r"POST \S*/stop\?t=2 ") == 1
    assert not lab.stack.exists(str(info.container_id))


def test_behaviour_15_a_stop_that_failed_is_not_reported_as_done(lab: Lab, wire: Wire) -> None:
    info, backend = lab.running(), lab.make(wire.url)
    with (
        wire.fault(r"POST \S*/stop", answer=answer(500, '{"message": "cannot kill it"}')),
        pytest.raises(Transient, match="cannot kill it"),
    ):
        backend.destroy(info)
    assert lab.backend.is_alive(info)


def test_behaviour_15_absence_is_verified_after_a_removal(lab: Lab, wire: Wire) -> None:
    info, backend = lab.running(), lab.make(wire.url)
    with (
        wire.fault(r"DELETE \S*/containers/", answer=answer(204, "")),
        pytest.raises(Transient, match="is still there after its removal"),
    ):
        backend.destroy(info)
    backend.destroy(info)
    assert not lab.stack.exists(str(info.container_id))


def test_behaviour_15_what_is_paused_can_be_destroyed(lab: Lab) -> None:
    info = lab.running()
    lab.stack.client.api.pause(info.container_id)
    lab.backend.destroy(info)
    assert not lab.stack.exists(str(info.container_id))


def _chain(error: BaseException | None) -> list[str]:
    told = []
    while error is not None:
        told += [str(error), repr(error), repr(getattr(error, "hint", ""))]
        error = error.__cause__ or error.__context__
    return told


@contextlib.contextmanager
def taken_ports() -> Iterator[Callable[[Iterable[int]], list[int]]]:
    """Listens on ports of loopback (0 is any free one) until the end; those taken already stay so."""
    held: list[socket.socket] = []

    def take(ports: Iterable[int]) -> list[int]:
        for port in ports:
            with contextlib.suppress(OSError):
                held.append(socket.create_server(("127.0.0.1", port)))
        return [one.getsockname()[1] for one in held]

    try:
        yield take
    finally:
        for one in held:
            one.close()
