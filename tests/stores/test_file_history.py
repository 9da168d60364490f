"""Older versions on a real disk: private, bounded, never written through a link, and readable beside damage."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from reconciler.errors import StateCorrupt, StateTooNew, StoreError
from reconciler.stores.file.history import KEPT
from reconciler.testing.store_conformance import STACK, a_state
from tests.stores.places import a_store

HISTORY = f"{STACK}.history"


def written(directory: Path, times: int) -> Path:
    """The history after so many writes, of serials from 1 on."""
    store = a_store(directory)
    with store.lock("apply") as lease:
        state = a_state("a")
        for _ in range(times):
            state = store.write(lease, state)
    return directory / HISTORY


def names(history: Path) -> list[str]:
    return sorted((path.name for path in history.iterdir()), key=lambda name: (len(name), name))


def test_the_newest_twenty_stay_and_nothing_that_is_not_a_version_goes(tmp_path: Path) -> None:
    history = written(tmp_path, 2)
    strangers = ("notes.txt", "07.json", "1.json.old")
    for name in strangers:
        (history / name).write_text("mine")
    store = a_store(tmp_path)
    with store.lock("apply") as lease:
        state = store.version(2)
        for _ in range(30):
            state = store.write(lease, state)
    expected = [f"{serial}.json" for serial in range(32 - KEPT, 32)]
    assert set(names(history)) == {*expected, *strangers}
    assert [version.serial for version in store.history()] == list(range(32, 31 - KEPT, -1))


def test_a_version_is_the_replaced_snapshot_byte_for_byte(tmp_path: Path) -> None:
    store = a_store(tmp_path)
    with store.lock("apply") as lease:
        first = store.write(lease, a_state("a"))
        text = (tmp_path / f"{STACK}.json").read_bytes()
        store.write(lease, first)
    assert (tmp_path / HISTORY / "1.json").read_bytes() == text


def test_versions_kept_after_an_older_state_was_put_back_are_the_newest(tmp_path: Path) -> None:
    """Serials begin again lower down then: what is kept last must not be what goes first."""
    history = written(tmp_path, 30)
    for path in history.iterdir():
        os.utime(path, (1.0, 1.0))
    shutil.copy(history / "12.json", tmp_path / f"{STACK}.json")
    store = a_store(tmp_path)
    with store.lock("apply") as lease:
        state = store.read()
        assert state is not None
        store.write(lease, store.write(lease, state))
    assert {"12.json", "13.json"} <= set(names(history))
    assert len(names(history)) == KEPT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "is empty", id="an empty file"),
        pytest.param("{", "is no state", id="a file cut short"),
        pytest.param("SERIAL", "holds serial 2 of stack", id="another version under its name"),
        pytest.param("STACK", "holds serial 1 of stack 'elsewhere'", id="another stack's"),
    ],
)
def test_a_damaged_version_is_told_and_hides_no_other(tmp_path: Path, text: str, says: str) -> None:
    history = written(tmp_path, 4)
    whole = (history / "1.json").read_text()
    made = {"SERIAL": (history / "2.json").read_text(), "STACK": whole.replace(f'"{STACK}"', '"elsewhere"')}
    (history / "1.json").write_text(made.get(text, text))
    store = a_store(tmp_path)
    assert [(v.serial, bool(v.damage)) for v in store.history()] == [
        (4, False),
        (3, False),
        (2, False),
        (1, True),
    ]
    assert says in store.history()[-1].damage
    with pytest.raises(StateCorrupt, match=says):
        store.version(1)
    assert store.version(2).serial == 2
    [told] = [told for what, well, told in store.check() if what == "older versions" and not well]
    assert "1.json" in told
    assert told.endswith("remove it")


def test_a_version_of_a_newer_format_is_left_to_the_newer_version(tmp_path: Path) -> None:
    history = written(tmp_path, 2)
    (history / "1.json").write_text('{"format": "9.0"}')
    with pytest.raises(StateTooNew):
        a_store(tmp_path).version(1)


def test_versions_can_be_had_when_the_state_itself_is_damaged(tmp_path: Path) -> None:
    """That is when they are needed."""
    written(tmp_path, 3)
    (tmp_path / f"{STACK}.json").write_text("{")
    store = a_store(tmp_path)
    assert [(version.serial, version.current) for version in store.history()] == [(2, False), (1, False)]
    assert store.version(2).serial == 2
    with pytest.raises(StoreError) as refused:
        store.version(3)
    assert "2, 1" in refused.value.hint


def test_a_link_in_place_of_the_history_is_not_written_through(tmp_path: Path) -> None:
    history = written(tmp_path / "state", 2)
    shutil.rmtree(history)
    (tmp_path / "elsewhere").mkdir()
    history.symlink_to(tmp_path / "elsewhere")
    store = a_store(tmp_path / "state")
    with store.lock("apply") as lease, pytest.raises(StoreError, match="symbolic link"):
        store.write(lease, store.version(2))
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert store.read() == store.version(2)


def test_a_link_in_place_of_a_version_is_not_written_through(tmp_path: Path) -> None:
    history = written(tmp_path, 3)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (history / "3.json").symlink_to(victim)
    store = a_store(tmp_path)
    with store.lock("apply") as lease, pytest.raises(StoreError, match="symbolic link"):
        store.write(lease, store.version(3))
    assert victim.read_text() == "mine"


def test_a_file_in_place_of_the_history_is_told_and_the_state_stays(tmp_path: Path) -> None:
    written(tmp_path, 1)
    (tmp_path / HISTORY).write_text("mine")
    store = a_store(tmp_path)
    with store.lock("apply") as lease, pytest.raises(StoreError) as refused:
        store.write(lease, store.version(1))
    assert "no directory" in refused.value.message
    state = store.read()
    assert state is not None
    assert state.serial == 1
    assert "older versions" in [what for what, well, _ in store.check() if not well]


def test_leftovers_of_a_killed_write_are_swept_by_the_next_run_though_it_writes_nothing(
    tmp_path: Path,
) -> None:
    history = written(tmp_path, 2)
    ours, theirs = history / f".{STACK}.tmp-0123abcd", history / ".notes"
    ours.write_text("half a version")
    theirs.write_text("not ours")
    store = a_store(tmp_path)
    store.read()
    assert ours.exists()
    store.lock("apply").release()
    assert not ours.exists()
    assert theirs.exists()


def test_nothing_is_swept_through_a_link_in_place_of_the_history(tmp_path: Path) -> None:
    history = written(tmp_path / "state", 2)
    shutil.rmtree(history)
    (tmp_path / "elsewhere").mkdir()
    history.symlink_to(tmp_path / "elsewhere")
    theirs = tmp_path / "elsewhere" / f".{STACK}.tmp-0123abcd"
    theirs.write_text("mine")
    a_store(tmp_path / "state").lock("apply").release()
    assert theirs.exists()
