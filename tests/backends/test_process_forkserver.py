"""What forks the keepers, for real: one for all that is started at once, none beyond that, and whatever befalls it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reconciler.backends.process import ProcessBackend
from reconciler.backends.process import backend as backend_module
from reconciler.backends.process.launch import Order
from reconciler.errors import Unavailable
from reconciler.model.desired import SandboxSpec
from reconciler.model.observed import SandboxInfo
from tests.backends.processes import eventually, left_with, parent, pids, processes_with, runs

COUNT = 12


def servers(root: Path) -> list[int]:
    """Those for this root that are not about to become a keeper."""
    found = [pid for pid in processes_with(f"\0{root}\0") if "forkserver.py" in "".join(words(pid)[3:4])]
    return [pid for pid in found if parent(pid) not in found]


def words(pid: int) -> list[str]:
    """None of one that has ended meanwhile."""
    try:
        data = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return data.rstrip(b"\0").decode().split("\0")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "state"
    yield root
    ours = ProcessBackend(str(root), "none")
    for seen in ours.observe():
        ours.destroy(seen.info)
    assert left_with(str(root)) == []


def test_one_forks_all_that_are_started_at_once_and_is_gone_with_the_last(root: Path) -> None:
    seen: list[int] = []
    together = threading.Barrier(COUNT)

    def look(point: str) -> None:
        if point == "recorded":
            together.wait(20)
        if point == "started":
            seen.extend(servers(root))
            together.wait(20)

    backend = ProcessBackend(str(root), "none", checkpoint=look)
    with ThreadPoolExecutor(COUNT) as pool:
        infos = list(pool.map(lambda n: backend.create(None, f"n{n}"), range(COUNT)))
    assert len(seen) == COUNT
    assert len(set(seen)) == 1
    assert servers(root) == []
    assert [backend.exec(info, ["true"]).exit_code for info in infos] == [0] * COUNT
    assert len({pids(root, f"n{n}")["keeper"] for n in range(COUNT)}) == COUNT


def test_a_keeper_is_shown_with_the_directory_of_its_sandbox(root: Path) -> None:
    backend = ProcessBackend(str(root), "none")
    backend.create(None, "one")
    keeper = pids(root, "one")["keeper"]
    script, directory = words(keeper)[-2:]
    assert directory == str(root / "one")
    assert script.endswith("sandboxd/keeper.py")
    assert Path(f"/proc/{keeper}/comm").read_text().strip() == "keeper"


def test_there_is_room_for_the_longest_of_them(tmp_path: Path) -> None:
    root = tmp_path.joinpath(*["d" * 200] * 8, "ü")
    backend = ProcessBackend(str(root), "none")
    info = backend.create(None, "s" * 51)
    keeper = pids(root, "s" * 51)["keeper"]
    try:
        assert words(keeper)[-1] == str(root / ("s" * 51))
        assert Path(f"/proc/{keeper}/environ").read_bytes().startswith(b"LC_ALL=")
    finally:
        backend.destroy(info)
    assert not runs(keeper)


def test_killed_before_it_is_asked_another_takes_its_place(root: Path) -> None:
    def kill(point: str) -> None:
        if point == "recorded":
            [server] = servers(root)
            os.kill(server, signal.SIGKILL)
            eventually(lambda: not runs(server), "its end")

    backend = ProcessBackend(str(root), "none", checkpoint=kill)
    info = backend.create(None, "one")
    assert backend.list_running() == [info]


def test_killed_after_it_was_asked_nothing_is_there_and_the_next_try_makes_it(root: Path) -> None:
    stopped: list[int] = []

    def stop_then_kill(point: str) -> None:
        if point == "recorded":
            stopped.extend(servers(root))
            os.kill(stopped[0], signal.SIGSTOP)
        if point == "told":
            os.kill(stopped[0], signal.SIGKILL)

    backend = ProcessBackend(str(root), "none", checkpoint=stop_then_kill)
    with pytest.raises(Unavailable, match="started nothing"):
        backend.create(None, "one")
    assert backend.observe() == []
    assert processes_with(str(root)) == []
    assert [ProcessBackend(str(root), "none").create(None, "one")] == backend.list_running()


def test_nothing_comes_later_of_one_that_was_given_up(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What forks is stopped when it is asked; another creation waits for it, too."""
    monkeypatch.setattr("reconciler.backends.process.launch._NAMED_WITHIN", 0.2)
    recorded, given_up = threading.Event(), threading.Event()
    stopped: list[int] = []

    def fail(point: str) -> None:
        if threading.current_thread().name == "waits":
            if point == "recorded":
                recorded.set()
                assert given_up.wait(20)
        elif point == "recorded":
            assert recorded.wait(20)
            stopped.extend(servers(root))
            os.kill(stopped[0], signal.SIGSTOP)
        elif point == "told":
            raise RuntimeError("the disk is on fire")

    backend = ProcessBackend(str(root), "none", checkpoint=fail)
    waiting = threading.Thread(target=backend.create, args=(None, "two"), name="waits")
    waiting.start()
    try:
        with pytest.raises(RuntimeError):
            backend.create(None, "one")
        assert [runs(server) for server in stopped] == [False]
    finally:
        given_up.set()
        waiting.join()
    assert [info.sandbox_id for info in backend.list_running()] == ["two"]
    assert processes_with(str(root / "one")) == []


