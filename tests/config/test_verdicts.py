"""What was found valid before is not looked at again; whatever else there is, is."""

from __future__ import annotations

import os
import stat
import threading
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from reconciler.config import schema
from reconciler.config.configure import Configuration, configure
from reconciler.config.verdicts import MOST, Verdicts
from reconciler.errors import ConfigError

VALID = "version: 1\nstack: s\nbackends: {main: {type: memory}}\nsandboxes: {box: {replicas: 2}}\n"
WRONG = VALID.replace("replicas: 2", "replicas: many")


@pytest.fixture
def verdicts(tmp_path: Path) -> Verdicts:
    return Verdicts(str(tmp_path / "cache" / "valid"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the validator was."""
    told: list[str] = []
    real = schema._validator

    def validator(definition: str | None) -> object:
        told.append(str(definition))
        return real(definition)

    monkeypatch.setattr(schema, "_validator", validator)
    return told


def configured(folder: Path, text: str, verdicts: Verdicts | None) -> Configuration:
    folder.mkdir(exist_ok=True)
    (folder / "sandboxes.yaml").write_text(text)
    return configure(directory=folder, environ={}, verdicts=verdicts)


def test_the_validator_is_asked_once_for_the_same_bytes(
    tmp_path: Path, verdicts: Verdicts, asked: list[str]
) -> None:
    first = configured(tmp_path / "a", VALID, verdicts)
    again = configured(tmp_path / "b", VALID, verdicts)
    assert asked == ["None"]
    assert first.desired.sandboxes == again.desired.sandboxes
    configured(tmp_path / "a", f"{VALID}# another comment\n", verdicts)
    assert len(asked) == 2


def test_what_is_wrong_is_told_each_time(tmp_path: Path, verdicts: Verdicts) -> None:
    told = []
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            configured(tmp_path, WRONG, verdicts)
        told.append([one.summary for one in caught.value.diagnostics])
    assert told[0] == told[1] != []


def test_a_type_that_only_an_installed_package_knows_is_asked_about_each_time(
    tmp_path: Path, verdicts: Verdicts, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uninstalled, it is wrong."""
    text = VALID.replace("type: memory", "type: theirs")
    theirs = EntryPoint(name="theirs", value="a:B", group="reconciler.backends")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [theirs])
    configured(tmp_path, text, verdicts)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [])
    with pytest.raises(ConfigError) as caught:
        configured(tmp_path, text, verdicts)
    assert "theirs" in caught.value.diagnostics[0].summary


def test_what_a_value_fills_in_is_checked_all_the_same(tmp_path: Path, verdicts: Verdicts) -> None:
    text = (
        VALID.replace("replicas: 2", 'resources: {pids: "${var.n}"}')
        + "variables: {n: {type: number, default: 2}}\n"
    )
    configured(tmp_path, text, verdicts)
    with pytest.raises(ConfigError):
        configure(directory=tmp_path, environ={}, var=["n=many"], verdicts=verdicts)


@pytest.mark.parametrize("changed", ["schema", "validator"])
def test_another_schema_or_validator_knows_nothing_of_it(
    tmp_path: Path, verdicts: Verdicts, asked: list[str], monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    configured(tmp_path, VALID, verdicts)
    if changed == "schema":
        monkeypatch.setattr("reconciler.config.verdicts.schema_text", lambda _: "another")
    else:
        monkeypatch.setattr("reconciler.config.verdicts._validator", lambda: "another")
    configured(tmp_path, VALID, verdicts)
    assert len(asked) == 2


def test_files_are_few_private_and_empty(tmp_path: Path, verdicts: Verdicts) -> None:
    folder = tmp_path / "cache" / "valid"
    for number in range(MOST + 3):
        verdicts.keep(str(number))
        assert verdicts.knows(str(number))
    kept = list(folder.iterdir())
    assert 0 < len(kept) <= MOST
    assert {file.stat().st_size for file in kept} == {0}
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("place", ["a file in the way", "full of folders"])
def test_what_the_disk_refuses_is_not_known_and_disturbs_nobody(
    tmp_path: Path, asked: list[str], place: str
) -> None:
    cache = tmp_path / "cache"
    if place == "a file in the way":
        cache.write_text("")
    else:
        for number in range(MOST):
            (cache / "valid" / f"{number:064x}").mkdir(parents=True)
    for _ in range(2):
        assert configured(tmp_path / "a", VALID, Verdicts(str(cache / "valid"))).desired.stack == "s"
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"HOME": "/home/me"}, "/home/me/.cache/reconciler/valid"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": "/fast"}, "/fast/reconciler/valid"),
        ({"HOME": "/home/me", "XDG_CACHE_HOME": ""}, "/home/me/.cache/reconciler/valid"),
        ({"XDG_CACHE_HOME": "here"}, None),
        ({}, None),
    ],
)
def test_where_it_is(environ: dict[str, str], folder: str | None) -> None:
    verdicts = Verdicts.of(environ)
    assert (None if verdicts is None else os.path.dirname(verdicts._path("d"))) == folder


def test_files_of_others_in_its_folder_stay(tmp_path: Path, verdicts: Verdicts) -> None:
    folder = tmp_path / "cache" / "valid"
    folder.mkdir(parents=True)
    others = [folder / f"{n}.txt" for n in range(MOST)]
    for other in others:
        other.touch()
    configured(tmp_path / "a", VALID, verdicts)
    assert all(other.exists() for other in others)
    assert len(list(folder.iterdir())) == MOST + 1


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_stands_where_a_file_of_it_would_be_is_neither_followed_nor_waited_for(
    tmp_path: Path, verdicts: Verdicts, kind: str
) -> None:
    configured(tmp_path / "a", VALID, verdicts)
    [kept] = (tmp_path / "cache" / "valid").iterdir()
    kept.unlink()
    if kind == "link":
        kept.symlink_to(tmp_path / "elsewhere")
    else:
        os.mkfifo(kept)
    waiting = threading.Thread(target=configured, args=(tmp_path / "a", VALID, verdicts), daemon=True)
    waiting.start()
    waiting.join(5)
    if waits := waiting.is_alive():
        os.close(os.open(kept, os.O_RDONLY | os.O_NONBLOCK))
        waiting.join()
    assert not waits
    assert not (tmp_path / "elsewhere").exists()


def test_a_cache_too_deep_to_be_made_is_done_without(tmp_path: Path) -> None:
    deep = Verdicts(str(tmp_path) + "/x" * 3000)
    assert configured(tmp_path / "a", VALID, deep).desired.sandboxes
