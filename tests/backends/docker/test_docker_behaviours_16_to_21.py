"""Behaviours 16 to 21 of the system that came before, kept or mended, on the real engine. Each test names its one."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.backends.containers import MANAGED_BY
from reconciler.backends.docker import DockerBackend
from reconciler.errors import Conflict, NotFound, Transient, Unavailable
from reconciler.model.desired import Security
from reconciler.model.observed import Phase, SandboxInfo
from tests.backends.docker.conftest import Lab
from tests.backends.docker.wire import Wire, answer
from tests.support.docker import eventually

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]


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


def test_behaviour_21_what_a_quick_command_prints_is_never_lost(lab: Lab, tcp: Wire) -> None:
    """Guards against reading past what came in one piece with the head of the engine's answer."""
    info = lab.running()
    backend = lab.make(tcp.url)
    said = [backend.exec(info, ["echo", str(number)]).stdout for number in range(60)]
    assert said == [f"{number}\n" for number in range(60)]
