"""State, lock, key, journal and plan files that somebody put in the way: never followed, never waited for, never believed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.cli.main import run
from tests.attack.hostile import STACK
from tests.attack.places import a_state, check_harmless, folder

FILES = tuple(
    f"{STACK}.{ending}"
    for ending in ("json", "json.backup", "journal.jsonl", "lock", "lock.guard", "key", "history")
)
SECRET = (
    "backends: {m: {type: memory}}\nsandboxes: {box: {readiness: none, secrets: {T: {value: hunter2}}}}\n"
)


def _link(path: Path, precious: Path) -> None:
    path.symlink_to(precious)


def _dangling(path: Path, precious: Path) -> None:
    path.symlink_to(precious.with_name("nowhere"))


def _fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _itself(path: Path, _: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("put", [_link, _dangling, _fifo, _itself])
@pytest.mark.parametrize("name", FILES)
def test_it_is_never_followed_and_never_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, put: Callable[[Path, Path], None]
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    folder(tmp_path, SECRET, state=None if name == f"{STACK}.json" else a_state())
    put(tmp_path / "state" / name, precious)
    run(["-C", str(tmp_path), "apply", "--auto-approve"])
    run(["-C", str(tmp_path), "doctor"])
    told = capsys.readouterr()
    check_harmless(told.out + told.err)
    assert precious.read_text() == "x"
    assert not precious.with_name("nowhere").exists()


@pytest.mark.parametrize("name", ["sandboxes.yaml", ".gitignore", ".reconciler/config.v1.schema.json"])
def test_init_writes_through_no_link_of_a_checkout(tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    here = tmp_path / "here"
    (here / ".reconciler").mkdir(parents=True)
    (here / name).symlink_to(precious)
    assert run(["init", str(here)]) == 1
    assert not precious.exists()


def test_fmt_writes_through_no_link_that_waits_beside_the_file(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    folder(tmp_path, "x-a:   1\n")
    (tmp_path / ".sandboxes.yaml.fmt").symlink_to(precious)
    assert run(["-C", str(tmp_path), "fmt"]) == 0
    assert precious.read_text() == "x"
    assert "x-a: 1\n" in (tmp_path / "sandboxes.yaml").read_text()


def test_a_plan_file_is_written_through_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    folder(tmp_path)
    (tmp_path / "plan.json").symlink_to(precious)
    assert run(["-C", str(tmp_path), "plan", "-o", "plan.json"]) == 1
    assert precious.read_text() == "x"


BYTES = {
    "brackets a hundred thousand deep": b"[" * 100_000,
    "braces a hundred thousand deep": b'{"a":' * 100_000,
    "a number of ten thousand digits": b'{"format": "1.0", "serial": ' + b"9" * 10_000 + b"}",
    "a key twice": b'{"format": "1.0", "format": "1.0"}',
    "NULs": b"\0\0\0",
    "a lone surrogate": json.dumps(a_state(lineage="\ud800")).encode(),
    "half a UTF-8": b'{"format": "\xff"}',
    "options nested nine hundred deep": json.dumps(
        a_state(backends={"m": {"type": "memory", "options": {"x": 0}}})
    )
    .replace('"x": 0', '"x": ' + "[" * 900 + "]" * 900)
    .encode(),
    "a backend that is a function": json.dumps(
        a_state(backends={"z": {"type": "os:system", "options": {}}})
    ).encode(),
}


@pytest.mark.parametrize("data", BYTES.values(), ids=BYTES.keys())
@pytest.mark.parametrize(
    "args",
    [
        ["plan"],
        ["apply", "--auto-approve"],
        ["doctor"],
        ["state", "history"],
        ["state", "pull"],
        ["apply", "FILE"],
        ["show", "FILE"],
        ["state", "push", "FILE"],
    ],
    ids=" ".join,
)
def test_what_only_looks_like_a_state_or_a_plan_is_told_as_that(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], args: list[str], data: bytes
) -> None:
    folder(tmp_path, state=data)
    (tmp_path / "FILE").write_bytes(data)
    run(["-C", str(tmp_path), *args])
    told = capfd.readouterr()
    check_harmless(told.err)
    assert "internal error" not in told.out


LINES = {
    "a header nested a hundred thousand deep": b"[" * 100_000,
    "a header with a serial without end": b'{"kind":"journal","format":"1.0","stack":"s","lineage":"l","base":1e400}',
    "a header that is a list": b"[]",
}


@pytest.mark.parametrize("entry", LINES.values(), ids=LINES.keys())
def test_a_journal_with_right_checksums_and_wrong_content_is_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entry: bytes
) -> None:
    import zlib

    folder(tmp_path, state=a_state())
    line = b'{"crc":"%08x","entry":%s}\n' % (zlib.crc32(entry), entry)
    (tmp_path / "state" / f"{STACK}.journal.jsonl").write_bytes(line)
    assert run(["-C", str(tmp_path), "plan"]) == 1
    assert "is no journal header" in capsys.readouterr().err


OPEN = {
    "everybody may write to": (0o777, "others may write to"),
    "a group may write to": (0o770, "others may write to"),
    "everybody may look into": (0o755, "everybody may look into"),
}


@pytest.mark.parametrize(("mode", "said"), OPEN.values(), ids=OPEN.keys())
def test_an_apply_and_doctor_warn_of_a_state_directory_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int, said: str
) -> None:
    folder(tmp_path)
    (tmp_path / "state").chmod(mode)
    assert run(["-C", str(tmp_path), "apply", "--auto-approve"]) == 0
    assert f"warning: {said} " in capsys.readouterr().err
    assert run(["-C", str(tmp_path), "doctor"]) == 1
    assert said in capsys.readouterr().out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory away")
def test_an_apply_and_doctor_warn_of_a_state_directory_of_another_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder(tmp_path)
    os.chown(tmp_path / "state", 12345, 12345)
    assert run(["-C", str(tmp_path), "apply", "--auto-approve"]) == 0
    assert "belongs to another user (uid 12345)" in capsys.readouterr().err
    assert run(["-C", str(tmp_path), "doctor"]) == 1
    assert "another user" in capsys.readouterr().out


def test_an_apply_says_nothing_of_a_private_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(tmp_path)
    assert run(["-C", str(tmp_path), "apply", "--auto-approve"]) == 0
    said = capsys.readouterr().err
    assert "everybody" not in said
    assert "another user" not in said