def test_one_that_is_stopped_is_not_waited_for_forever_by_whoever_has_much_to_tell(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a pipe holds, that is."""
    monkeypatch.setattr("reconciler.backends.process.launch._NAMED_WITHIN", 0.2)
    monkeypatch.setattr(backend_module, "Order", lambda **given: Order(**{**given, "timeout": 0.5}))
    stopped: list[int] = []

    def stop(point: str) -> None:
        if point == "recorded":
            stopped.extend(servers(root))
            os.kill(stopped[0], signal.SIGSTOP)

    spec = SandboxSpec(environment={f"V{n}": "x" * 100_000 for n in range(10)})
    backend, failed = ProcessBackend(str(root), "none", checkpoint=stop), list[BaseException]()

    def create() -> None:
        try:
            backend.create(None, "one", spec=spec)
        except Unavailable as error:
            failed.append(error)

    waiting = threading.Thread(target=create, daemon=True)
    waiting.start()
    waiting.join(10)
    hangs = waiting.is_alive()
    if hangs:
        os.kill(stopped[0], signal.SIGKILL)
        waiting.join()
    assert not hangs
    assert "did not listen within 0.5 s" in str(failed[0])
    assert not runs(stopped[0])
    assert backend.observe() == []


@pytest.mark.parametrize("point", ["recorded", "spawned", "told"])
def test_it_ends_with_its_creator(root: Path, point: str) -> None:
    script = (
        "import os, sys; from reconciler.backends.process import ProcessBackend\n"
        "die = lambda point: os.kill(os.getpid(), 9) if point == sys.argv[2] else None\n"
        "ProcessBackend(sys.argv[1], 'none', checkpoint=die).create(None, 'one')\n"
    )
    words = [sys.executable, "-c", script, str(root), point]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], timeout=30, check=False)
    assert done.returncode == -signal.SIGKILL
    eventually(lambda: servers(root) == [], "its end")


def test_one_that_cannot_start_says_why(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.backends.process.forkserver.forkserver_script", lambda: "/nowhere.py")

    def wait(point: str) -> None:
        if point == "recorded":
            eventually(lambda: not servers(root), "its end", 2.0)

    backend = ProcessBackend(str(root), "none", checkpoint=wait)
    with pytest.raises(Unavailable, match=r"/nowhere\.py"):
        backend.create(None, "one")
    assert backend.observe() == []


def test_an_interpreter_that_is_gone_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reconciler.backends.process.forkserver.python", lambda: str(root / "python"))
    backend = ProcessBackend(str(root), "none")
    with pytest.raises(Unavailable, match="cannot start a process: No such file"):
        backend.create(None, "one")
    assert backend.observe() == []


def test_a_keeper_that_is_killed_beside_others_leaves_no_zombie_while_they_are_made(root: Path) -> None:
    other = threading.Event()

    def wait(point: str) -> None:
        if point == "started" and threading.current_thread().name == "waits":
            other.wait(20)

    backend = ProcessBackend(str(root), "none", checkpoint=wait)
    waiting = threading.Thread(target=backend.create, args=(None, "two"), name="waits")
    waiting.start()
    try:
        eventually(lambda: pids(root, "two"), "the other one")
        backend.create(None, "one")
        keeper = pids(root, "one")["keeper"]
        os.kill(keeper, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{keeper}").exists(), "it to be collected")
        assert len(servers(root)) == 1
    finally:
        other.set()
        waiting.join()
    backend.destroy(SandboxInfo("one", ""))
    assert [info.sandbox_id for info in backend.list_running()] == ["two"]


def test_a_fork_of_the_creator_does_not_hold_it_up(root: Path) -> None:
    """Which has a copy of all descriptors, and lives on."""
    script = (
        "import os, signal, sys; from reconciler.backends.process import ProcessBackend, forkserver\n"
        "forkserver._ENDS_WITHIN = 600\n"
        "forked = []\n"
        "def fork(point):\n"
        "    if point == 'told':\n"
        "        forked.append(os.fork())\n"
        "        if not forked[0]: signal.pause()\n"
        "ProcessBackend(sys.argv[1], 'none', checkpoint=fork).create(None, 'one')\n"
        "os.kill(forked[0], 9)\n"
    )
    words = [sys.executable, "-c", script, str(root)]
    subprocess.run(words, cwd=Path(__file__).parents[2], timeout=30, check=True)


def test_a_fork_of_the_creator_makes_its_own_whatever_was_going_on(root: Path) -> None:
    """Another thread starts what forks keepers, and has the lock for that; what it made is none of the fork's business."""
    script = (
        "import os, sys, threading; from pathlib import Path\n"
        "from reconciler.backends.process import ProcessBackend, forkserver\n"
        "starts, forked = threading.Event(), threading.Event()\n"
        "class Slow(forkserver._Running):\n"
        "    def __init__(self, root):\n"
        "        super().__init__(root)\n"
        "        if not starts.is_set(): starts.set(); forked.wait(20)\n"
        "forkserver._Running = Slow\n"
        "backend = ProcessBackend(sys.argv[1], 'none')\n"
        "thread = threading.Thread(target=backend.create, args=(None, 'one')); thread.start()\n"
        "starts.wait(20)\n"
        "def child():\n"
        "    backend.create(None, 'two')\n"
        "    return Path(f'/proc/self/task/{os.getpid()}/children').read_text() != ''\n"
        "pid = os.fork()\n"
        "if not pid: os._exit(child())\n"
        "threading.Timer(5.0, os.kill, (pid, 9)).start()\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
        "forked.set(); thread.join(); os._exit(code & 127)\n"
    )
    words = [sys.executable, "-c", script, str(root)]
    subprocess.run(words, cwd=Path(__file__).parents[2], timeout=30, check=True)
    running = ProcessBackend(str(root), "none").list_running()
    assert [info.sandbox_id for info in running] == ["one", "two"]


def test_a_fork_in_the_midst_of_a_creation_leaves_what_forks_keepers_to_its_parent(root: Path) -> None:
    script = (
        "import os, signal, sys, time; from reconciler.backends.process import ProcessBackend\n"
        "def fork(point):\n"
        "    if point == 'recorded' and not os.fork(): time.sleep(60)\n"
        "    if point == 'recorded': os.kill(os.getpid(), 9)\n"
        "ProcessBackend(sys.argv[1], 'none', checkpoint=fork).create(None, 'one')\n"
    )
    words = [sys.executable, "-c", script, str(root)]
    process = subprocess.Popen(words, cwd=Path(__file__).parents[2], start_new_session=True)
    assert process.wait(30) == -signal.SIGKILL
    try:
        eventually(lambda: servers(root) == [], "its end")
    finally:
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("free", [1, 2, 3])
def test_a_creator_without_streams_of_its_own_is_served_at_once(root: Path, free: int) -> None:
    """Its end of the socket must not be what becomes a stream."""
    script = (
        "import os, sys, subprocess; from reconciler.backends.process import ProcessBackend, forkserver\n"
        "started = []\n"
        "class Counted(forkserver._Running):\n"
        "    def __init__(self, root): started.append(1); super().__init__(root)\n"
        "forkserver._Running = Counted\n"
        "def close(point):\n"
        "    if point == 'locked':\n"
        "        for fd in range(3 - int(sys.argv[2]), 3): os.close(fd)\n"
        "ProcessBackend(sys.argv[1], 'none', checkpoint=close).create(None, 'one')\n"
        "os._exit(len(started) - 1)\n"
    )
    words = [sys.executable, "-c", script, str(root), str(free)]
    subprocess.run(words, cwd=Path(__file__).parents[2], timeout=30, check=True)
    assert [info.sandbox_id for info in ProcessBackend(str(root), "none").list_running()] == ["one"]


@pytest.mark.parametrize("limit", [24, 40])
def test_few_descriptors_are_enough_or_the_lack_of_them_is_told(root: Path, limit: int) -> None:
    script = (
        "import resource, sys; from concurrent.futures import ThreadPoolExecutor\n"
        "from reconciler.backends.process import ProcessBackend; from reconciler.errors import BackendError\n"
        "backend = ProcessBackend(sys.argv[1], 'none')\n"
        "def made(n):\n"
        "    try:\n"
        "        return backend.create(None, f'n{n}').sandbox_id\n"
        "    except BackendError as error:\n"
        "        return type(error).__name__\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]),) * 2)\n"
        "with ThreadPoolExecutor(8) as pool: told = list(pool.map(made, range(8)))\n"
        "print(' '.join(told))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(root), str(limit)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    made = {name for name in told if name.startswith("n")}
    assert {info.sandbox_id for info in ProcessBackend(str(root), "none").list_running()} == made
    assert len(told) == 8


def test_a_fork_that_is_refused_when_nobody_waits_for_it_any_more_disturbs_nobody_else() -> None:
    """Driven here as the backend does it: with the limit on processes that makes forks fail."""
    if os.getuid() != 0:
        pytest.skip("only root can become a user with no other process")
    ours, theirs = socket.socketpair()
    run = "import os, resource, sys; sys.path.insert(0, PLACE); from reconciler.sandboxd import forkserver\n"
    run += "os.setgid(65534); os.setuid(65534); resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))\n"
    run += "sys.argv[1:3] = [sys.argv[2], '/x', ' ' * 99]; forkserver.main()\n"
    place = str(Path(__file__).parents[2])
    with ours, theirs, open(os.devnull, "rb") as null:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", run.replace("PLACE", repr(place)), "", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
        )
        theirs.close()
        for waits in (False, True):
            reading, writing = os.pipe()
            other = null.fileno()
            if not waits:
                os.close(reading)
            socket.send_fds(ours, [b"k"], [other, writing, other, other, other])
            os.close(writing)
        with open(reading, "rb") as answer:
            assert answer.read().endswith(b" fork")
        ours.close()
        assert process.communicate(timeout=10)[1] == b""
