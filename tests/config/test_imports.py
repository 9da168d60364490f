"""`imports`: each entry with its place, and every wrong one refused where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.desired import Import
from reconciler.model.position import Position
from tests.config.written import HEAD, configured, desired, write, wrong

FLEET = "sandboxes: {db: {image: a}, r: {image: a, replicas: 2}, e: {image: a, for_each: [eu, us]}}\n"


def test_each_entry_is_known_by_its_address_and_place(tmp_path: Path) -> None:
    text = (
        FLEET + "imports:\n  - {to: 'r[1]', id: b-2}\n  - {to: db, id: a-1}\n  - {to: 'e[\"eu\"]', id: c-3}\n"
    )

    made = desired(tmp_path, text).imports

    assert made == {
        "db": Import(id="a-1", position=Position("sandboxes.yaml", 6, 18)),
        'e["eu"]': Import(id="c-3", position=Position("sandboxes.yaml", 7, 25)),
        "r[1]": Import(id="b-2", position=Position("sandboxes.yaml", 5, 22)),
    }
    assert list(made) == sorted(made)


def test_none_is_none(tmp_path: Path) -> None:
    assert desired(tmp_path, FLEET).imports == {}
    assert desired(tmp_path, FLEET + "imports: []\n").imports == {}


def test_variables_are_filled_in(tmp_path: Path) -> None:
    text = HEAD + "variables: {n: {type: string}}\n" + FLEET + 'imports: [{to: db, id: "theirs-${var.n}"}]\n'

    made = configured(tmp_path, text, var=["n=ab12"]).desired.imports

    assert [entry.id for entry in made.values()] == ["theirs-ab12"]


def test_the_entries_of_several_files_count_together(tmp_path: Path) -> None:
    write(tmp_path, "imports: [{to: db, id: a-1}]\n", "b.yaml")
    write(tmp_path, HEAD + FLEET + "imports: [{to: 'r[0]', id: a-2}]\n", "a.yaml")
    from reconciler.config.configure import configure

    assert sorted(configure(directory=tmp_path, environ={}).desired.imports) == ["db", "r[0]"]


@pytest.mark.parametrize(
    ("entries", "code", "says", "column"),
    [
        pytest.param("[{to: nope, id: a}]", "unknown-sandbox", "there is no sandbox `nope`", 16, id="no such name"),
        pytest.param("[{to: 'r[7]', id: a}]", "unknown-sandbox", "there is no sandbox `r[7]`", 16, id="no such one"),
        pytest.param("[{to: r, id: a}]", "unknown-sandbox", "`r` is a group", 16, id="a whole group"),
        pytest.param("[{to: 'db[0]', id: a}]", "unknown-sandbox", "`db` is one sandbox", 16, id="one of one"),
        pytest.param("[{to: '*', id: a}]", "address", "`*` is not the name", 16, id="a pattern"),
        pytest.param("[{to: db, id: A_b}]", "bad-name", "`A_b` cannot be the id", 24, id="capitals"),
        pytest.param(f"[{{to: db, id: {'a' * 52}}}]", "bad-name", "cannot be the id", 24, id="52 characters"),
        pytest.param("[{to: db, id: -a}]", "bad-name", "`-a` cannot be the id", 24, id="a dash first"),
        pytest.param("[{to: db}]", "missing-key", "`id` is missing", 11, id="no id"),
        pytest.param("[{id: a}]", "missing-key", "`to` is missing", 11, id="no address"),
        pytest.param("[{to: db, id: a, from: b}]", "unknown-key", "unknown key `from`", 27, id="another key"),
        pytest.param("[{to: db, id: a}, {to: db, id: b}]", "twice", "`db` is imported twice", 33, id="an address twice"),
        pytest.param("[{to: db, id: a}, {to: 'r[0]', id: a}]", "twice", "`a` is imported twice", 45, id="an id twice"),
    ],
)  # fmt: skip
def test_it_refuses(tmp_path: Path, entries: str, code: str, says: str, column: int) -> None:
    found = wrong(tmp_path, f"{HEAD}{FLEET}imports: {entries}\n")

    assert [(item.code, item.position) for item in found] == [(code, Position("sandboxes.yaml", 4, column))]
    assert says in found[0].summary
    assert found[0].fix


def test_the_second_of_two_names_the_first(tmp_path: Path) -> None:
    [found] = wrong(tmp_path, f"{HEAD}{FLEET}imports: [{{to: db, id: a}}, {{to: db, id: b}}]\n")

    assert [(text, place.column) for text, place in found.related] == [("first here", 16)]


def test_the_same_name_on_two_backends_is_two_sandboxes(tmp_path: Path) -> None:
    made = desired(
        tmp_path,
        "backends: {one: {type: memory}, two: {type: memory}}\n"
        "sandboxes: {a: {image: x, backend: one}, b: {image: x, backend: two}}\n"
        "imports: [{to: a, id: theirs}, {to: b, id: theirs}]\n",
    )

    assert sorted(made.imports) == ["a", "b"]


def test_every_wrong_entry_is_told_at_once(tmp_path: Path) -> None:
    found = wrong(tmp_path, f"{HEAD}{FLEET}imports: [{{to: x, id: A}}, {{to: y, id: B}}]\n")

    assert [item.code for item in found] == ["unknown-sandbox", "bad-name", "unknown-sandbox", "bad-name"]
