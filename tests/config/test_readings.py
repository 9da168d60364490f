"""What was read before is read without a parser, and means the same; nothing of a secret is kept, and nothing of others'
is believed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from reconciler.config import readings as module
from reconciler.config.diagnostics import Problems
from reconciler.config.load import MOST_KEPT, compose, read
from reconciler.config.nodes import Node, Source
from reconciler.config.readings import MOST, Readings

ROOT = Path(__file__).parents[2]
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in ("examples", "tests", "docs")
    for path in sorted((ROOT / folder).rglob("*.yaml"))
}
TEXTS["every kind"] = """# begins
version: 1
x-one: &one {a: 'it''s', b: "tab\\t\\u00e9", c: !!str 5, d: [1, 0x1f, .5, ~, yes]}
x-two:
  <<: *one
  long: |
    first ${each.key}

    third
  folded: >-
    a
    b
  plain words: go on
    and on
  "quoted key": é 🛈
? x-three
: - *one
  -
  - []
"""
VALID = "version: 1\nstack: s\nbackends: {main: {type: memory}}\nsandboxes: {a: {image: one}}\n"


@pytest.fixture
def readings(tmp_path: Path) -> Readings:
    return Readings(str(tmp_path / "cache" / "read"))


def kept(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "cache" / "read"
    return sorted(folder.iterdir()) if folder.exists() else []


def composed(text: str, readings: Readings | None) -> tuple[Node | None, list[str]]:
    problems = Problems()
    root = compose(Source("f.yaml", Path(), text), problems, readings)
    return root, [found.summary for found in problems.warnings()] + [str(bool(problems))]


def dump(node: Node | None) -> Any:
    if node is None:
        return None
    places = [(mark.line, mark.column) for mark in (node.mark, node.end)]
    kids = {key: (dump(node.keys[key]), dump(kid)) for key, kid in node.named().items()}
    rest = (node.data, node.text, node.live, node.size, node.damaged, node.secret)
    return places, rest, list(kids.items()), [dump(item) for item in node.listed()]


@pytest.mark.parametrize("name", TEXTS)
def test_what_was_kept_makes_the_same_nodes(name: str, readings: Readings) -> None:
    fresh, told = composed(TEXTS[name], None)
    for _ in range(2):
        again, told_again = composed(TEXTS[name], readings)
        assert (dump(again), told_again) == (dump(fresh), told)


def test_the_second_time_no_parser_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "sandboxes.yaml").write_text(VALID)
    code = (
        "import sys\nfrom reconciler.cli.main import run\nassert run(['validate']) == 0\n"
        "print('yaml' in sys.modules, 'hashlib' in sys.modules)"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for _ in range(2)
    ]
    assert said == ["True False", "False False"]


@pytest.mark.parametrize(
    "text",
    [
        f"{VALID}x-y: [\n",
        f"{VALID}stack: again\n",
        f"{VALID}x-y: \x01\n",
        VALID.replace("image: one", "image: one, secrets: {T: {value: hunter2}}"),
        VALID.replace("{type: memory}", "{type: url, url: 'http://u:p@h/'}"),
        f"{VALID}variables: {{v: {{sensitive: true, default: hunter2}}}}\n",
    ],
    ids=["syntax", "a key twice", "control character", "secret", "password in a URL", "sensitive"],
)
def test_nothing_is_kept_of_mistakes_and_secrets(text: str, readings: Readings, tmp_path: Path) -> None:
    first = composed(text, readings)[1]
    assert kept(tmp_path) == []
    assert composed(text, readings)[1] == first


def test_files_are_few_and_private(readings: Readings, tmp_path: Path) -> None:
    for number in range(MOST + 5):
        composed(f"{VALID}# {number}\n", readings)
    files = kept(tmp_path)
    assert len(files) <= MOST
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (tmp_path / "cache" / "read").stat().st_mode & 0o777 == 0o700


def test_they_take_little_room(readings: Readings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 2000)
    for number in range(20):
        composed(f"{VALID}# {number}\n", readings)
        assert 1 <= len(kept(tmp_path)) <= 10
        assert sum(file.stat().st_size for file in kept(tmp_path)) <= 2000


def test_many_files_are_not_kept(readings: Readings, tmp_path: Path) -> None:
    for number in range(MOST_KEPT + 1):
        (tmp_path / f"{number}.yaml").write_text(VALID if number == 0 else f"x-{number}: 1\n")
    read([], tmp_path, Problems(), readings)
    assert kept(tmp_path) == []
    (tmp_path / "8.yaml").unlink()
    read([], tmp_path, Problems(), readings)
    assert len(kept(tmp_path)) == MOST_KEPT


def planted(readings: Readings, tmp_path: Path) -> Path:
    """What says something else than the text does, in its place."""
    composed(VALID.replace("stack: s", "stack: other"), readings)
    [other] = kept(tmp_path)
    data = other.read_bytes()
    other.unlink()
    composed(VALID, readings)
    [file] = kept(tmp_path)
    file.write_bytes(data)
    return file


def stack(text: str, readings: Readings) -> str | None:
    node = composed(text, readings)[0]
    named = node.get("stack") if node is not None else None
    return None if named is None else named.text


def test_what_lies_in_its_place_is_believed_only_where_nobody_else_can_write(
    readings: Readings, tmp_path: Path
) -> None:
    file = planted(readings, tmp_path)
    assert stack(VALID, readings) == "other"  # so the test sees what is believed
    file.chmod(0o660)
    assert stack(VALID, readings) == "s"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_another_user_left_is_not_believed(readings: Readings, tmp_path: Path) -> None:
    os.chown(planted(readings, tmp_path), 12345, 12345)
    assert stack(VALID, readings) == "s"


def test_a_link_is_not_followed(readings: Readings, tmp_path: Path) -> None:
    file = planted(readings, tmp_path)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert stack(VALID, readings) == "s"


def test_a_pipe_is_not_waited_for(readings: Readings, tmp_path: Path) -> None:
    file = planted(readings, tmp_path)
    file.unlink()
    os.mkfifo(file)
    assert stack(VALID, readings) == "s"


def test_a_damaged_file_is_read_anew(readings: Readings, tmp_path: Path) -> None:
    composed(VALID, readings)
    [file] = kept(tmp_path)
    whole = file.read_bytes()
    for damaged in (b"", whole[:3], whole[:-1], whole[:40] + b"\x00" + whole[41:], b"\x00" * len(whole)):
        file.write_bytes(damaged)
        assert stack(VALID, readings) == "s"


@pytest.mark.parametrize("changed", ["version", "parser"])
def test_another_version_or_parser_reads_anew(
    changed: str, readings: Readings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(readings, tmp_path)
    if changed == "version":
        monkeypatch.setattr(module, "__version__", "99")
    else:
        monkeypatch.setattr(module, "identity", lambda package: f"another {package}")
    assert stack(VALID, readings) == "s"


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    readings = Readings(str(tmp_path / "cache" / "read"))
    assert stack(VALID, readings) == "s"
    assert Readings.of({"XDG_CACHE_HOME": "relative", "HOME": "/h"}) is None
