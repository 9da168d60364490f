"""An encrypted directory: what files alone have. What holds for every store is in `test_sealed.py`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.errors import StoreError
from reconciler.stores.file import FileStore
from reconciler.stores.sealing import PLAIN, Sealer, is_sealed
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores.places import a_key, a_sealer, a_store
from tests.support.effort import effort

SNAPSHOT, BACKUP, JOURNAL = f"{STACK}.json", f"{STACK}.json.backup", f"{STACK}.journal.jsonl"
HISTORY = f"{STACK}.history"


def used(directory: Path, sealer: Sealer) -> FileStore:
    """A store in which everything is: snapshot, backup, versions, journal, key, lock."""
    store = a_store(directory, sealer=sealer)
    with store.lock("apply") as lease:
        store.write(lease, store.write(lease, store.write(lease, a_state("LOG_OF_ANN"))))
        store.append(lease, created("b"))
        store.append(lease, created("c"))
    store.secret_key(create=True)
    return store


@pytest.mark.parametrize("change", ["on", "keys", "off"], ids="a change: {}".format)
def test_a_kill_at_any_moment_of_a_change_loses_nothing(tmp_path: Path, change: str) -> None:
    """See `sealed_anywhere.py`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.stores.sealed_anywhere", str(tmp_path), change],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 30


def test_versions_are_as_old_as_they_were_once_they_are_encrypted(tmp_path: Path) -> None:
    """Which are the newest twenty is told by their age."""
    before = used(tmp_path, PLAIN).read()
    assert before is not None
    ages = {path.name: path.stat().st_mtime_ns for path in (tmp_path / HISTORY).iterdir()}
    store = a_store(tmp_path, sealer=a_sealer(a_key()))
    with store.lock("apply") as lease:
        store.write(lease, before)
    assert all(is_sealed((tmp_path / HISTORY / name).read_bytes()) for name in ages)
    assert {name: (tmp_path / HISTORY / name).stat().st_mtime_ns for name in ages} == ages


@settings(
    deadline=None, max_examples=effort(20, 80), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_bit_of_a_journal_can_be_flipped(tmp_path: Path, data: st.DataObject) -> None:
    directory = tmp_path / "state"
    if not directory.exists():
        used(directory, a_sealer(a_key()))
    path = directory / JOURNAL
    whole = path.read_bytes()
    last = len(whole) - 2  # its last newline is what acknowledges the line
    place, bit = data.draw(st.integers(0, last)), data.draw(st.integers(0, 7))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    store = a_store(directory, sealer=a_sealer(a_key()))
    try:
        with pytest.raises(StoreError):
            store.read()
    finally:
        path.write_bytes(whole)


def lines_of(directory: Path) -> list[bytes]:
    return (directory / JOURNAL).read_bytes().splitlines(keepends=True)


def test_a_torn_tail_is_left_out_and_the_next_run_goes_on_after_it(tmp_path: Path) -> None:
    sealer = a_sealer(a_key())
    used(tmp_path, sealer)
    whole = (tmp_path / JOURNAL).read_bytes()
    for cut in range(1, len(lines_of(tmp_path)[-1]) + 1):
        (tmp_path / JOURNAL).write_bytes(whole[:-cut])
        state = a_store(tmp_path, sealer=sealer).read()
        assert state is not None
        assert set(state.sandboxes) == {"LOG_OF_ANN", "b", "c"}, cut
    store = a_store(tmp_path, sealer=sealer)
    with store.lock("apply") as lease:
        store.append(lease, created("d"))
    again = a_store(tmp_path, sealer=sealer).read()
    assert again is not None
    assert set(again.sandboxes) == {"LOG_OF_ANN", "b", "c", "d"}


def test_the_backup_can_be_copied_back(tmp_path: Path) -> None:
    sealer = a_sealer(a_key())
    used(tmp_path, sealer)
    (tmp_path / SNAPSHOT).write_bytes((tmp_path / BACKUP).read_bytes())
    (tmp_path / JOURNAL).unlink()
    state = a_store(tmp_path, sealer=sealer).read()
    assert state is not None
    assert state.serial == 2
