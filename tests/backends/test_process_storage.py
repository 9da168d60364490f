"""The embedded backend when its files are in trouble: removed behind its back, damaged, or not to be written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.backends.process import ProcessBackend
from reconciler.backends.process.records import Directory, Record
from reconciler.errors import Permanent
from reconciler.model.desired import SandboxSpec
from reconciler.model.observed import SandboxInfo
from reconciler.testing.backend_conformance import an_owner
from tests.backends.processes import ISOLATIONS, eventually, pids, processes_with, runs, server_pid

MOUNTED = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
HERE = Path(__file__).parents[2]


@pytest.fixture(params=ISOLATIONS)
def backend(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ProcessBackend]:
    backend = ProcessBackend(str(tmp_path / "state"), request.param)
    yield backend
    for path in Path(backend.root).glob("[a-z]*"):
        backend.destroy(SandboxInfo(path.name, ""))
    assert eventually(lambda: not processes_with(backend.root), "all of it to end")


def everything(backend: ProcessBackend, sandbox_id: str) -> list[int]:
    root = Path(backend.root)
    server_pid(root, sandbox_id)
    return sorted({*pids(root, sandbox_id).values(), *processes_with(f"{root}/{sandbox_id}\0")})


def test_where_its_sandboxes_are_kept_is_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backend = ProcessBackend("state", "none")
    monkeypatch.chdir("/")
    assert backend.place() == str(tmp_path / "state")


# -- removed behind its back


def test_a_sandbox_whose_directory_is_removed_ends(backend: ProcessBackend) -> None:
    info = backend.create(None, "lost")
    backend.exec(info, ["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &"])
    running = everything(backend, "lost")
    assert all(runs(pid) for pid in running)
    shutil.rmtree(Path(backend.root) / "lost")
    eventually(lambda: not any(runs(pid) for pid in running), "keeper and all to end")
    assert eventually(
        lambda: not processes_with(backend.root, info.container_id or "?"), "its daemons to end"
    )
    assert backend.observe() == []


def test_its_successor_of_the_same_id_is_left_alone(backend: ProcessBackend) -> None:
    backend.create(None, "lost")
    first = everything(backend, "lost")
    shutil.rmtree(Path(backend.root) / "lost")
    info = backend.create(None, "lost")
    second = pids(Path(backend.root), "lost")
    eventually(lambda: not any(runs(pid) for pid in first), "the first to end")
    assert runs(second["keeper"])
    assert backend.list_running() == [info]
    assert not (Path(backend.root) / "lost" / "exit.json").exists()
    assert backend.exec(info, ["true"]).exit_code == 0


def test_a_damaged_or_changed_record_ends_nothing(backend: ProcessBackend) -> None:
    """Three sandboxes, watched for as long as the keeper of a fourth takes to notice that it is lost."""
    for name in ("cut", "updated", "unrecorded", "witness"):
        backend.create(None, name, spec=SandboxSpec(owner=an_owner()))
    root = Path(backend.root)
    running = [pid for name in ("cut", "updated", "unrecorded") for pid in everything(backend, name)]
    witness = everything(backend, "witness")
    texts = {name: (root / name / "record.json").read_text() for name in ("cut", "unrecorded")}
    (root / "cut" / "record.json").write_text('{"format": "1", "sandb')
    (root / "unrecorded" / "record.json").unlink()
    for index in range(5):
        backend.update(SandboxInfo("updated", ""), SandboxSpec(labels={"instance": f"n{index}"}))
    time.sleep(0.05)
    shutil.rmtree(root / "witness")
    eventually(lambda: not any(runs(pid) for pid in witness), "the witness to end")
    assert all(runs(pid) for pid in running)
    for name, text in texts.items():
        (root / name / "record.json").write_text(text)


# -- damaged


def test_doctor_hears_of_each_broken_record_with_its_processes_and_the_way_out(
    backend: ProcessBackend,
) -> None:
    root = Path(backend.root)
    for name in ("hurt", "torn", "whole"):
        backend.create(None, name)
    (root / "strange").mkdir()
    assert ("records", True) in [(what, well) for what, well, _ in backend.check()]
    texts = {name: (root / name / "record.json").read_text() for name in ("hurt", "torn")}
    notes = (root / "torn" / "process.json").read_text()
    for name in texts:
        (root / name / "record.json").write_text("{")
    (root / "torn" / "process.json").write_text("{")
    hurt, torn = (detail for what, well, detail in backend.check() if what == "records" and not well)
    assert f"{root}/hurt/record.json" in hurt
    assert f"keeper {json.loads((root / 'hurt' / 'process.json').read_text())['keeper'][0]}" in hurt
    assert f"then remove {root}/hurt by hand" in hurt
    assert "process.json cannot be read either" in torn
    assert f"then remove {root}/torn by hand" in torn
    with pytest.raises(Permanent) as raised:
        backend.observe()
    for name in texts:
        assert f"{root}/{name}/record.json" in raised.value.message
        assert f"remove {root}/{name} by hand" in raised.value.hint
    for name, text in texts.items():
        (root / name / "record.json").write_text(text)
    (root / "torn" / "process.json").write_text(notes)
    shutil.rmtree(root / "strange")


# -- not to be written

ON_A_MOUNT = """
import json, os, subprocess, sys, time
from reconciler.backends.process import ProcessBackend
from reconciler.model.observed import SandboxInfo

