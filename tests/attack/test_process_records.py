"""Records in the process backend's root that somebody else wrote: no process of another is ended, no file of another
removed, read or waited for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reconciler.backends.process import ProcessBackend, processes
from reconciler.errors import BackendError, Permanent
from reconciler.model.observed import Phase, SandboxInfo
from tests.attack.hostile import EVIL

ID = "box-1"
INFO = SandboxInfo(sandbox_id=ID, sandbox_url="")
INSTANCE = "0123456789abcdef"
OWNER = {
    "stack": "demo",
    "lineage": "l",
    "address": "box",
    "generation": 1,
    "spec_hash": "h",
    "protected": False,
}
RECORD: dict[str, Any] = {
    "format": "1", "sandbox_id": ID, "instance": INSTANCE, "created_at": 1.0, "host": "127.0.0.1", "port": 1,
    "isolation": "none", "owner": OWNER, "thread_id": None, "labels": {}, "spec": {}, "secret_dir": "",
    "extra_mounts": [],
}  # fmt: skip


@dataclass
class Root:
    path: Path
    backend: ProcessBackend

    @property
    def place(self) -> Path:
        return self.path / ID

    def record(self, **more: Any) -> None:
        self.text("record.json", json.dumps({**RECORD, **more}))

    def text(self, name: str, text: str) -> None:
        self.place.mkdir(exist_ok=True)
        (self.place / name).write_text(text)

    def processes(self, **named: Any) -> None:
        self.text("process.json", json.dumps({"boot": processes.boot_id(), **named}))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    path = tmp_path / "root"
    path.mkdir()
    made = Root(path, ProcessBackend(str(path), "none", grace=0.1))
    made.text("key", "k")
    return made


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this user that is no sandbox's."""
    process = subprocess.Popen(["sleep", "100"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("name", ["keeper", "main", "server"])
def test_a_process_of_somebody_else_is_never_ended_though_a_record_names_it_to_its_start(
    root: Root, stranger: subprocess.Popen[bytes], name: str
) -> None:
    theirs, gone = processes.started(stranger.pid), [2**22 - 1, "1"]
    named = {"keeper": gone, "main": gone, name: [theirs.pid, theirs.start]}
    root.record()
    root.processes(**named)
    root.backend.destroy(INFO)
    assert stranger.poll() is None
    assert not root.place.exists()


def test_a_process_that_has_the_id_of_one_of_ours_by_now_is_never_ended(
    root: Root, stranger: subprocess.Popen[bytes]
) -> None:
    root.record()
    root.processes(keeper=[stranger.pid, "1"], main=[stranger.pid, "1"])
    root.backend.destroy(INFO)
    assert stranger.poll() is None


def test_a_process_of_ours_is_known_by_what_it_descends_from(tmp_path: Path) -> None:
    script = "sleep 100 & echo $!; wait"
    environ = {**os.environ, "RECONCILER_INSTANCE": INSTANCE}
    with subprocess.Popen(["sh", "-c", script], env=environ, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = processes.started(int(parent.stdout.readline()))
        marker = f"RECONCILER_INSTANCE={INSTANCE}"
        assert processes.belongs(child, marker, str(tmp_path))
        assert processes.belongs(processes.started(parent.pid), marker, str(tmp_path))
        assert not processes.belongs(processes.started(os.getpid()), marker, str(tmp_path))
        processes.send(child, 9)
        parent.kill()


WRONG_PROCESSES = {
    "a list": "[]",
    "nested a hundred thousand deep": "[" * 100_000,
    "an id beyond all": json.dumps({"boot": "b", "keeper": [10**40, "1"], "main": [1, "1"]}),
    "a negative id": json.dumps({"boot": "b", "keeper": [-1, "1"], "main": [-1, "1"]}),
    "an id that is infinite": '{"boot": "b", "keeper": [1e400, "1"], "main": [1, "1"]}',
    "an id that is true": json.dumps({"boot": "b", "keeper": [True, "1"], "main": [1, "1"]}),
    "words": json.dumps({"boot": "b", "keeper": "ab", "main": "cd"}),
    "no boot": json.dumps({"keeper": [1, "1"], "main": [1, "1"]}),
}


@pytest.mark.parametrize("text", WRONG_PROCESSES.values(), ids=WRONG_PROCESSES.keys())
def test_noted_processes_that_make_no_sense_are_unknown_and_can_be_destroyed(root: Root, text: str) -> None:
    root.record()
    root.text("process.json", text)
    seen = root.backend.look(ID)
    assert seen is not None
    assert seen.phase is Phase.UNKNOWN
    root.backend.destroy(INFO)
    assert not root.place.exists()


WRONG_RECORDS: dict[str, dict[str, Any]] = {
    "a directory of secrets elsewhere": {"secret_dir": "/tmp/precious"},
    "a directory of secrets with a way out": {"secret_dir": f"/dev/shm/reconciler-0-{INSTANCE}/../../tmp"},
    "no instance": {"instance": ""},
    "an instance that is a pattern of others": {"instance": "0"},
    "a host that is a name": {"host": "evil.example"},
    "a host with a header in it": {"host": "127.0.0.1\r\nX: y"},
    "a port out of range": {"port": 10**9},
    "a port that is true": {"port": True},
    "a time that is none": {"created_at": float("nan")},
    "a time without end": {"created_at": float("inf")},
    "labels that are no text": {"labels": {"a": 1}},
    "a spec of lists": {"spec": {"a": ["x"]}},
    "a thread that is a list": {"thread_id": ["x"]},
    "mounts of numbers": {"extra_mounts": [[1, 2, 3]]},
    "mounts of two": {"extra_mounts": [["a", "b"]]},
    "an owner that is a list": {"owner": [1]},
    "an owner with more": {"owner": {**OWNER, "more": 1}},
    "an owner without an address": {"owner": {**OWNER, "address": ""}},
    "a generation that is a text": {"owner": {**OWNER, "generation": "1"}},
    "a generation beyond all": {"owner": {**OWNER, "generation": 10**30}},
    "a negative generation": {"owner": {**OWNER, "generation": -1}},
    "another id": {"sandbox_id": EVIL},
    "a format that is a list": {"format": [EVIL]},
    "a key nobody knows": {"zzz": 1},
}


@pytest.mark.parametrize("more", WRONG_RECORDS.values(), ids=WRONG_RECORDS.keys())
def test_a_record_that_makes_no_sense_is_told_and_nothing_is_done_by_it(
    root: Root, tmp_path: Path, more: dict[str, Any]
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    if more.get("secret_dir") == "/tmp/precious":
        more = {"secret_dir": str(precious)}
    root.record(**more)
    for act in (root.backend.observe, lambda: root.backend.look(ID), lambda: root.backend.destroy(INFO)):
        with pytest.raises(Permanent, match="cannot be read"):
            act()
    assert precious.is_dir()
    assert root.place.is_dir()


@pytest.mark.parametrize(
    "text", ["[]", "[" * 100_000, '{"a":' * 100_000, "9" * 10_000, '""', ""], ids=["a list", "brackets", "braces", "digits", "a text", "nothing"]
)  # fmt: skip
def test_what_is_no_record_at_all_is_told(root: Root, text: str) -> None:
    root.text("record.json", text)
    with pytest.raises(Permanent, match="cannot be read"):
        root.backend.observe()


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _link(path: Path, precious: Path) -> None:
    path.symlink_to(precious)


def _zero(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


def _directory(path: Path, _: Path) -> None:
    path.mkdir()


def _huge(path: Path, _: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("put", [_fifo, _link, _zero, _directory, _huge])
@pytest.mark.parametrize("name", ["record.json", "process.json", "exit.json", "key", "log"])
def test_nothing_is_waited_for_followed_or_read_without_end(
    root: Root, tmp_path: Path, name: str, put: Callable[[Path, Path], None]
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    root.record()
    (root.place / name).unlink(missing_ok=True)
    put(root.place / name, precious)
    acts: tuple[Callable[[], object], ...] = (
        lambda: list(root.backend.observe()),
        lambda: root.backend.request_headers(INFO),
        lambda: list(root.backend.logs(INFO, tail=1)) if put is not _huge else None,
        lambda: root.backend.destroy(INFO),
    )
    for act in acts:
        try:
            act()
        except (BackendError, OSError):
            continue
    assert precious.read_text() == "x"
    assert all(isinstance(row, tuple) for row in root.backend.check())


def test_a_link_in_place_of_a_sandbox_is_removed_and_not_what_it_leads_to(root: Root, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    root.record()
    shutil.move(root.place, elsewhere)
    root.place.symlink_to(elsewhere)
    root.backend.destroy(INFO)
    assert not root.place.is_symlink()
    assert (elsewhere / "record.json").exists()
