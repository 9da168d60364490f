"""What real engines tell by themselves, how soon, and which cause is found for it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from reconciler.backends.docker import DockerBackend
from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.events import EngineEvents
from reconciler.errors import BackendError, Unavailable
from reconciler.model.desired import Resources
from reconciler.model.drift import Cause
from reconciler.model.observed import SandboxInfo
from reconciler.testing.event_conformance import Hints
from tests.backends.docker.conftest import OOM_TRIES, OPEN, Lab
from tests.backends.docker.private_engine import PrivateEngine
from tests.backends.docker.wire import Wire, answer, within
from tests.support.docker import Images, eventually

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]
SOON = 1.0  # seconds; it takes some 50 ms, most of them the engine's
Act = Callable[[Any, str], object]
# What somebody does to one container, in this order; a dead one is started again by the backend in between.
ACTS: dict[str, tuple[Act, Cause, str]] = {
    "pause": (lambda api, c: api.pause(c), Cause.PAUSED, "paused through the engine"),
    "update": (lambda api, c: api.update_container(c, cpu_shares=512), Cause.EDITED, "`docker update`"),
    "rename": (lambda api, c: api.rename(c, f"other-{c[:12]}"), Cause.EDITED, "renamed from reconciler-lab-"),
    "network disconnect": (lambda api, c: api.disconnect_container_from_network(c, "bridge"), Cause.EDITED, "disconnected from network bridge"),
    "kill": (lambda api, c: api.kill(c), Cause.KILLED, "exit code 137 (SIGKILL), sent through the engine"),
    "stop": (lambda api, c: api.stop(c, timeout=5), Cause.STOPPED, "after SIGTERM, sent through the engine"),
    "rm -f": (lambda api, c: api.remove_container(c, force=True), Cause.REMOVED, "while it ran"),
}  # fmt: skip


def dead(lab: Lab, info: SandboxInfo) -> None:
    eventually(lambda: not lab.backend.is_alive(info))


def test_what_somebody_does_is_told_at_once_with_its_cause(lab: Lab) -> None:
    info, hints = lab.running(network=OPEN), Hints()
    lab.backend.listen(hints)
    for act, (does, cause, detail) in ACTS.items():
        hints.forget()
        began = time.time()
        does(lab.stack.client.api, str(info.container_id))
        hints.wait(info.sandbox_id, SOON)
        if cause in (Cause.KILLED, Cause.STOPPED):
            dead(lab, info)
        origin = lab.backend.provenance([info.sandbox_id, "never-was"])
        assert list(origin) == [info.sandbox_id], act
        found = origin[info.sandbox_id]
        assert (found.cause, detail in found.detail) == (cause, True), (act, found)
        assert found.at is not None
        assert began - 0.1 <= found.at <= time.time(), act
        if cause is Cause.PAUSED:
            lab.stack.client.api.unpause(info.container_id)
        elif act in ("kill", "stop"):
            lab.backend.restart(info, lab.spec())


def test_all_of_several_are_told_and_a_stranger_is_not(lab: Lab) -> None:
    hints = Hints()
    with ThreadPoolExecutor(3) as pool:
        infos = list(pool.map(lambda _: lab.running(), range(3)))
    stranger = lab.stack.stranger(f"{lab.stack.name}-stranger", network_mode="none")
    lab.backend.listen(hints)
    lab.stack.client.api.kill(stranger)
    for info in infos:
        lab.stack.client.api.kill(info.container_id)
    for info in infos:
        hints.wait(info.sandbox_id, SOON)
        dead(lab, info)
    ours = {info.sandbox_id for info in infos}
    assert not any(lab.stack.name in told for told in hints.told())
    assert {origin.cause for origin in lab.backend.provenance(ours).values()} == {Cause.KILLED}


def test_what_happens_inside_is_told_apart_from_what_comes_through_the_engine(lab: Lab) -> None:
    ends = ["sh", "-c", "sleep 0.1; exit 3"]
    crashed, ended = (
        lab.backend.create(None, lab.id(), spec=lab.spec(entrypoint=tuple(ends[:2]), command=(script,)))
        for script in (ends[2], "sleep 0.1")
    )
    for info in (crashed, ended):
        dead(lab, info)
    origin = lab.backend.provenance([crashed.sandbox_id, ended.sandbox_id])
    assert (origin[crashed.sandbox_id].cause, origin[crashed.sandbox_id].detail) == (
        Cause.CRASHED,
        "exit code 3",
    )
    assert (origin[ended.sandbox_id].cause, origin[ended.sandbox_id].detail) == (Cause.ENDED, "exit code 0")


def test_memory_that_ran_out_is_told(lab: Lab) -> None:
    spec = lab.spec(
        entrypoint=("sh", "-c"),
        command=("exec tail -c 99999999 < /dev/zero",),
        resources=Resources(memory=16 * 2**20),
    )
    for _ in range(OOM_TRIES):
        info = lab.backend.create(None, lab.id(), spec=spec)
        dead(lab, info)
        found = lab.backend.provenance([info.sandbox_id])[info.sandbox_id]
        if found.cause is Cause.OUT_OF_MEMORY:
            return
    pytest.fail(f"never told as out of memory: {found}")


def test_what_this_backend_does_is_not_told_as_somebody_elses(lab: Lab) -> None:
    info = lab.running()
    lab.backend.update(info, lab.spec(resources=Resources(pids=100)))
    assert lab.backend.provenance([info.sandbox_id]) == {}
    lab.backend.restart(info, lab.spec())
    assert lab.backend.provenance([info.sandbox_id]) == {}
    lab.backend.destroy(info)
    assert lab.backend.provenance([info.sandbox_id]) == {}
    [told] = (
        lab.make().provenance([info.sandbox_id]).values()
    )  # another object cannot tell whose doing it was
    assert told.cause is Cause.REMOVED


def test_over_tcp_it_is_the_same(lab: Lab, tcp: Wire) -> None:
    info, hints, backend = lab.running(), Hints(), lab.make(tcp.url)
    before, began = set(threading.enumerate()), time.monotonic()
    subscription = backend.listen(hints)
    lab.stack.client.api.kill(info.container_id)
    hints.wait(info.sandbox_id, SOON)
    dead(lab, info)
    assert backend.provenance([info.sandbox_id])[info.sandbox_id].cause is Cause.KILLED
    began = time.monotonic()
    subscription.close()
    assert within(0.5, began)
    assert not [one for one in set(threading.enumerate()) - before if one.name == "engine-events"]


def test_an_engine_that_says_nothing_or_no_is_an_error_at_once(lab: Lab, wire: Wire, tcp: Wire) -> None:
    hints = Hints()
    for way in (wire, tcp):
        backend = lab.make(way.url, timeout=0.5)
        for how in ({"swallow": True}, {"answer": answer(500, '{"message": "no events today"}')}):
            began = time.monotonic()
            with way.fault(r"^GET \S*/events", **how), pytest.raises(BackendError, match="engine"):
                backend.listen(hints)
            assert within(3, began)
    assert hints.told() == []


def test_a_stream_of_nonsense_is_taken_up_with_growing_pauses(lab: Lab, wire: Wire) -> None:
    engine, hints = Engine(wire.url), Hints()
    nonsense = answer(200, '{"Type": "container"}\n{"Actor": 7}\nno JSON\n')
    with wire.fault(r"^GET /events", answer=nonsense, times=5):
        with contextlib.closing(EngineEvents(engine, hints, pauses=(0.01, 0.1))) as listening:
            eventually(lambda: wire.count(r"^GET /events") == 6)
            hints.wait("")
            info = lab.running()
            hints.wait(info.sandbox_id, SOON)
        assert listening.is_closed
    engine.close()


def test_an_engine_that_is_restarted_is_heard_again_and_its_restart_is_the_cause(
    dockerd: PrivateEngine, lab: Lab
) -> None:
    with contextlib.closing(dockerd.client()) as client:
        backend = lab.make(dockerd.url, image=Images(client).agent)
    hints, name = Hints(), lab.id()
    subscription = backend.listen(hints)
    info = backend.create(None, name, spec=lab.spec())
    for ends in (dockerd.stop, dockerd.kill):  # it ends them; it finds them, and ends them as it starts
        hints.forget()
        ends()
        dockerd.start()
        hints.wait("", 2.0)
        found = backend.provenance([name])[name]
        assert (found.cause, found.at is not None) == (Cause.ENGINE_RESTARTED, True), found
        hints.forget()
        info = backend.restart(info, lab.spec())
        hints.wait(name, SOON)
    descriptors = len(os.listdir("/proc/self/fd"))
    dockerd.stop()
    with pytest.raises(Unavailable):
        backend.listen(hints)
    time.sleep(0.3)  # long enough for an attempt to come back
    began = time.monotonic()
    subscription.close()
    assert within(0.3, began), "whoever waits for an engine lets go at once"
    assert len(os.listdir("/proc/self/fd")) < descriptors
    dockerd.start()
    backend.destroy(info)


def test_closing_the_backend_ends_its_subscriptions(lab: Lab) -> None:
    before = set(threading.enumerate())
    backend: DockerBackend = lab.make()
    backend.listen(Hints())
    backend.listen(Hints())
    backend.close()
    assert set(threading.enumerate()) <= before