place, first, later, verb = sys.argv[1:]
mount = ["mount", "-t", "tmpfs"]
subprocess.run([*mount, "-o", first, "tmpfs", place], check=True)
backend = ProcessBackend(place + "/state", "none")
if later:
    info = backend.create(None, "a")
    with open(place + "/state/a/process.json") as file:
        found = json.load(file)
    for name in ("keeper", "main"):  # who has a file open for writing keeps the mount writable
        os.kill(found[name][0], 9)
    deadline = time.monotonic() + 10
    while subprocess.run(["mount", "-o", later, place], capture_output=True).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.05)
try:
    backend.destroy(info) if verb == "destroy" else backend.create(None, "b")
except Exception as error:
    print(type(error).__name__, "|", error, "|", getattr(error, "hint", ""))
subprocess.run(["mount", "-o", "remount,rw,size=1m,nr_inodes=99", place], check=True)
backend.destroy(SandboxInfo("a", ""))
backend.destroy(SandboxInfo("b", ""))
"""


def can_mount() -> bool:
    if sys.platform != "linux" or not shutil.which("unshare"):
        return False
    words = [*MOUNTED, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(words, capture_output=True, check=False, timeout=10).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="may not mount a file system to fill")
@pytest.mark.parametrize(
    ("first", "later", "verb", "reason", "hint"),
    [
        pytest.param(
            "nr_inodes=2", "", "create", "No space left", "free some space", id="no room for a lock"
        ),
        pytest.param(
            "size=4k", "", "create", "No space left", "free some space", id="no room for the record"
        ),
        pytest.param("size=8k", "", "create", "No space left", "free some space", id="none for the keeper"),
        pytest.param(
            "nr_inodes=99", "remount,ro", "create", "Read-only", "writable", id="read-only to create"
        ),
        pytest.param(
            "nr_inodes=99", "remount,ro", "destroy", "Read-only", "writable", id="read-only to destroy"
        ),
    ],
)
def test_what_cannot_be_written_is_told_with_the_path_and_the_way_out(
    tmp_path: Path, first: str, later: str, verb: str, reason: str, hint: str
) -> None:
    done = subprocess.run(
        [*MOUNTED, sys.executable, "-c", ON_A_MOUNT, str(tmp_path), first, later, verb],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    kind, message, advice = done.stdout.split(" | ")
    assert kind in ("NoSpace", "Permanent", "Unavailable")
    assert message.startswith(f"cannot write {tmp_path}/state")
    assert reason in message
    assert hint in advice
    assert processes_with(str(tmp_path / "state")) == []


@pytest.mark.parametrize("verb", ["create", "destroy"])
def test_a_lock_that_cannot_be_opened_is_an_answer_of_the_backend(tmp_path: Path, verb: str) -> None:
    backend = ProcessBackend(str(tmp_path), "none")
    (tmp_path / ".locks" / "a").mkdir(parents=True)
    with pytest.raises(Permanent, match=f"cannot write {tmp_path}/.locks/a: Is a directory"):
        backend.create(None, "a") if verb == "create" else backend.destroy(SandboxInfo("a", ""))


def test_a_lock_file_that_cannot_be_removed_is_let_go_of_all_the_same(tmp_path: Path) -> None:
    """Else whoever tries again would wait for itself."""
    path = tmp_path / ".locks" / "a"
    with Directory(str(tmp_path)).locked("a", 1.0) as lock:
        path.unlink()
        path.mkdir()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(lock)


def test_a_listing_that_meets_an_unreadable_record_says_so(tmp_path: Path) -> None:
    backend = ProcessBackend(str(tmp_path), "none")
    (tmp_path / "a" / "record.json").mkdir(parents=True)
    with pytest.raises(Permanent, match=f"cannot read {tmp_path}/a: Is a directory") as raised:
        backend.observe()
    assert "make it readable" in raised.value.hint


def test_a_record_with_a_lone_surrogate_is_read_as_it_was_written() -> None:
    meant = Record(
        sandbox_id="web",
        instance="0" * 16,
        created_at=1.0,
        host="127.0.0.1",
        port=8080,
        isolation="none",
        labels={"told": "a \ud800 b", "other": "é\u2028"},
    )
    assert Record.from_json(meant.to_json()) == meant
