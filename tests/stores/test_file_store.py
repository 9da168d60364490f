"""The file store on a real disk: who may read it, what reading leaves alone, and what a kill at any moment leaves."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from reconciler.errors import LockHeld, StateCorrupt, StoreError
from reconciler.stores.file import FileStore
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores.places import a_store, picture

SNAPSHOT, BACKUP, JOURNAL = f"{STACK}.json", f"{STACK}.json.backup", f"{STACK}.journal.jsonl"
HISTORY = f"{STACK}.history"


def used(directory: Path) -> FileStore:
    """A store in which everything is: snapshot, backup, journal, key, lock."""
    store = a_store(directory)
    with store.lock("apply") as lease:
        store.write(lease, store.write(lease, a_state("a")))
        store.append(lease, created("b"))
    store.secret_key(create=True)
    return store


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777], ids=lambda mask: f"under umask {mask:03o}")
def test_every_file_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    before = os.umask(umask)
    try:
        store = used(directory)
    finally:
        os.umask(before)
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}
    expected = (SNAPSHOT, BACKUP, JOURNAL, "1.json", f"{STACK}.key", f"{STACK}.lock", f"{STACK}.lock.guard")
    assert names == {**dict.fromkeys(expected, 0o600), HISTORY: 0o700}
    assert all(well for _, well, _ in store.check())


def test_the_directory_is_made_private_and_only_when_it_is_needed(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "state"
    store = a_store(directory)
    assert store.read() is None
    assert store.lock_info() is None
    assert store.secret_key(create=False) is None
    assert not (tmp_path / "new").exists()
    used(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_mode_that_was_opened_up_is_closed_again_by_the_next_write(tmp_path: Path) -> None:
    store = used(tmp_path)
    for path in tmp_path.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    [(what, told)] = [(what, told) for what, well, told in store.check() if not well]
    assert what == "state is private"
    assert "chmod 600 " in told
    assert f"&& chmod -R go-rwx {tmp_path / HISTORY}" in told
    with store.lock("apply") as lease:
        state = store.read()
        assert state is not None
        store.write(lease, state)
    for name in (SNAPSHOT, BACKUP, f"{STACK}.lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / HISTORY).stat().st_mode) == 0o700


def test_reading_never_writes(tmp_path: Path) -> None:
    store = used(tmp_path)
    (tmp_path / JOURNAL).write_bytes(
        (tmp_path / JOURNAL).read_bytes()[:-5]
    )  # a torn tail is not repaired either
    before = picture(tmp_path)
    again = a_store(tmp_path)
    again.read()
    again.lock_info()
    again.secret_key(create=True)
    again.check()
    again.describe()
    again.history()
    again.version(1)
    assert picture(tmp_path) == before
    assert store.read() == again.read()


def test_a_write_keeps_the_snapshot_before_byte_for_byte_and_removes_the_journal(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    with store.lock("apply") as lease:
        first = store.write(lease, a_state("a"))
        assert not (tmp_path / BACKUP).exists()
        text = (tmp_path / SNAPSHOT).read_bytes()
        store.append(lease, created("b"))
        assert (tmp_path / JOURNAL).exists()
        store.write(lease, first)
        assert not (tmp_path / JOURNAL).exists()
    assert (tmp_path / BACKUP).read_bytes() == text


def test_a_damaged_state_is_neither_read_nor_replaced_nor_made_the_backup(tmp_path: Path) -> None:
    store = used(tmp_path)
    (tmp_path / SNAPSHOT).write_text("{")
    before = picture(tmp_path)[str(tmp_path / BACKUP)]
    with pytest.raises(StateCorrupt):
        store.read()
    with store.lock("apply") as lease:
        with pytest.raises(StateCorrupt):
            store.write(lease, a_state(serial=9))
        with pytest.raises(StateCorrupt):
            store.append(lease, created("c"))
    assert (tmp_path / SNAPSHOT).read_text() == "{"
    assert picture(tmp_path)[str(tmp_path / BACKUP)] == before


def test_a_state_that_was_changed_behind_the_holders_back_is_noticed(tmp_path: Path) -> None:
    """What the holder remembers of its own write counts only while the file is that very file."""
    store = a_store(tmp_path)
    with store.lock("apply") as lease:
        store.write(lease, a_state("a"))
        path = tmp_path / SNAPSHOT
        path.write_text(path.read_text().replace('"serial": 1', '"serial": 9'))
        with pytest.raises(StoreError, match="serial 9 already"):
            store.write(lease, a_state("a", serial=1))
        path.write_text("{")
        with pytest.raises(StateCorrupt):
            store.append(lease, created("b"))


@pytest.mark.parametrize("left", [BACKUP, JOURNAL, HISTORY], ids=["the backup", "the journal", "the history"])
def test_a_lost_state_is_not_an_empty_one(tmp_path: Path, left: str) -> None:
    """Guards promise 4: nothing may be created anew because a file is gone."""
    store = used(tmp_path)
    if left != HISTORY:
        shutil.rmtree(tmp_path / HISTORY)
    for name in {SNAPSHOT, BACKUP, JOURNAL} - {left}:
        (tmp_path / name).unlink()
    with pytest.raises(StateCorrupt, match=f"is missing, but .*{left} is there") as refused:
        store.read()
    assert "to begin anew" in refused.value.hint
    with store.lock("apply") as lease, pytest.raises(StateCorrupt):
        store.write(lease, a_state())


def test_restoring_the_backup_as_the_hint_says_works(tmp_path: Path) -> None:
    store = used(tmp_path)
    (tmp_path / SNAPSHOT).write_text("")
    with pytest.raises(StateCorrupt, match="empty") as refused:
        store.read()
    for name in (BACKUP, SNAPSHOT):
        assert name in refused.value.hint
    shutil.copy(tmp_path / BACKUP, tmp_path / SNAPSHOT)
    (tmp_path / JOURNAL).unlink()
    state = store.read()
    assert state is not None
    assert state.serial == 1


@pytest.mark.parametrize("name", [SNAPSHOT, JOURNAL, f"{STACK}.key", f"{STACK}.lock"])
def test_a_symbolic_link_is_refused(tmp_path: Path, name: str) -> None:
    store = used(tmp_path / "state")
    path = tmp_path / "state" / name
    target = path.rename(tmp_path / "elsewhere")
    path.symlink_to(target)
    before = target.read_bytes()

    def everything() -> None:
        with store.lock("apply") as lease:
            state = store.read()
            assert state is not None
            store.secret_key(create=True)
            store.append(lease, created("c"))
            store.write(lease, state)

    with pytest.raises(StoreError, match="symbolic link"):
        everything()
    assert path.is_symlink()
    assert target.read_bytes() == before


def test_a_link_in_place_of_the_backup_is_not_written_through(tmp_path: Path) -> None:
    store = used(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / BACKUP).unlink()
    (tmp_path / BACKUP).symlink_to(victim)
    with store.lock("apply") as lease, pytest.raises(StoreError, match="symbolic link"):
        store.write(lease, a_state(serial=5))
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a FIFO", "a directory"])
def test_what_is_no_file_is_refused_without_hanging(tmp_path: Path, make: object) -> None:
    make(tmp_path / SNAPSHOT)  # type: ignore[operator]
    with pytest.raises(StoreError):
        a_store(tmp_path).read()


def test_a_file_where_the_directory_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    store = a_store(tmp_path / "state")
    with pytest.raises(StoreError, match="cannot create the directory"):
        store.lock("apply")
    assert next(what for what, well, _ in store.check() if not well) == "state directory"


@pytest.mark.parametrize("stack", ["", "../x", "a/b", ".hidden", "a b", "a\n"])
def test_a_stack_name_never_leads_out_of_the_directory(tmp_path: Path, stack: str) -> None:
    with pytest.raises(StoreError, match="file name"):
        FileStore(stack, path=tmp_path)


def test_two_stacks_in_one_directory_do_not_meet(tmp_path: Path) -> None:
    used(tmp_path)
    other = FileStore("other", path=tmp_path, environ={})
    assert other.read() is None
    with a_store(tmp_path).lock("apply"), other.lock("apply"):
        assert other.secret_key(create=True) != a_store(tmp_path).secret_key(create=True)


# --- key


def test_the_key_of_the_environment_comes_first_and_leaves_no_file(tmp_path: Path) -> None:
    store = a_store(tmp_path, environ={"RECONCILER_STATE_KEY": "correct horse"})
    assert store.secret_key(create=True) == sha256(b"correct horse").digest()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_key_of_the_environment_is_an_error(tmp_path: Path) -> None:
    """A CI secret that is not set arrives as an empty text; another key would change every secret's digest."""
    with pytest.raises(StoreError, match="RECONCILER_STATE_KEY is set, but empty"):
        a_store(tmp_path, environ={"RECONCILER_STATE_KEY": ""}).secret_key(create=True)


