"""Files: which are read, how several become one, and what is refused before a byte is understood."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.config import nodes
from reconciler.config.configure import configure
from reconciler.config.diagnostics import Problems
from reconciler.config.load import MAX_BYTES, load
from reconciler.config.nodes import Composer, Source, Unreadable, resolve_plain
from reconciler.config.parser import parsed
from reconciler.errors import ConfigError
from reconciler.model.diagnostic import Diagnostic
from tests.config.written import HEAD, configured, desired, one, write, wrong


def refused(folder: Path, *paths: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(ConfigError) as caught:
        load([Path(path) for path in paths], folder)
    found = caught.value.diagnostics
    assert all(isinstance(item, Diagnostic) for item in found)
    return found  # type: ignore[return-value]


# --- which files -------------------------------------------------------------------------------------------------


def test_the_default_file_is_read_alone(tmp_path: Path) -> None:
    write(tmp_path, HEAD)
    write(tmp_path, "not: a configuration", "other.yaml")

    assert load([], tmp_path).root.data == {"version": 1, "stack": "s"}


def test_without_it_every_yaml_file_is_read_in_name_order(tmp_path: Path) -> None:
    write(tmp_path, "sandboxes: {b: {}}\n", "b.yml")
    write(tmp_path, HEAD + "sandboxes: {a: {}}\n", "a.yaml")
    write(tmp_path, "no: configuration", "c.txt")

    document = load([], tmp_path)

    assert [source.name for source in document.sources] == ["a.yaml", "b.yml"]
    assert list(document.root.data["sandboxes"]) == ["a", "b"]


def test_files_and_directories_can_be_named(tmp_path: Path) -> None:
    write(tmp_path, HEAD, "base.yaml")
    write(tmp_path, "sandboxes: {a: {}}\n", "more/a.yaml")

    document = load([Path("base.yaml"), Path("more"), Path("base.yaml")], tmp_path)

    assert [source.name for source in document.sources] == ["base.yaml", "more/a.yaml"]


def test_a_file_elsewhere_keeps_its_own_relative_paths(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "sandboxes: {a: {mounts: [{source: ./w, target: /w}]}}\n", "deep/one.yaml")

    fleet = configure(paths=[Path("deep/one.yaml")], directory=tmp_path, environ={}).desired

    assert fleet.directory == str(tmp_path / "deep")
    assert next(iter(fleet.sandboxes.values())).spec.mounts[0].source == str(tmp_path / "deep" / "w")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.yaml", None, "there is no file missing.yaml"),
        ("utf16.yaml", "version: 1".encode("utf-16"), "UTF-16"),
        ("empty.yaml", b"", "no configuration"),
        ("comments.yaml", b"# only\n# comments\n", "no configuration"),
        ("list.yaml", b"- a\n", "not a list"),
        ("word.yaml", b"word\n", "not plain text"),
    ],
    ids=["a missing file", "UTF-16", "an empty file", "comments alone", "a list", "a word"],
)
def test_refused(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        write(tmp_path, content, name)

    found = refused(tmp_path, name)

    assert len(found) == 1
    assert words in found[0].summary
    assert found[0].fix


def test_bytes_that_are_no_utf8_are_pointed_at(tmp_path: Path) -> None:
    (problem,) = wrong(tmp_path, b"version: 1\nstack: caf\xe9\n")

    assert (str(problem.position), problem.code) == ("sandboxes.yaml:2:11", "encoding")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert configured(tmp_path, "\ufeff" + HEAD).desired.stack == "s"


def test_a_directory_without_yaml_says_how_to_begin(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path)

    assert str(tmp_path) in problem.summary
    assert "reconciler init" in problem.fix


def test_a_device_is_no_file(tmp_path: Path) -> None:
    (problem,) = refused(tmp_path, os.devnull)

    assert "is not a file" in problem.summary


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    write(tmp_path, HEAD).chmod(0)

    (problem,) = refused(tmp_path, "sandboxes.yaml")

    assert "permission denied" in problem.summary


def test_a_huge_file_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    with (tmp_path / "sandboxes.yaml").open("wb") as file:
        file.truncate(50 * 1024 * 1024)  # full of NUL: reading it would find another problem

    (problem,) = refused(tmp_path)

    assert problem.code == "too-large"
    assert f"{MAX_BYTES // 2**20} MiB" in problem.summary


# --- several files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "place", "words"),
    [
        ("sandboxes: {a: {}}\n", "sandboxes: {a: {}}\n", "b.yaml:1:13", "the sandbox `a`"),
        ("templates: {a: {}}\n", "templates: {a: {}}\n", "b.yaml:1:13", "the template `a`"),
        ("variables: {a: {default: b}}\n", "variables: {a: {default: b}}\n", "b.yaml:1:13", "the variable `a`"),
        ("backends: {a: {type: docker}}\n", "backends: {a: {type: docker}}\n", "b.yaml:1:12", "the backend `a`"),
        ("outputs: {a: b}\n", "outputs: {a: b}\n", "b.yaml:1:11", "the output `a`"),
        ("defaults: {runtime: a}\n", "defaults: {runtime: b}\n", "b.yaml:1:12", "`defaults.runtime`"),
        ("", "stack: other\n", "b.yaml:1:1", "`stack`"),
        ("state: {path: a}\n", "state: {path: b}\n", "b.yaml:1:1", "`state`"),
    ],
)  # fmt: skip
def test_declared_in_two_files_names_both_places(
    tmp_path: Path, first: str, second: str, place: str, words: str
) -> None:
    write(tmp_path, HEAD + first, "a.yaml")
    write(tmp_path, second, "b.yaml")

    (problem,) = refused(tmp_path)

    assert str(problem.position) == place
    assert words in problem.summary
    assert [(text, place.file) for text, place in problem.related] == [("first declared here", "a.yaml")]


def test_the_same_said_in_two_files_is_no_problem(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "defaults: {runtime: a}\n", "a.yaml")
    write(tmp_path, HEAD + "defaults: {runtime: a, image: b}\nsandboxes: {c: {}}\n", "b.yaml")

    (sandbox,) = configure(directory=tmp_path, environ={}).desired.sandboxes.values()

    assert (sandbox.spec.runtime, sandbox.spec.image) == ("a", "b")


def test_problems_of_all_files_come_at_once_and_in_file_order(tmp_path: Path) -> None:
    write(tmp_path, HEAD + "sandboxes: {a: {imgae: b, depends_on: [elsewhere]}}\n", "a.yaml")
    write(tmp_path, "sandboxes: {elsewhere: {}\n", "b.yaml")
    write(tmp_path, "sandboxes: {c: {replicas: many}}\nzzz: 1\n", "c.yaml")

    with pytest.raises(ConfigError) as caught:
        configure(directory=tmp_path, environ={})

    codes = [item.code for item in caught.value.diagnostics if isinstance(item, Diagnostic)]
    assert codes == ["unknown-key", "syntax", "wrong-value", "unknown-key"]
    assert "4 errors" in str(caught.value)


def test_the_digest_is_of_the_bytes_and_not_of_the_place(tmp_path: Path) -> None:
    first = configured(tmp_path / "one", HEAD)
    second = configured(tmp_path / "two", HEAD)
    third = configured(tmp_path / "two", HEAD + "# a comment\n")

    assert first.digest == second.digest != third.digest


# --- YAML itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("yes", "yes"), ("on", "on"), ("No", "No"), ("true", True), ("False", False), ("null", None), ("~", None),
        ("", None), ("12", 12), ("-3", -3), ("1.10", 1.1), ("1e3", 1000.0), (".5", 0.5), ("0755", "0755"),
        ("0o17", 15), ("0x1F", 31), ("22:22", "22:22"), ("1_000", "1_000"), (".inf", ".inf"), (".nan", ".nan"),
        ("2024-01-01", "2024-01-01"), ("1e999", "1e999"), ("1" * 30, "1" * 30), ("-", "-"), ("+", "+"), ("=", "="),
    ],
)  # fmt: skip
def test_plain_scalars_follow_yaml_1_2(text: str, meaning: object) -> None:
    found = resolve_plain(text)

    assert found == meaning
    assert type(found) is type(meaning)


@pytest.mark.parametrize(
    "written",
    [
        "1.10",
        "yes",
        "on",
        "0755",
        "1e3",
        "true",
        "1_000",
        "22:22",
        "010",
        "+1",
        "0x1F",
        ".5",
        "-0",
        "1.0",
        "Null-ish",
    ],
)
def test_an_environment_value_stays_as_it_was_written(tmp_path: Path, written: str) -> None:
    assert one(tmp_path, f"{{environment: {{A: {written}}}}}").spec.environment == {"A": written}


def test_quotes_make_text(tmp_path: Path) -> None:
    assert one(tmp_path, "{environment: {A: '1.10', B: \"yes\"}}").spec.environment == {
        "A": "1.10",
        "B": "yes",
    }


def test_anchors_and_merge_keys_work_and_ones_own_keys_win(tmp_path: Path) -> None:
    above = "x-base: &base {image: a, runtime: b}\nx-more: &more {image: c, thread_id: d}\n"

    spec = one(tmp_path, "{<<: [*base, *more], runtime: e}", above=above).spec

    assert (spec.image, spec.runtime, spec.thread_id) == ("a", "e", "d")


def bomb(levels: int) -> str:
    lines = ["x-a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"x-a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return HEAD + "\n".join(lines) + "\n"


def test_an_alias_bomb_is_refused_by_counting_not_by_waiting() -> None:
    faults: list[tuple[object, ...]] = []
    composer = Composer(
        Source("bomb.yaml", Path(), bomb(30)), lambda *fault: faults.append(fault), parsed(bomb(30))
    )

    with pytest.raises(Unreadable):
        composer.document()

    assert faults[0][3] == "too-large"
    # Ten times a level: written out, the last level has 10**30 values. Only one alias was added beyond the limit.
    assert nodes.MAX_NODES < composer.total <= nodes.MAX_NODES + 200_000
    assert len(composer.anchors) < 8


def test_a_bomb_of_merge_keys_is_refused_too(tmp_path: Path) -> None:
    lines = ["x-a0: &a0 {k0: 1, k1: 2}"]
    lines += [f"x-a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], m{n}: 1}}" for n in range(1, 20)]

    (problem,) = wrong(tmp_path, HEAD + "\n".join(lines) + "\n")

    assert problem.code == "too-large"


def test_few_aliases_are_fine(tmp_path: Path) -> None:
    assert configured(tmp_path, bomb(4)).desired.stack == "s"


def test_the_pure_python_parser_does_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "sandboxes:\n  a: &a {image: b, environment: {C: 1.10}}\n  d: {<<: *a, image: e}\n"
    fast = desired(tmp_path, text).sandboxes
    monkeypatch.delattr("yaml.CSafeLoader")

    assert desired(tmp_path, text).sandboxes == fast
    (problem,) = wrong(tmp_path, HEAD + 'x-a: "\\uD800"\n')
    assert problem.code == "control-character"
    (problem,) = wrong(tmp_path, HEAD + "x-a:\n\t- b\n")
    assert problem.summary == "a tab character is used for indentation"


def test_positions_count_characters_not_bytes(tmp_path: Path) -> None:
    (problem,) = wrong(tmp_path, HEAD + "x-é: {ü: 'ö'}\nsandboxes: {ab: {'ü': 1}}\n")

    assert str(problem.position) == "sandboxes.yaml:4:18"


def test_faults_of_a_broken_file_hide_what_may_be_secret(tmp_path: Path) -> None:
    found = wrong(tmp_path, HEAD + "sandboxes: {a: {secrets: {T: {value: hunter2, value: hunter2}}}}\n")

    assert [item.code for item in found] == ["duplicate-key"]
    assert "hunter2" not in repr(found)


def test_problems_are_told_once() -> None:
    problems = Problems()
    for _ in range(3):
        problems.general("a", "b")

    assert len(problems.found) == 1
