"""What goes wrong with an engine: a message that says what, a hint that says what next, and nothing left behind or lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.backends.docker import DockerBackend
from reconciler.backends.docker.failures import failure
from reconciler.errors import (
    BackendError,
    Conflict,
    NoSpace,
    NotFound,
    Permanent,
    Transient,
    Unavailable,
    Unsupported,
)
from reconciler.model.desired import Mount, Network, NetworkMode, Resources, Security
from reconciler.model.observed import Phase, SandboxInfo
from tests.backends.docker.conftest import OOM_TRIES, Lab
from tests.backends.docker.private_engine import PrivateEngine
from tests.backends.docker.wire import Wire, answer
from tests.support.docker import Images, eventually

pytestmark = [pytest.mark.usefixtures("docker_engine"), pytest.mark.slow]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acting as another user needs root")


class TestTheEngineCannotBeUsed:
    def test_no_socket(self, tmp_path: Path) -> None:
        backend = DockerBackend(f"unix://{tmp_path}/none.sock", image="any")
        for ask in (backend.list_running, lambda: backend.create(None, "a")):
            with pytest.raises(Unavailable, match=r"none\.sock is not there: no such socket") as raised:
                ask()
            assert "systemctl start docker" in raised.value.hint
            assert "DOCKER_HOST" in raised.value.hint
        [(name, well, detail)] = backend.check()
        assert (name, well) == ("engine", False)
        assert "no such socket" in detail
        assert "systemctl start docker" in detail

    @pytest.mark.parametrize("kind", ["unix", "tcp"])
    def test_connection_refused(self, wire: Wire, tcp: Wire, kind: str) -> None:
        one = wire if kind == "unix" else tcp
        one.close()
        backend = DockerBackend(one.url, image="any")
        for ask in (backend.observe, lambda: backend.create(None, "a")):
            with pytest.raises(Unavailable, match="refuses connections") as raised:
                ask()
            assert "is it running?" in raised.value.hint
        backend.close()

    @needs_root
    def test_permission_denied(self, docker_engine: str) -> None:
        told = as_nobody(
            f"""
            backend = DockerBackend({docker_engine!r}, image="any")
            for ask in (backend.list_running, lambda: backend.create(None, "a")):
                try:
                    ask()
                except Exception as error:
                    print(type(error).__name__, error, "|", error.hint)
            """
        )
        assert told.count("no permission to use the engine at") == 2
        assert told.count("Permanent") == 2
        assert told.count("usermod -aG docker") == 2

    def test_no_socket_is_left_open_by_those_who_wait_for_an_engine(self, lab: Lab, wire: Wire) -> None:
        backend, spec = lab.make(wire.url), lab.spec()
        backend.create(None, lab.id(), spec=spec)
        wire.close()
        before, sandbox_id = open_sockets(), lab.id()
        kept = []  # what an error refers to is not collected, and neither would a forgotten socket be
        for _ in range(8):
            with pytest.raises(Unavailable) as raised:
                backend.create(None, sandbox_id, spec=spec)
            kept.append(raised)
        assert open_sockets() <= before

    def test_an_engine_that_is_too_old(self, lab: Lab, wire: Wire) -> None:
        backend = lab.make(wire.url)
        with (
            wire.fault(r"GET /version", answer=answer(200, '{"ApiVersion": "1.39"}')),
            pytest.raises(Permanent, match=r"speaks API 1.39; at least 1.40 is needed") as raised,
        ):
            backend.create(None, lab.id())
        assert "update it" in raised.value.hint

    @pytest.mark.parametrize("said", ["[]", "{}", '{"ApiVersion": 7}', '{"ApiVersion": "new"}', "oops"])
    def test_an_engine_whose_version_makes_no_sense(self, lab: Lab, wire: Wire, said: str) -> None:
        backend = lab.make(wire.url)
        with wire.fault(r"GET /version", answer=answer(200, said)), pytest.raises(BackendError):
            backend.create(None, lab.id())

    @pytest.mark.parametrize(
        "said",
        [
            pytest.param(answer(201, "{}"), id="no id"),
            pytest.param(answer(201, "[]"), id="a list"),
            pytest.param(answer(201, '{"Id": "c0', length=90), id="half an answer"),
            pytest.param(answer(200, "<html>"), id="no JSON"),
            pytest.param(b"garbage\r\n\r\n", id="no HTTP"),
        ],
    )
    def test_a_create_that_is_answered_with_garbage(self, lab: Lab, wire: Wire, said: bytes) -> None:
        backend = lab.make(wire.url)
        with wire.fault(r"POST \S*/containers/create", answer=said), pytest.raises(Transient):
            backend.create(None, lab.id(), spec=lab.spec())

    @pytest.mark.parametrize(
        "said",
        [
            pytest.param("{}", id="no list"),
            pytest.param("[1]", id="a list of numbers"),
            pytest.param('[{"Id": "c", "Created": 1e999, "Names": ["/n"]}]', id="a time beyond all"),
            pytest.param("[" * 100_000, id="nested too deeply"),
        ],
    )
    def test_a_listing_that_is_garbage_is_no_empty_one(self, lab: Lab, wire: Wire, said: str) -> None:
        backend = lab.make(wire.url)
        with wire.fault(r"GET \S*/containers/json", answer=answer(200, said)), pytest.raises(Unavailable):
            backend.observe()

    @pytest.mark.parametrize("said", ["{}", "[]", "oops"])
    def test_facts_that_are_garbage(self, lab: Lab, wire: Wire, said: str) -> None:
        info, backend = lab.running(), lab.make(wire.url)
        with wire.fault(r"GET /info", answer=answer(200, said)):
            rows = backend.check()
            assert rows
            with contextlib.suppress(BackendError):
                backend.update(info, lab.spec(resources=Resources(pids=99)))


class TestAnAnswerIsLost:
    @pytest.mark.parametrize("act", [r"POST \S*/containers/create", r"POST \S*/start"])
    def test_a_create_whose_answer_was_lost_is_found_by_the_next(
        self, lab: Lab, wire: Wire, act: str
    ) -> None:
        sandbox_id, backend = lab.id(), lab.make(wire.url)
        with wire.fault(act, lose=True, times=1), pytest.raises(Unavailable):
            backend.create(None, sandbox_id, spec=lab.spec())
        eventually(lambda: len(lab.labelled(sandbox_id)) == 1)
        [left] = lab.labelled(sandbox_id)
        info = backend.create(None, sandbox_id, spec=lab.spec())
        assert info.container_id == left["Id"]
        assert backend.is_alive(info)
        assert len(lab.labelled(sandbox_id)) == 1

    @pytest.mark.parametrize("act", [r"POST \S*/stop", r"DELETE "])
    def test_a_destroy_whose_answer_was_lost_is_finished_by_the_next(
        self, lab: Lab, wire: Wire, act: str
    ) -> None:
        info, backend = lab.running(), lab.make(wire.url)
        with wire.fault(act, lose=True, times=1), pytest.raises(Unavailable):
            backend.destroy(info)
        backend.destroy(info)
        assert lab.labelled(info.sandbox_id) == []

    def test_a_slow_engine_that_answers_too_late_is_told_and_found_again(self, lab: Lab, wire: Wire) -> None:
        sandbox_id, backend = lab.id(), lab.make(wire.url, timeout=2)
        with (
            wire.fault(r"POST \S*/containers/create", first=lambda: time.sleep(3.5), times=1),
            pytest.raises(Unavailable, match="did not answer within 2s") as raised,
        ):
            backend.create(None, sandbox_id, spec=lab.spec())
        assert "raise `timeout:`" in raised.value.hint
        eventually(lambda: len(lab.labelled(sandbox_id)) == 1)
        patient = lab.make(wire.url)
        assert patient.is_alive(patient.create(None, sandbox_id, spec=lab.spec()))
        assert len(lab.labelled(sandbox_id)) == 1

    def test_an_engine_that_restarted_closed_what_we_kept(self, lab: Lab, short: Path) -> None:
        path = short / "again.sock"
        first = Wire(lab.stack.host, path)
        backend = lab.make(first.url)
        assert backend.discover(lab.id()) is None
        first.close()
        path.unlink()
        with contextlib.closing(Wire(lab.stack.host, path)):
            assert backend.discover(lab.id()) is None  # over a new connection, without a word


class TestAContainerCannotBeMade:
    @pytest.mark.parametrize(
        ("fields", "kind", "message", "hint"),
        [
            pytest.param(
                {"network": Network(name="reconciler-no-such-net")}, NotFound, "network reconciler-no-such-net not found",
                "docker network create reconciler-no-such-net", id="no such network",
            ),
            pytest.param(
                {"mounts": (Mount(source="/no/such/dir", target="/m"),)}, Permanent,
                "bind source path does not exist: /no/such/dir", "create it, or fix the path", id="no such folder",
            ),
            pytest.param({"runtime": "no-such"}, Permanent, "(?i)unknown.* runtime.*no-such", "install that runtime", id="no such runtime"),
            pytest.param(
                {"security": Security(user="nobody-here")}, Permanent, "unable to find user nobody-here",
                "the image knows no such user", id="no such user",
            ),
            pytest.param(
                {"resources": Resources(memory=1 << 20)}, Permanent, "(?i)minimum memory limit allowed is 6MB",
                "use a higher `resources.memory`", id="too little memory to be a limit",
            ),
            pytest.param(
                {"resources": Resources(cpu=4000)}, Permanent, "Range of CPUs is from", "lower `resources.cpu`",
                id="more processors than there are",
            ),
        ],
    )  # fmt: skip
    def test_the_reason_is_told_and_nothing_is_left(
        self, lab: Lab, fields: dict[str, object], kind: type[BackendError], message: str, hint: str
    ) -> None:
        sandbox_id = lab.id()
        with pytest.raises(kind, match=message) as raised:
            lab.backend.create(None, sandbox_id, spec=lab.spec(**fields))
        assert hint in raised.value.hint
        assert lab.labelled(sandbox_id) == []

    def test_a_field_it_cannot_hold_is_refused(self, lab: Lab) -> None:
        spec = lab.spec(network=Network(mode=NetworkMode.ALLOWLIST, allow=("example.org",)))
        with pytest.raises(Unsupported, match=r"cannot hold network.allow, network.mode"):
            lab.backend.create(None, lab.id(), spec=spec)

    def test_our_own_labels_cannot_be_declared(self, lab: Lab) -> None:
        with pytest.raises(Permanent, match="are this tool's own"):
            lab.backend.create(None, lab.id(), spec=lab.spec(labels={"sandbox-reconciler/stack": "x"}))

    def test_an_image_that_is_missing_and_must_not_be_pulled(self, lab: Lab, wire: Wire) -> None:
        backend = lab.make(wire.url, pull="never")
        with pytest.raises(NotFound, match=r"image reconciler-test/none:1 is not on the engine") as raised:
            backend.create(None, lab.id(), spec=lab.spec(image="reconciler-test/none:1"))
        assert "docker pull reconciler-test/none:1" in raised.value.hint
        assert "pull: missing" in raised.value.hint
        assert wire.count("images/create") == 0

    def test_one_that_exits_at_once_says_how_and_keeps_its_last_words(self, lab: Lab) -> None:
        info = lab.dead(lab.running(image=lab.stack.images.crash))
        seen = lab.backend.look(info.sandbox_id)
        assert seen is not None
        assert (seen.phase, seen.detail) == (Phase.FAILED, "exit code 3")
        assert list(lab.backend.logs(info, tail=2)) == ["crash: no settings found", "crash: giving up"]
        with pytest.raises(NotFound, match="is not running: exit code 3"):
            lab.backend.exec(info, ["true"])
        with pytest.raises(NotFound):
            lab.backend.usage(SandboxInfo(info.sandbox_id, ""))

    def test_one_that_runs_out_of_memory_says_so(self, lab: Lab) -> None:
        told = set()
        for _ in range(OOM_TRIES):
            info = lab.running(
                command=("sh", "-c", "tail /dev/zero"),
                resources=Resources(memory=8 << 20),
                security=Security(init=False),
            )
            seen = lab.backend.look(lab.dead(info).sandbox_id)
            assert seen is not None
            told.add(seen.detail)
            if "exit code 137 (SIGKILL), out of memory" in told:
                break
        assert "exit code 137 (SIGKILL), out of memory" in told
        assert told <= {"exit code 137 (SIGKILL), out of memory", "exit code 137 (SIGKILL)"}

    @pytest.mark.parametrize(
        ("status", "words", "kind", "hint"),
        [
            (500, "fork/exec /usr/bin/runc: cannot allocate memory", Transient, "out of memory"),
            (500, "OCI runtime create failed: container init was OOM-killed (memory limit too low?): unknown", Permanent, "resources.memory"),
            (500, "write /var/lib/docker/x: no space left on device", NoSpace, "docker system df"),
            (500, "something nobody has seen", Transient, "its own log"),
            (503, "not now", Transient, ""),
            (429, "slow down", Transient, ""),
            (404, "No such container: reconciler-unauthorized-1", NotFound, ""),
            (409, 'The container name "/reconciler-unauthorized" is already in use', Conflict, ""),
            (400, "no", Permanent, ""),
            (500, "container 8076236eda24 does not exist in database: no such container", NotFound, ""),  # Podman's
            (500, 'creating container storage: the container name "a" is already in use by 21e786', Conflict, ""),
        ],
    )  # fmt: skip
    def test_what_the_engine_says_has_a_meaning(
        self, status: int, words: str, kind: type[BackendError], hint: str
    ) -> None:
        made = failure(status, words, "unix:///x.sock")
        assert type(made) is kind
        assert words in made.message
        assert hint in made.hint
        assert bool(hint) == bool(made.hint)


class TestAnEngineOfItsOwn:
    """A second dockerd, whose disk can be filled and which can be killed."""

    @pytest.fixture
    def backend(self, dockerd: PrivateEngine, lab: Lab) -> DockerBackend:
        with contextlib.closing(dockerd.client()) as client:
            return lab.make(dockerd.url, image=Images(client).agent)

    def test_disk_full(self, dockerd: PrivateEngine, backend: DockerBackend, lab: Lab) -> None:
        lives = backend.create(None, lab.id(), spec=lab.spec())
        sandbox_id = lab.id()
        with dockerd.full():
            with pytest.raises(Permanent, match="no space left on device") as raised:
                backend.create(None, sandbox_id, spec=lab.spec())
            assert "docker system df" in raised.value.hint
            assert backend.look(sandbox_id) is None
            assert backend.is_alive(lives)
            backend.destroy(lives)  # which is how to make room
        assert backend.look(lives.sandbox_id) is None
        info = backend.create(None, sandbox_id, spec=lab.spec())
        assert backend.is_alive(info)
        backend.destroy(info)

    def test_killed_and_started_again_in_mid_create(
        self, dockerd: PrivateEngine, backend: DockerBackend, lab: Lab
    ) -> None:
        ids, failed = [lab.id() for _ in range(8)], []
        begun = threading.Barrier(len(ids) + 1)

        def create(sandbox_id: str) -> SandboxInfo:
            begun.wait()
            deadline = time.monotonic() + 60
            while True:
                try:
                    return backend.create(None, sandbox_id, spec=lab.spec())
                except Transient as error:
                    failed.append(error)
                    assert time.monotonic() < deadline
                    time.sleep(0.05)

        with ThreadPoolExecutor(len(ids)) as pool:
            made = [pool.submit(create, sandbox_id) for sandbox_id in ids]
            begun.wait()
            time.sleep(0.3)
            dockerd.kill()
            dockerd.start()
            assert {one.result().sandbox_id for one in made} == set(ids)
        assert failed
        assert all(isinstance(error, (Unavailable, Transient)) for error in failed)
        # What was there when it was killed has died with it: creating the same again mends that, and doubles nothing.
        again = [backend.create(None, sandbox_id, spec=lab.spec()) for sandbox_id in ids]
        assert all(backend.is_alive(info) for info in again)
        ours = [seen.info for seen in backend.observe() if seen.info.sandbox_id in ids]
        assert sorted(info.sandbox_id for info in ours) == sorted(ids)
        assert {info.container_id for info in ours} == {info.container_id for info in again}
        for info in again:
            backend.destroy(info)
        assert not [seen for seen in backend.observe() if seen.info.sandbox_id in ids]

    def test_killed_and_back_between_two_looks(
        self, dockerd: PrivateEngine, backend: DockerBackend, lab: Lab
    ) -> None:
        info = backend.create(None, lab.id(), spec=lab.spec())
        dockerd.kill()
        for ask in (backend.list_running, lambda: backend.is_alive(info), lambda: backend.destroy(info)):
            with pytest.raises(Unavailable):
                ask()
        dockerd.start()
        seen = backend.look(info.sandbox_id)
        assert seen is not None
        assert seen.info.container_id == info.container_id
        backend.destroy(info)
        assert backend.look(info.sandbox_id) is None


def open_sockets() -> int:
    """Of this process."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            names.append(os.readlink(entry))
    return sum(name.startswith("socket:") for name in names)


def as_nobody(script: str, *args: str) -> str:
    """What a script prints that is run as another user. It is given what it needs to import first, as root."""
    lines = script.strip("\n").splitlines()
    margin = len(lines[0]) - len(lines[0].lstrip())
    body = "\n".join(line[margin:] for line in lines)
    begin = (
        "import contextlib, os, sys, encodings.idna, docker, docker.tls, docker.errors, docker.utils.config\n"
        "from reconciler.backends.docker import DockerBackend\n"
        "from reconciler.model.desired import *\n"
        "from reconciler.model.observed import *\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", begin + body, *args], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