@pytest.mark.parametrize("text", ["", "ab", "g" * 64, "0" * 63, "0" * 65])
def test_a_damaged_key_is_never_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"{STACK}.key"
    path.write_text(text)
    with pytest.raises(StateCorrupt, match="is no key"):
        a_store(tmp_path).secret_key(create=True)
    assert path.read_text() == text


# --- killed


@pytest.mark.parametrize("kept", ["clear", "sealed"])
def test_a_kill_at_any_system_call_leaves_what_was_acknowledged_and_no_lock(
    tmp_path: Path, kept: str
) -> None:
    """The driver forks a run per kill point and looks at what each one left; see `killed_anywhere.py`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.stores.killed_anywhere", str(tmp_path), kept],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 40, (
        "the run is longer than that, so the kill points were not reached"
    )


def test_leftovers_of_a_killed_write_are_swept_by_the_next_run(tmp_path: Path) -> None:
    store = used(tmp_path)
    ours, theirs = tmp_path / f".{STACK}.tmp-0123abcd", tmp_path / f".{STACK}.tmp-notes"
    ours.write_text("half a state")
    theirs.write_text("not ours")
    store.read()
    assert ours.exists()
    store.lock("apply").release()
    assert not ours.exists()
    assert theirs.exists()


def test_a_damaged_lock_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    store = used(tmp_path)
    for text in (
        "",
        "{",
        "[]",
        "{}",
        '{"fence": 1, "holder": {"id": 1}}',
        '{"fence": 1e999, "holder": null}',
    ):
        (tmp_path / f"{STACK}.lock").write_text(text)
        for look in (store.lock_info, lambda: store.lock("apply"), lambda: store.force_unlock("x")):
            with pytest.raises(StateCorrupt, match=r"lock file .* is damaged") as refused:
                look()
            assert "remove it" in refused.value.hint
        assert ("lock", False) in [(what, well) for what, well, _ in store.check()]


def test_a_run_that_is_still_there_is_named_in_the_check(tmp_path: Path) -> None:
    store = used(tmp_path)
    with store.lock("apply") as lease:
        assert ("lock", True, f"held by {lease.info.holder}") in store.check()
        with pytest.raises(LockHeld):
            a_store(tmp_path).lock("apply")
