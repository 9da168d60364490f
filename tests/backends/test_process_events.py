"""What the embedded backend tells by itself of its sandboxes, how soon, and what it knows of how they ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.backends.process import ProcessBackend
from reconciler.backends.process.events import ProcessEvents
from reconciler.backends.process.records import Directory
from reconciler.errors import BackendError, Permanent
from reconciler.model.desired import SandboxSpec
from reconciler.model.drift import Cause, Provenance
from reconciler.model.observed import SandboxInfo
from reconciler.testing.event_conformance import Hints
from tests.backends.processes import ISOLATIONS, eventually, pids, server_pid

AT_ONCE = 0.3  # seconds on a busy machine; it takes some 2 ms, and the next look is half a second away
NAMES = ("one", "two", "three")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture(params=ISOLATIONS)
def backend(root: Path, request: pytest.FixtureRequest) -> Iterator[ProcessBackend]:
    made = ProcessBackend(str(root), request.param)
    yield made
    for name in NAMES:
        made.destroy(SandboxInfo(name, ""))
    made.close()


# The conformance suite listens with every isolation; here one is enough.
listening = pytest.mark.parametrize("backend", ISOLATIONS[-1:], indirect=True)


@pytest.fixture
def hints(backend: ProcessBackend) -> Hints:
    made = Hints()
    backend.listen(made)
    return made


def serving(root: Path, backend: ProcessBackend, name: str = "one") -> SandboxInfo:
    info = backend.create(None, name)
    server_pid(root, name)
    return info


def settled(hints: Hints) -> None:
    """A new sandbox is told once it was found, and its server is watched one look later."""
    eventually(lambda: set(hints.told()), "the first hint")
    time.sleep(0.6)
    hints.forget()


@listening
def test_a_death_is_told_at_once_whoever_made_the_sandbox_or_started_it_again(
    root: Path, backend: ProcessBackend, hints: Hints
) -> None:
    others = ProcessBackend(str(root), backend.isolation)
    for name in NAMES:
        serving(root, others, name)
    settled(hints)
    for name in NAMES:
        os.kill(server_pid(root, name), signal.SIGKILL)
    for name in NAMES:
        assert hints.wait(name) < AT_ONCE
        assert not backend.is_alive(SandboxInfo(name, ""))
    hints.forget()
    others.restart(SandboxInfo("one", ""), SandboxSpec())
    settled(hints)
    os.kill(pids(root, "one")["keeper"], signal.SIGKILL)
    assert hints.wait("one") < AT_ONCE


@listening
def test_more_sandboxes_than_descriptors_are_looked_at(root: Path, backend: ProcessBackend) -> None:
    """As on systems without such descriptors: all of them."""
    serving(root, backend, "one")
    serving(root, backend, "two")
    hints, before = Hints(), len(os.listdir("/proc/self/fd"))
    with contextlib.closing(ProcessEvents(Directory(str(root)), hints, most=1)):
        for name in ("one", "two"):
            os.kill(server_pid(root, name), signal.SIGKILL)
        hints.wait("one")
        hints.wait("two")
    assert len(os.listdir("/proc/self/fd")) == before


@listening
def test_who_is_told_may_close_and_ask(root: Path, backend: ProcessBackend) -> None:
    info, seen = serving(root, backend), list[bool]()

    def tell(sandbox_id: str) -> None:
        seen.append(backend.is_alive(info))
        subscription.close()

    subscription = backend.listen(tell)
    os.kill(server_pid(root, "one"), signal.SIGKILL)
    eventually(lambda: seen, "the death")
    backend.destroy(info)
    time.sleep(0.6)
    assert seen == [False]


def test_a_root_that_is_none_ends_nothing_but_the_beginning(tmp_path: Path) -> None:
    root, hints = tmp_path / "state", Hints()
    backend = ProcessBackend(str(root), "none")
    backend.listen(hints)  # nothing is there yet
    root.write_text("not a directory")
    with pytest.raises(BackendError, match="cannot list"):
        ProcessBackend(str(root), "none").listen(hints)
    hints.wait("")
    root.unlink()
    root.mkdir()
    (root / "one").mkdir()
    hints.wait("one")
    backend.close()


@pytest.mark.parametrize(
    ("whom", "number", "cause", "detail"),
    [
        pytest.param("server", signal.SIGKILL, Cause.KILLED, "exit code 137 (SIGKILL)", id="killed"),
        pytest.param("main", signal.SIGKILL, Cause.KILLED, "exit code 137 (SIGKILL)", id="all of it killed"),
        pytest.param("keeper", signal.SIGKILL, Cause.KILLED, "keeper was killed", id="its keeper killed"),
        pytest.param("server", signal.SIGSEGV, Cause.CRASHED, "exit code 139 (SIGSEGV)", id="crashed"),
        pytest.param("server", signal.SIGTERM, Cause.STOPPED, "it was asked to end", id="asked to end"),
        pytest.param("keeper", signal.SIGTERM, Cause.STOPPED, "it was asked to end", id="its keeper asked"),
        pytest.param("server", signal.SIGSTOP, Cause.PAUSED, "SIGSTOP", id="stopped by a signal"),
    ],
)
def test_how_it_came_to_be_so(
    root: Path, backend: ProcessBackend, whom: str, number: int, cause: Cause, detail: str
) -> None:
    info = serving(root, backend)
    began = time.time()
    os.kill(pids(root, "one")[whom], number)
    eventually(lambda: not backend.is_alive(info), "its end")
    origin = backend.provenance(["one", "two"])["one"]
    assert (origin.cause, detail in origin.detail) == (cause, True), origin.detail
    assert origin.at is None or began - 0.01 <= origin.at <= time.time() + 0.01


def test_what_the_disk_alone_tells(root: Path, backend: ProcessBackend) -> None:
    info = serving(root, backend)
    os.kill(pids(root, "one")["keeper"], signal.SIGKILL)
    eventually(lambda: not backend.is_alive(info), "its end")
    noted = root / "one" / "process.json"
    noted.write_text(json.dumps({**json.loads(noted.read_text()), "boot": "the one before"}))
    restarted = backend.provenance(["one"])["one"]
    assert restarted.cause is Cause.HOST_RESTARTED
    assert restarted.at is not None
    assert restarted.at < time.time()
    noted.unlink()
    assert backend.provenance(["one"])["one"].cause is Cause.INTERRUPTED
    record = root / "one" / "record.json"
    kept = record.read_text()
    record.write_text("no record")
    assert backend.provenance(["one"]) == {}
    record.write_text(kept)


def test_what_this_object_did_itself_is_nobodys_deed(root: Path, backend: ProcessBackend) -> None:
    info = serving(root, backend)
    point = ""

    def fails(reached: str) -> None:
        if reached == point:
            raise Permanent("it ends here")

    ours = ProcessBackend(str(root), backend.isolation, checkpoint=fails)
    point = "recorded"
    with pytest.raises(Permanent, match="it ends here"):
        ours.restart(info, SandboxSpec())
    assert ours.provenance(["one"]) == {}
    ours.destroy(info)
    assert ours.provenance(["one"]) == {}
    gone = backend.provenance(["one"])
    assert gone == {"one": Provenance(cause=Cause.REMOVED, detail=f"{root}/one is gone")}
