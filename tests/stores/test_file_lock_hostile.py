"""A lock file of somebody else's making, and a directory that may not be written: an error that says what and where, or an
ordinary record; never a traceback, never a lock that is believed half."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import StateCorrupt, StateTooNew, StoreError
from reconciler.testing.store_conformance import STACK, a_state
from tests.stores.places import NOW, Clock, Machine, a_store

NOBODY = 65534


def record(**changes: Any) -> dict[str, Any]:
    """One that is ours, of a process that is gone, with something of it changed."""
    holder = {
        "id": "a" * 32,
        "who": "ann@here",
        "host": "here",
        "pid": 7,
        "operation": "apply",
        "since": NOW,
        "expires": NOW + 30,
        "fence": 4,
        "boot": "boot-1",
        "started": "t1",
        "beats": 2,
    }
    return {"format": "1.0", "fence": 4, "holder": {**holder, **changes}}


def text(**changes: Any) -> bytes:
    return json.dumps(record(**changes)).encode()


BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "half of one": text()[:90],
    "no JSON": b"\x00\xff\xfe junk",
    "another document": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "nested beyond measure": b"[" * 200_000,
    "a holder that is a list": json.dumps({**record(), "holder": [1]}).encode(),
    "no holder": b'{"format": "1.0", "fence": 4}',
    "no fence": b'{"format": "1.0", "holder": null}',
    "a fence that counts down": json.dumps({**record(), "fence": -5}).encode(),
    "a fence beyond all counting": b'{"format": "1.0", "holder": null, "fence": 1' + b"0" * 4000 + b"}",
    "a fence that is infinite": b'{"format": "1.0", "holder": null, "fence": 1e999}',
    "a fence that is a text": b'{"format": "1.0", "holder": null, "fence": "5"}',
    "an id that is a command": text(id="x`; rm -rf ~"),
    "an id that is a number": text(id=7),
    "a pid below zero": text(pid=-1),
    "a pid that is none": text(pid="seven"),
    "a time that is none": text(since=float("nan")),
    "a time without end": text(expires=float("inf")),
    "a time before all times": text(since=-1e300),
    "beats that are none": text(beats=[]),
    "a format that is none": json.dumps({**record(), "format": 1}).encode(),
    "more than any record has": text(who="x" * 1_000_000),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_record_is_refused_and_left(tmp_path: Path, data: bytes) -> None:
    store = a_store(tmp_path, host=Machine().process(8), timing=Clock().timing(renew=1e6))
    path = tmp_path / f"{STACK}.lock"
    path.write_bytes(data)
    for attempt in (store.lock_info, lambda: store.lock("apply"), lambda: store.force_unlock("a" * 32)):
        with pytest.raises(StateCorrupt, match=r"the lock file .*research\.lock is damaged") as refused:
            attempt()
        assert refused.value.hint == "remove it when no reconciler runs on this stack"
    assert path.read_bytes() == data
    assert store.read() is None


def test_a_record_of_a_newer_format_is_nobody_elses_to_break(tmp_path: Path) -> None:
    (tmp_path / f"{STACK}.lock").write_text(json.dumps({**record(), "format": "2.0"}))
    with pytest.raises(StateTooNew, match=r"newer format '2\.0'"):
        a_store(tmp_path).lock("apply")


def test_a_record_of_an_older_version_has_no_beats_and_is_read(tmp_path: Path) -> None:
    old = record()
    del old["holder"]["beats"]
    (tmp_path / f"{STACK}.lock").write_text(json.dumps(old))
    store = a_store(tmp_path, host=Machine().process(8), timing=Clock().timing(renew=1e6))
    with store.lock("apply") as lease:
        assert lease.info.fence == 5


def test_the_fence_grows_beyond_whatever_was_written_into_the_record(tmp_path: Path) -> None:
    (tmp_path / f"{STACK}.lock").write_bytes(text(fence=900))
    with a_store(tmp_path, host=Machine().process(8), timing=Clock().timing(renew=1e6)).lock(
        "apply"
    ) as lease:
        assert lease.info.fence == 901


@pytest.mark.parametrize("name", [".lock", ".lock.guard"])
@pytest.mark.parametrize("what", ["link", "directory"])
def test_something_else_in_the_place_of_a_lock_file_is_told_with_its_name(
    tmp_path: Path, name: str, what: str
) -> None:
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "state" / f"{STACK}{name}"
    path.parent.mkdir()
    elsewhere.write_text("mine")
    if what == "link":
        path.symlink_to(elsewhere)
    else:
        path.mkdir()
    with pytest.raises(StoreError, match=name.replace(".", r"\.")):
        a_store(tmp_path / "state").lock("apply")
    assert elsewhere.read_text() == "mine"


def test_the_mark_of_those_who_wait_follows_no_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / f"{STACK}.lock.waiting").symlink_to(elsewhere)
    clock, machine = Clock(), Machine()
    held = a_store(tmp_path, host=machine.process(7), timing=clock.timing(renew=1e6)).lock("apply")
    with pytest.raises(StoreError):
        a_store(tmp_path, host=machine.process(8), timing=clock.timing()).lock("apply", timeout=1.0)
    held.release()
    assert not elsewhere.exists()


@contextmanager
def powerless() -> Iterator[None]:
    """Root may write everywhere, so root becomes nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("used", [False, True], ids=["never used", "used before"])
def test_a_directory_that_may_not_be_written_is_told_and_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    home = tmp_path / "home"
    (home / "state").mkdir(parents=True)
    monkeypatch.chdir(home)  # what is above it is closed to nobody
    store = a_store(Path("state"), host=Machine().process(8), timing=Clock().timing(renew=1e6))
    if used:
        with store.lock("apply") as lease:
            store.write(lease, a_state("a"))
        if os.geteuid() == 0:
            for path in Path("state").iterdir():
                os.chown(path, NOBODY, -1)
    for path in (Path("state"), home):
        path.chmod(0o555)
    try:
        with powerless():
            with pytest.raises(
                StoreError, match=r"cannot \w+ state/research\.lock.*: Permission denied"
            ) as told:
                store.lock("apply", timeout=5.0)
            assert told.value.hint == "check owner and mode of the file and its directory"
            assert store.lock_info() is None
            assert (store.read() is not None) == used
    finally:
        for path in (Path("state"), home):
            path.chmod(0o755)
