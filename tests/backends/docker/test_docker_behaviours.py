"""Behaviours 10 to 21 of the system that came before, kept or mended, on the real engine. Each test names its one."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.backends.containers import MANAGED_BY
from reconciler.backends.docker import DockerBackend
from reconciler.errors import Conflict, NotFound, Transient, Unavailable
from reconciler.model.desired import Mount, Port, Security
from reconciler.model.observed import Phase, SandboxInfo
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


def test_behaviour_16_not_alive_is_only_what_is_absent_dead_or_paused(lab: Lab) -> None:
    paused, dead, gone = lab.running("paused"), lab.running("dead"), lab.running("gone")
    assert all(lab.backend.is_alive(info) for info in (paused, dead, gone))
    lab.stack.client.api.pause(paused.container_id)
    lab.stack.client.api.kill(dead.container_id)
    lab.stack.client.api.remove_container(gone.container_id, force=True)
    lab.dead(dead)
    assert not any(lab.backend.is_alive(info) for info in (paused, dead, gone))
    assert [lab.backend.discover(info.sandbox_id) for info in (paused, dead, gone)] == [None] * 3


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(answer(500, '{"message": "server error"}'), id="a server error"),
        pytest.param(answer(404, '{"message": "page not found"}'), id="not found, and not about a container"),
        pytest.param(answer(404, "404 page not found"), id="another server's not found"),
        pytest.param(answer(200, "{}"), id="an inspection that is empty"),
        pytest.param(answer(200, "[]"), id="an inspection that is a list"),
        pytest.param(answer(200, '{"Id": "x", "Config": {', length=99), id="half an inspection"),
        pytest.param(answer(200, "<html>"), id="no JSON"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="no HTTP"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_behaviour_16_whatever_else_the_engine_says_raises(lab: Lab, wire: Wire, said: bytes) -> None:
    info, backend = SandboxInfo(lab.id(), ""), lab.make(wire.url)
    assert not backend.is_alive(info)
    with wire.fault(r"GET /containers/", answer=said):
        for ask in (
            lambda: backend.is_alive(info),
            lambda: backend.discover(info.sandbox_id),
            lambda: backend.look(info.sandbox_id),
            lambda: backend.destroy(info),
        ):
            with pytest.raises(Transient):
                ask()


def test_behaviour_16_a_state_nobody_knows_is_neither_alive_nor_dead(lab: Lab, wire: Wire) -> None:
    info, backend = lab.running(), lab.make(wire.url)
    listing, close = lab.labelled(info.sandbox_id), lab.raw(info)
    for item in listing:
        item["State"] = "hibernating"
    close["State"]["Status"] = "hibernating"
    with (
        wire.fault(r"GET /containers/json", answer=answer(200, json.dumps(listing))),
        wire.fault(r"GET /containers/", answer=answer(200, json.dumps(close))),
    ):
        for ask in (lambda: backend.is_alive(info), lambda: backend.discover(info.sandbox_id)):
            with pytest.raises(Transient, match="cannot be told: the engine calls it 'hibernating'"):
                ask()
        assert backend.list_running() == [info]  # not known to have ended
        assert _phase(backend, info) is Phase.UNKNOWN


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(answer(500, '{"message": "server error"}'), id="a server error"),
        pytest.param(answer(401, '{"message": "who are you"}'), id="a refusal"),
        pytest.param(answer(404, "404 page not found"), id="not found"),
        pytest.param(answer(200, "{}"), id="no list"),
        pytest.param(answer(200, '[{"Id": "x"}]'), id="an entry without state, name and labels"),
        pytest.param(answer(200, "[7]"), id="entries of another kind"),
        pytest.param(answer(200, "null"), id="null"),
        pytest.param(answer(200, '[{"Id": "x", "Na', length=400), id="half a list"),
        pytest.param(answer(200, '[{"Id": "x", "Na'), id="half a list that claims to be whole"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_behaviour_17_a_listing_that_failed_raises_and_is_never_empty(
    lab: Lab, wire: Wire, said: bytes
) -> None:
    backend = lab.make(wire.url)
    backend.list_running()
    with wire.fault(r"GET /containers/json", answer=said):
        for look in (backend.list_running, backend.observe):
            with pytest.raises(Exception, match=r"engine|who are you|page not found") as raised:
                look()
            assert type(raised.value).__module__ == "reconciler.errors"


def test_behaviour_17_a_dead_daemon_raises(lab: Lab, wire: Wire) -> None:
    backend = lab.make(wire.url)
    backend.list_running()
    wire.close()
    with pytest.raises(Unavailable, match="refuses connections") as raised:
        backend.list_running()
    assert "is it running?" in raised.value.hint


def test_behaviour_17_one_that_vanishes_meanwhile_does_not_lose_the_others(lab: Lab, wire: Wire) -> None:
    stays, goes = lab.running("stays"), lab.running("goes")
    backend = lab.make(wire.url)
    with wire.fault(
        rf"GET /containers/{goes.container_name}/json",
        first=lambda: lab.stack.client.api.remove_container(goes.container_id, force=True),
        times=1,
    ) as vanishing:
        seen = backend.look_closely([goes.sandbox_id, stays.sandbox_id])
    assert vanishing.met == 1
    assert [one.info for one in seen] == [stays]


def test_behaviour_17_listing_amid_coming_and_going_is_whole(lab: Lab) -> None:
    info, over = lab.running(), threading.Event()
    api, labels = lab.stack.client.api, {MANAGED_BY: "reconciler", "reconciler-test/stack": lab.stack.name}

    def come_and_go() -> None:
        while not over.is_set():
            made = api.create_container(lab.stack.images.agent, labels=labels)["Id"]
            api.remove_container(made, force=True)

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert all(info in lab.backend.list_running() for _ in range(60))
    finally:
        over.set()
        thread.join()


def test_behaviour_18_labels_decide_never_name_prefixes(lab: Lab) -> None:
    info = lab.running("p")
    names = [f"{info.container_name}-x", f"x-{info.container_name}", info.sandbox_id]
    lookalikes = [lab.stack.stranger(name) for name in names]
    longer = lab.owns(f"{info.sandbox_id}-q")
    other = lab.backend.create(None, longer, spec=lab.spec())
    assert {one.sandbox_id for one in lab.backend.list_running()} >= {info.sandbox_id, longer}
    assert not {one.container_id for one in lab.backend.list_running()} & set(lookalikes)
    assert lab.backend.discover(info.sandbox_id) == info
    assert lab.backend.discover(f"{info.sandbox_id}-x") is None
    lab.backend.destroy(info)
    assert lab.backend.is_alive(other)
    assert all(lab.stack.inspect(one)["State"]["Running"] for one in lookalikes)


def test_behaviour_18_ours_is_found_by_its_label_under_any_name(lab: Lab) -> None:
    info = lab.running()
    lab.stack.client.api.rename(info.container_id, f"{lab.stack.name}-renamed")
    found = lab.backend.discover(info.sandbox_id)
    assert found is not None
    assert found.container_id == info.container_id
    lab.backend.destroy(info)
    assert not lab.stack.exists(str(info.container_id))


def test_behaviour_18_a_stranger_goes_only_by_its_container_id(lab: Lab) -> None:
    name = lab.id("stranger")
    container = lab.stack.stranger(name)
    seen = lab.backend.look(name)
    assert seen is not None
    assert seen.owner is None
    with pytest.raises(Conflict, match="is not ours, so it is left alone"):
        lab.backend.destroy(SandboxInfo(name, ""))
    with pytest.raises(Conflict, match="is not ours"):
        lab.backend.update(SandboxInfo(name, ""), lab.spec())
    assert lab.stack.inspect(container)["State"]["Running"]
    lab.backend.destroy(seen.info)
    assert not lab.stack.exists(container)


def test_behaviour_19_a_dead_one_keeps_its_log_and_exit_code(lab: Lab) -> None:
    info = lab.dead(lab.running(image=lab.stack.images.crash))
    assert lab.raw(info)["HostConfig"]["AutoRemove"] is False
    seen = lab.backend.look(info.sandbox_id)
    assert seen is not None
    assert (seen.phase, seen.detail) == (Phase.FAILED, "exit code 3")
    assert list(lab.backend.logs(info, tail=1)) == ["crash: giving up"]
    assert len(list(lab.backend.logs(info))) == 3


def test_behaviour_20_each_phase_is_told(lab: Lab) -> None:
    api, images = lab.stack.client.api, lab.stack.images
    running, paused = lab.running("up"), lab.running("paused")
    api.pause(paused.container_id)
    ended = lab.running("ended", command=("true",))
    crashed = lab.running("crashed", image=images.crash)
    looping = lab.running("looping", image=images.crash, restart="always")
    killed = lab.running("killed")
    api.kill(killed.container_id)
    for info in (ended, crashed, killed):
        lab.dead(info)
    eventually(lambda: lab.raw(looping)["State"]["Restarting"])

    expected = {
        running.sandbox_id: (Phase.STARTING, ""),
        paused.sandbox_id: (Phase.PAUSED, ""),
        ended.sandbox_id: (Phase.STOPPED, "exit code 0"),
        crashed.sandbox_id: (Phase.FAILED, "exit code 3"),
        killed.sandbox_id: (Phase.FAILED, "exit code 137 (SIGKILL)"),
    }
    listed = {one.info.sandbox_id: (one.phase, one.detail) for one in lab.backend.observe()}
    assert {key: listed[key] for key in expected} == expected
    close = {one.info.sandbox_id: (one.phase, one.detail) for one in lab.backend.look_closely(expected)}
    assert close == expected
    eventually(lambda: _phase(lab.backend, looping) is Phase.UNREADY)
    lab.backend.destroy(looping)
    assert lab.labelled(looping.sandbox_id) == []


ACTS = {
    "create": (r"POST \S*/containers/create", lambda b, lab, info: b.create(None, lab.id(), spec=lab.spec())),
    "start": (r"POST \S*/start", lambda b, lab, info: b.create(None, lab.id(), spec=lab.spec())),
    "stop": (r"POST \S*/stop", lambda b, lab, info: b.destroy(info)),
    "remove": (r"DELETE ", lambda b, lab, info: b.destroy(info)),
    "inspect": (r"GET /containers/", lambda b, lab, info: b.is_alive(info)),
    "list": (r"GET /containers/json", lambda b, lab, info: b.list_running()),
    "update": (r"POST \S*/update", lambda b, lab, info: b.update(info, lab.spec(restart="always"))),
    "log": (r"GET \S*/logs", lambda b, lab, info: list(b.logs(info))),
    "exec": (r"POST \S*/exec", lambda b, lab, info: b.exec(info, ["true"])),
    "exec start": (r"POST \S*/exec/\S*/start", lambda b, lab, info: b.exec(info, ["true"])),
    "version": (r"GET /version", lambda b, lab, info: b.create(None, lab.id(), spec=lab.spec())),
    "pull": (
        r"POST \S*/images/create",
        lambda b, lab, info: b.create(None, lab.id(), spec=lab.spec(image="127.0.0.1:9/none:1")),
    ),
}


def test_behaviour_21_every_call_has_a_timeout(lab: Lab, short: Path) -> None:
    """All at once, each over a wire of its own that swallows one kind of request."""
    lives, dead = lab.running(), lab.running()
    lab.stack.client.api.kill(dead.container_id)

    def told(act: str) -> str:
        pattern, call = ACTS[act]
        info = (
            dead if act == "remove" else lives
        )  # what runs has to be stopped first, which takes time of its own
        with contextlib.closing(Wire(lab.stack.host, short / f"{act}.sock")) as wire:
            backend = lab.make(wire.url, timeout=3, stop_timeout=0)
            began = time.monotonic()
            with wire.fault(pattern, swallow=True) as fault, pytest.raises(Transient) as raised:
                call(backend, lab, info)
            assert fault.met >= 1, f"{act}: {raised.value}"
            assert time.monotonic() - began < 15, act
        return raised.value.message

    with ThreadPoolExecutor(len(ACTS)) as pool:
        messages = dict(zip(ACTS, pool.map(told, ACTS), strict=True))
    assert {
        act: message for act, message in messages.items() if "did not answer within 3s" not in message
    } == {}


def test_behaviour_21_a_missing_binary_is_told(lab: Lab) -> None:
    sandbox_id, spec = lab.id(), lab.spec(entrypoint=("/no/such/program",), security=Security(init=False))
    with pytest.raises(Exception, match=r"no such file or directory|executable file not found") as raised:
        lab.backend.create(None, sandbox_id, spec=spec)
    assert "fix `command` or `entrypoint`" in raised.value.hint  # type: ignore[attr-defined]
    assert lab.labelled(sandbox_id) == []


def test_behaviour_21_a_command_has_its_own_time(lab: Lab) -> None:
    info = lab.running()
    began = time.monotonic()
    with pytest.raises(Transient, match=r"did not end within 0.3 s"):
        lab.backend.exec(info, ["sleep", "60"], timeout=0.3)
    assert time.monotonic() - began < 10
    with pytest.raises(NotFound):
        lab.backend.exec(SandboxInfo(lab.id(), ""), ["true"])


def _phase(backend: DockerBackend, info: SandboxInfo) -> Phase | None:
    seen = backend.look(info.sandbox_id)
    return None if seen is None else seen.phase


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
