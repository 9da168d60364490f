"""`lock show` and `force-unlock` on the installed command: a lock of somebody else's, and one that somebody made up."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.stores.file import FileStore
from tests.support.cli import Folder, folder

YAML = "version: 1\nstack: held\nbackends: {local: {type: memory, path: world}}\nsandboxes: {one: {backend: local}}\n"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Folder]:
    with folder(tmp_path) as made:
        made.write(YAML)
        yield made


def test_who_is_turned_away_is_told_who_where_what_since_when_and_how_long(stack: Folder) -> None:
    store = FileStore("held", path=stack.path / "state")
    with store.lock("destroy") as lease:
        said = stack("apply", "--auto-approve", code=4).stderr
        host = os.uname().nodename
        for word in (
            f"@{host}",
            f"(pid {os.getpid()}, destroy)",
            "since 20",
            "its lease lasts",
            lease.info.id,
        ):
            assert word in said.replace("\n  ", " ")
        shown = stack("lock", "show").stdout
        for row in (f"where  {host}, pid {os.getpid()}", "what   destroy", "lease  expires in", "fence 1"):
            assert row in shown
        assert json.loads(stack("lock", "show", "--json").stdout)["lock"]["fence"] == 1


def test_a_killed_apply_is_followed_at_once_and_said_so(stack: Folder) -> None:
    stack.write(YAML.replace("path: world", "path: world, create_seconds: 3600"))
    killed = stack.start("apply", "--auto-approve")
    wait_until((stack.path / "state" / "held.journal.jsonl").exists)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    stack.write(YAML)
    assert "of a process that is gone, so the next run takes it over" in stack("lock", "show").stdout
    assert "which is gone: the next run takes it over" in stack("doctor").stdout.replace("\n     ", "")
    assert "holds the lock" not in stack("drift").stderr
    said = stack("apply", "--auto-approve").stderr
    assert f"(pid {killed.pid}, apply) was left by a run that is gone; it is ours now" in said.replace(
        "\n", " "
    )
    stack("plan", "--detailed-exitcode", code=0)


def test_a_stopped_apply_that_goes_on_after_another_one_writes_nothing_and_says_what_happened(
    stack: Folder,
) -> None:
    stack.write(YAML.replace("path: world", "path: world, ready_seconds: 1.5"))
    stopped = stack.start("apply", "--auto-approve")
    try:
        journal = stack.path / "state" / "held.journal.jsonl"
        wait_until(
            lambda: journal.exists() and '"outcome"' in journal.read_text()
        )  # it waits for readiness now
        stop_between_writes(stopped.pid, stack.path / "state" / "held.lock.guard")
        held = json.loads(stack("lock", "show", "--json").stdout)["lock"]
        assert held["pid"] == stopped.pid
        stack("force-unlock", held["id"])
        stack("apply", "--auto-approve")
        before = {path: path.read_bytes() for path in (stack.path / "state").rglob("*") if path.is_file()}
        os.kill(stopped.pid, signal.SIGCONT)
        _, said = stopped.communicate(timeout=60)
    finally:
        stopped.kill()
        stopped.communicate()
    told = " ".join(said.split())
    assert stopped.returncode == 1
    assert (
        "was taken from this run: nobody holds it now, so nothing more is written; 1 of 1 steps were done"
        in told
    )
    assert "run the command again once the other is done" in told
    assert "Traceback" not in said
    assert {path: path.read_bytes() for path in (stack.path / "state").rglob("*") if path.is_file()} == before
    stack("plan", "--detailed-exitcode")


def stop_between_writes(pid: int, guard: Path) -> None:
    """In the middle of one it holds the guard of the lock, and then nobody can do anything."""

    def stopped() -> bool:
        os.kill(pid, signal.SIGSTOP)
        with guard.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.kill(pid, signal.SIGCONT)
                return False
        return True

    wait_until(stopped)


def wait_until(is_so: Callable[[], bool]) -> None:
    patience_ends = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < patience_ends
        time.sleep(0.01)


def test_a_lock_that_somebody_made_up_moves_no_cursor_and_shows_no_traceback(stack: Folder) -> None:
    now = time.time()
    holder = {
        "id": "a" * 32,
        "who": "\x1b[31mann\u202e\ud800\n",
        "host": "h\rh",
        "pid": 7,
        "operation": "ap\tply",
    }
    more = {"since": now, "expires": now + 25, "fence": 4, "boot": "b", "started": "s"}
    (stack.path / "state").mkdir(mode=0o700)
    path = stack.path / "state" / "held.lock"
    path.write_text(json.dumps({"format": "1.0", "fence": 4, "holder": {**holder, **more}}))
    path.chmod(0o600)
    for command, code in (
        ("lock show", 0),
        ("apply --auto-approve", 4),
        ("force-unlock b", 1),
        ("doctor", 0),
    ):
        done = stack(*command.split(), code=code)
        assert not {"\x1b", "\u202e", "\r"} & {*done.stdout, *done.stderr}, command
    assert stack("lock", "show", "--json").stdout.isascii()
    assert stack("doctor").stdout.count("lock: held by") == 1
    stack("force-unlock", "a" * 32)
