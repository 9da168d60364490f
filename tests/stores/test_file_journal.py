"""The journal: a torn tail is left out, damage anywhere else is named, and the next run continues what is whole."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.core.fold import fold_all
from reconciler.errors import StateCorrupt, StateTooNew
from reconciler.model.desired import Address
from reconciler.model.outcome import Entry, Intent
from reconciler.model.state import State
from reconciler.stores.file import disk, journal
from reconciler.stores.file.journal import Header
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores.places import a_store
from tests.support.effort import effort

HEADER = Header(stack=STACK, lineage="a-lineage", base=1)
ENTRIES = [*created("a"), *created("b")]


def encoded(entries: list[Entry]) -> bytes:
    head, link = journal.encode_header(HEADER)
    return head + journal.encode_entries(entries, link)[0]


def line_of(data: object, crc: int = 0) -> bytes:
    text = json.dumps(data).encode()
    return b'{"crc":"%08x","entry":%s}\n' % (zlib.crc32(text, crc), text)


def torn_store(directory: Path, cut: int) -> State:
    """A store whose journal lost its last `cut` bytes; the state that its snapshot holds."""
    store = a_store(directory)
    with store.lock("apply") as lease:
        base = store.write(lease, a_state())
        store.append(lease, ENTRIES)
    path = directory / f"{STACK}.journal.jsonl"
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    return base


def test_a_journal_is_read_as_it_was_written() -> None:
    read = journal.decode(encoded(ENTRIES), place="j")
    assert read is not None
    assert read.header == HEADER
    assert list(read.entries) == ENTRIES


def test_an_intent_keeps_that_it_takes_over_and_an_older_one_takes_over_nothing() -> None:
    meant = [entry for entry in ENTRIES if isinstance(entry, Intent)]
    taking = [replace(entry, imported=True) for entry in meant]

    read = journal.decode(encoded([*taking, *meant]), place="j")

    assert read is not None
    assert list(read.entries) == [*taking, *meant]
    assert b"imported" not in encoded([*meant])


def test_every_line_is_one_json_object() -> None:
    for line in encoded(ENTRIES).splitlines():
        assert set(json.loads(line)) == {"crc", "entry"}


def test_a_journal_cut_off_at_any_byte_keeps_every_whole_entry_and_nothing_else() -> None:
    data = encoded(ENTRIES)
    for cut in range(len(data) + 1):
        read = journal.decode(data[:cut], place="j")
        # the newline alone may be missing from a whole line
        whole = sum(data[:end].endswith(b"\n") for end in range(1, cut + 1)) + (data[cut : cut + 1] == b"\n")
        kept = [] if read is None else list(read.entries)
        assert kept == ENTRIES[: max(0, whole - 1)], cut
        assert (read is None) == (whole == 0), cut


@settings(deadline=None, max_examples=effort(100, 10_000))
@given(st.integers(0, len(encoded(ENTRIES)) - 2), st.integers(1, 255))
def test_any_byte_changed_before_the_last_newline_is_damage_named_by_its_line(place: int, bits: int) -> None:
    data = bytearray(encoded(ENTRIES))
    data[place] ^= bits
    with pytest.raises(StateCorrupt, match=r"^j:\d+ is damaged") as refused:
        journal.decode(bytes(data), place="j")
    line = encoded(ENTRIES)[:place].count(b"\n") + 1
    assert refused.value.message.startswith(f"j:{line} ")
    assert refused.value.hint


def lost(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], *lines[3:]]


def doubled(lines: list[bytes]) -> list[bytes]:
    return [*lines[:3], lines[2], *lines[3:]]


def swapped(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


@pytest.mark.parametrize("change", [lost, doubled, swapped], ids=lambda f: f"a line that was {f.__name__}")
def test_lines_are_chained(change: object) -> None:
    lines = encoded(ENTRIES).splitlines(keepends=True)
    with pytest.raises(StateCorrupt):
        journal.decode(b"".join(change(lines)), place="j")  # type: ignore[operator]


@pytest.mark.parametrize(
    "first",
    [[], 1, {}, {"kind": "journal"}, {"kind": "x", "format": "1.0", "stack": "s", "lineage": "l", "base": 1}],
    ids=lambda first: f"a first line {first}",
)
def test_a_journal_without_its_header_is_refused(first: object) -> None:
    with pytest.raises(StateCorrupt, match="j:1 is no journal header"):
        journal.decode(line_of(first), place="j")


def test_a_newer_journal_is_left_to_the_newer_version() -> None:
    newer = {"kind": "journal", "format": "2.0", "stack": "s", "lineage": "l", "base": 1}
    with pytest.raises(StateTooNew, match=r"2\.0"):
        journal.decode(line_of(newer), place="j")


@pytest.mark.parametrize(
    "entry",
    [[], {}, {"operation": "create", "address": "a", "kind": "?"}, {**ENTRIES[0].to_dict(), "spec": 3}],
    ids=["a list", "nothing", "another kind", "a spec that is a number"],
)
def test_an_entry_that_is_whole_but_none_of_ours_is_refused(entry: object) -> None:
    head, link = journal.encode_header(HEADER)
    with pytest.raises(StateCorrupt, match="j:2 is no journal entry"):
        journal.decode(head + line_of(entry, link.crc), place="j")


# --- in the store


def test_reading_a_journal_torn_at_every_byte_of_its_last_entry_gives_the_rest(tmp_path: Path) -> None:
    last = len(encoded(ENTRIES)) - len(encoded(ENTRIES[:-1]))
    for cut in range(2, last + 1):
        directory = tmp_path / str(cut)
        base = torn_store(directory, cut)
        assert a_store(directory).read() == fold_all(base, ENTRIES[:-1]), cut


@pytest.mark.parametrize("cut", [1, 2, 40], ids=["only its newline", "a brace", "half of it"])
def test_the_next_run_appends_after_what_is_whole(tmp_path: Path, cut: int) -> None:
    base = torn_store(tmp_path, cut)
    kept = ENTRIES if cut == 1 else ENTRIES[:-1]
    store = a_store(tmp_path)
    with store.lock("apply") as lease:
        store.append(lease, created("c"))
        store.append(lease, created("d"))
    assert a_store(tmp_path).read() == fold_all(base, [*kept, *created("c"), *created("d")])


def test_damage_is_told_by_file_and_line_with_what_to_do(tmp_path: Path) -> None:
    torn_store(tmp_path, 0)
    path = tmp_path / f"{STACK}.journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"ready"', b'"READY"', 1))
    with pytest.raises(StateCorrupt, match=r"research\.journal\.jsonl:4 is damaged") as refused:
        a_store(tmp_path).read()
    assert "backup" in refused.value.hint


def test_a_journal_that_the_snapshot_contains_already_is_ignored_and_begun_anew(tmp_path: Path) -> None:
    """A run that died after the rename of the snapshot and before the removal of the journal. The snapshot is one
    that a second replay would change: `state rm` took a record out that the journal had put in."""
    torn_store(tmp_path, 0)
    path = tmp_path / f"{STACK}.journal.jsonl"
    contained = path.read_bytes()
    store = a_store(tmp_path)
    with store.lock("state rm") as lease:
        state = store.read()
        assert state is not None
        written = store.write(lease, state.without(Address("a")))
    path.write_bytes(contained)
    again = a_store(tmp_path)
    assert again.read() == written
    with again.lock("apply") as lease:
        again.append(lease, created("c"))
    assert a_store(tmp_path).read() == fold_all(written, created("c"))


def test_an_older_state_under_a_newer_journal_is_refused(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    with store.lock("apply") as lease:
        store.write(lease, store.write(lease, a_state("a")))
        store.append(lease, created("b"))
    snapshot, backup = tmp_path / f"{STACK}.json", tmp_path / f"{STACK}.json.backup"
    snapshot.write_bytes(backup.read_bytes())
    with pytest.raises(StateCorrupt, match=r"continues serial 2, but .* is of serial 1") as refused:
        a_store(tmp_path).read()
    assert "move" in refused.value.hint
    (tmp_path / f"{STACK}.journal.jsonl").unlink()  # as the hint says
    assert a_store(tmp_path).read() is not None


def test_a_journal_of_another_lineage_is_refused(tmp_path: Path) -> None:
    torn_store(tmp_path, 0)
    snapshot = tmp_path / f"{STACK}.json"
    snapshot.write_text(snapshot.read_text().replace("a-lineage", "another"))
    with pytest.raises(StateCorrupt, match="lineage"):
        a_store(tmp_path).read()


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    from reconciler.errors import StoreError
    from reconciler.testing.store_conformance import a_state, created
    from tests.stores.places import a_store

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    directory = Path(sys.argv[1])
    store = a_store(directory)
    with store.lock("apply") as lease:
        store.write(lease, a_state())
        store.append(lease, created("a"))
        size = (directory / "research.journal.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        try:
            store.append(lease, created("b"))
        except StoreError as error:
            print(error)
        assert (directory / "research.journal.jsonl").stat().st_size == size
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.append(lease, created("c"))
"""


def test_an_append_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "cannot append to" in done.stdout
    state = a_store(tmp_path).read()
    assert state is not None
    assert sorted(state.sandboxes) == ["a", "c"]


def test_only_what_announces_an_effect_costs_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thirds of all rounds tell who is ready; a power cut that takes those is made up for by the next look."""
    store = a_store(tmp_path)
    synced: list[Entry] = []
    with store.lock("apply") as lease:
        base = store.write(lease, a_state())
        store.append(lease, ENTRIES[:1])
        for entry in ENTRIES[1:]:
            monkeypatch.setattr(disk, "sync", lambda _, entry=entry: synced.append(entry))
            store.append(lease, [entry])
        monkeypatch.undo()
    assert synced == [entry for entry in ENTRIES[1:] if isinstance(entry, Intent)] != []
    assert a_store(tmp_path).read() == fold_all(base, ENTRIES)
