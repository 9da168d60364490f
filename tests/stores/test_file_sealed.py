"""An encrypted file store at rest: nothing to read, nothing to swap, and a way in, out and from key to key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconciler.core.fold import fold_all
from reconciler.errors import StateCorrupt, StoreError
from reconciler.stores.file import FileStore
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores.places import a_key, a_sealer, a_store

SNAPSHOT, BACKUP, JOURNAL = f"{STACK}.json", f"{STACK}.json.backup", f"{STACK}.journal.jsonl"
KEY_FILE, HISTORY = f"{STACK}.key", f"{STACK}.history"
SECRET_WORDS = (b"LOG_OF_ANN", b"aio:1", b"main", b"a-lineage", b"127.0.0.1", b"sb-", b"process")


def used(directory: Path, sealer: Sealer) -> FileStore:
    """A store in which everything is: snapshot, backup, versions, journal, key, lock."""
    store = a_store(directory, sealer=sealer)
    with store.lock("apply") as lease:
        store.write(lease, store.write(lease, store.write(lease, a_state("LOG_OF_ANN"))))
        store.append(lease, created("b"))
        store.append(lease, created("c"))
    store.secret_key(create=True)
    return store


def words_at_rest(directory: Path) -> set[tuple[str, bytes]]:
    files = [
        path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(f"{STACK}.lock")
    ]
    assert len(files) >= 6
    return {(path.name, word) for path in files for word in SECRET_WORDS if word in path.read_bytes()}


def test_no_address_and_nothing_of_a_specification_is_in_any_file(tmp_path: Path) -> None:
    used(tmp_path / "clear", PLAIN)
    assert {word for _, word in words_at_rest(tmp_path / "clear")} == set(SECRET_WORDS)
    store = used(tmp_path / "sealed", a_sealer(a_key()))
    assert words_at_rest(tmp_path / "sealed") == set()
    key = store.secret_key(create=False)
    assert key is not None
    assert key.hex().encode() not in (tmp_path / "sealed" / KEY_FILE).read_bytes()
    assert ("state is encrypted", True, "all of it") in store.check()


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


def test_a_state_in_clear_is_read_and_the_next_write_encrypts_all_of_it(tmp_path: Path) -> None:
    before = used(tmp_path, PLAIN).read()
    ages = {path.name: path.stat().st_mtime_ns for path in (tmp_path / HISTORY).iterdir()}
    store = a_store(tmp_path, sealer=a_sealer(a_key()))
    assert store.read() == before
    [told] = [told for what, _, told in store.check() if what == "state is encrypted"]
    assert "not yet: " in told
    assert before is not None
    with store.lock("apply") as lease:
        store.append(lease, created("d"))
        assert words_at_rest(tmp_path) >= {(SNAPSHOT, b"aio:1")}
        assert not [word for name, word in words_at_rest(tmp_path) if name == JOURNAL]
        store.write(lease, fold_all(before, created("d")))
    assert words_at_rest(tmp_path) == set()
    assert {name: (tmp_path / HISTORY / name).stat().st_mtime_ns for name in ages} == ages
    with pytest.raises(StoreError, match="the configuration names no key"):
        a_store(tmp_path).read()


@pytest.mark.parametrize("name", [SNAPSHOT, JOURNAL, KEY_FILE, f"{HISTORY}/1.json"])
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bit_of_any_file_can_be_flipped(tmp_path: Path, name: str, data: st.DataObject) -> None:
    directory = tmp_path / "state"
    if not directory.exists():
        used(directory, a_sealer(a_key()))
    path = directory / name
    whole = path.read_bytes()
    last = len(whole) - (2 if name == JOURNAL else 1)  # its last newline is what acknowledges the line
    place, bit = data.draw(st.integers(0, last)), data.draw(st.integers(0, 7))
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
    store = a_store(directory, sealer=a_sealer(a_key()))
    try:
        with pytest.raises(StoreError):  # noqa: PT012 - whichever reads it
            store.read()
            store.secret_key(create=True)
            store.version(1)
    finally:
        path.write_bytes(whole)


def test_the_wrong_key_is_never_an_empty_state_and_never_replaces_one(tmp_path: Path) -> None:
    used(tmp_path, a_sealer(a_key(1)))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    store = a_store(tmp_path, sealer=a_sealer(a_key(2)))
    for look in (store.read, store.history, lambda: store.version(3), lambda: store.secret_key(create=True)):
        with pytest.raises(StoreError, match="is encrypted with another key than KEY_") as refused:
            look()
        assert not isinstance(refused.value, StateCorrupt)
    with store.lock("apply") as lease:
        for write in (
            lambda: store.write(lease, a_state(serial=9)),
            lambda: store.append(lease, created("z")),
        ):
            with pytest.raises(StoreError, match="another key"):
                write()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == before


def lines_of(directory: Path) -> list[bytes]:
    return (directory / JOURNAL).read_bytes().splitlines(keepends=True)


def chained(lines: list[bytes]) -> bytes:
    """The lines with their checksums made right again, as somebody who has no key can do it."""
    import json
    import zlib

    crc, found = 0, []
    for line in lines:
        text = json.dumps(json.loads(line)["entry"], separators=(",", ":")).encode()
        crc = zlib.crc32(text, crc)
        found.append(b'{"crc":"%08x","entry":%s}\n' % (crc, text))
    return b"".join(found)


def test_no_line_of_a_journal_can_be_moved_left_out_doubled_or_brought_in(tmp_path: Path) -> None:
    used(tmp_path / "one", a_sealer(a_key()))
    used(tmp_path / "two", a_sealer(a_key()))
    lines, others = lines_of(tmp_path / "one"), lines_of(tmp_path / "two")
    store = a_store(tmp_path / "one", sealer=a_sealer(a_key()))
    assert chained(lines) == b"".join(lines)
    changed = {
        "moved": [*lines[:2], lines[3], lines[2], *lines[4:]],
        "left out": [*lines[:2], *lines[3:]],
        "doubled": [*lines[:3], *lines[2:]],
        "brought in": [*lines[:2], others[2], *lines[3:]],
        "of another journal from there on": [*lines[:3], *others[3:]],
        "without its header": lines[1:],
    }
    for how, made in changed.items():
        (tmp_path / "one" / JOURNAL).write_bytes(chained(made))
        with pytest.raises(StateCorrupt, match=r"journal\.jsonl:\d+ was changed since") as refused:
            store.read()
        assert "move the journal away" in refused.value.hint, how


def test_a_journal_in_clear_cannot_be_slipped_under_an_encrypted_state(tmp_path: Path) -> None:
    used(tmp_path / "clear", PLAIN)
    used(tmp_path / "sealed", a_sealer(a_key()))
    (tmp_path / "sealed" / JOURNAL).write_bytes((tmp_path / "clear" / JOURNAL).read_bytes())
    with pytest.raises(StateCorrupt, match=r"is not encrypted, but .*research\.json, which it continues, is"):
        a_store(tmp_path / "sealed", sealer=a_sealer(a_key())).read()


def test_with_enforced_no_state_in_clear_can_take_the_place(tmp_path: Path) -> None:
    used(tmp_path, PLAIN)
    with pytest.raises(StoreError, match="is not encrypted") as refused:
        a_store(tmp_path, sealer=a_sealer(a_key(), enforced=True)).read()
    assert "without `enforced`" in refused.value.hint


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


def test_a_swapped_version_is_noticed_and_the_backup_can_be_copied_back(tmp_path: Path) -> None:
    sealer = a_sealer(a_key())
    store = used(tmp_path, sealer)
    one, two = tmp_path / HISTORY / "1.json", tmp_path / HISTORY / "2.json"
    one.write_bytes(two.read_bytes())
    with pytest.raises(StateCorrupt, match="holds serial 2"):
        store.version(1)
    (tmp_path / SNAPSHOT).write_bytes((tmp_path / BACKUP).read_bytes())
    (tmp_path / JOURNAL).unlink()
    state = a_store(tmp_path, sealer=sealer).read()
    assert state is not None
    assert state.serial == 2


def test_the_key_of_another_stack_does_not_open_here(tmp_path: Path) -> None:
    used(tmp_path, a_sealer(a_key()))
    other = FileStore("other", path=tmp_path, environ={}, sealer=a_sealer(a_key(), stack="other"))
    (tmp_path / "other.key").write_bytes((tmp_path / KEY_FILE).read_bytes())
    with pytest.raises(StateCorrupt, match="belongs somewhere else"):
        other.secret_key(create=True)
