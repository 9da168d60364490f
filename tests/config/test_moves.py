"""`moved` and `removed`: what became of what is no longer declared; every wrong entry is refused where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.config.configure import configure
from reconciler.model.lifecycle import Move, Removal
from reconciler.model.position import Position
from tests.config.written import HEAD, configured, desired, write, wrong

FLEET = "sandboxes: {db: {image: a}, r: {image: a, replicas: 2}, e: {image: a, for_each: [eu, us]}}\n"


@pytest.mark.parametrize(
    ("entries", "moves"),
    [
        pytest.param("[]", [], id="none"),
        pytest.param("[{from: old, to: db}]", [("old", "db")], id="one that was renamed"),
        pytest.param("[{from: old, to: r}]", [("old", "r")], id="a group that was renamed"),
        pytest.param("[{from: r, to: 'r[0]'}]", [("r", "r[0]")], id="one that became a replica"),
        pytest.param("[{from: 'db[0]', to: db}]", [("db[0]", "db")], id="a replica that became the only one"),
        pytest.param("[{from: 'r[7]', to: \"e['eu']\"}]", [("r[7]", 'e["eu"]')], id="one address of a group that is still there"),
        pytest.param("[{from: 'old[01]', to: 'r[1]'}]", [("old[1]", "r[1]")], id="an address with a zero"),
        pytest.param("[{from: a, to: b}, {from: b, to: db}]", [("a", "b"), ("b", "db")], id="a chain"),
        pytest.param("[{from: b, to: db}, {from: a, to: b}]", [("a", "b"), ("b", "db")], id="a chain, the later move first"),
        pytest.param(
            "[{from: g, to: r}, {from: a, to: 'g[0]'}]", [("a", "g[0]"), ("g", "r")], id="into a group that moved on",
        ),
        pytest.param(
            "[{from: 'h[1]', to: db}, {from: g, to: h}, {from: h, to: r}]", [("g", "h"), ("h[1]", "db"), ("h", "r")],
            id="one of a group that goes another way",
        ),
        pytest.param("[{from: z, to: db}, {from: y, to: r}]", [("z", "db"), ("y", "r")], id="as written otherwise"),
    ],
)  # fmt: skip
def test_moves(tmp_path: Path, entries: str, moves: list[tuple[str, str]]) -> None:
    made = desired(tmp_path, f"{FLEET}moved: {entries}\n").moved

    assert [(move.source, move.target) for move in made] == moves


def test_a_move_may_lead_to_what_was_removed_later(tmp_path: Path) -> None:
    made = desired(
        tmp_path,
        FLEET + "moved: [{from: a, to: b}, {from: c, to: 'd[1]'}]\nremoved: [{from: b, destroy: false}, {from: d}]\n",
    )  # fmt: skip

    assert [move.target for move in made.moved] == ["b", "d[1]"]
    assert [(entry.source, entry.destroy) for entry in made.removed] == [("b", False), ("d", True)]


def test_what_is_left_of_a_group_may_be_removed_when_one_of_it_moved(tmp_path: Path) -> None:
    made = desired(tmp_path, FLEET + "moved: [{from: 'old[0]', to: db}]\nremoved: [{from: old}]\n")

    assert (len(made.moved), len(made.removed)) == (1, 1)


def test_each_has_its_place(tmp_path: Path) -> None:
    made = desired(
        tmp_path, FLEET + "moved:\n  - {from: old, to: db}\nremoved:\n  - destroy: false\n    from: 'r[2]'\n"
    )

    assert made.moved == (Move(source="old", target="db", position=Position("sandboxes.yaml", 5, 12)),)
    assert made.removed == (
        Removal(source="r[2]", destroy=False, position=Position("sandboxes.yaml", 8, 11)),
    )


def test_variables_are_filled_in(tmp_path: Path) -> None:
    text = (
        HEAD + "variables: {n: {type: string}, d: {type: bool, default: false}}\n" + FLEET
        + 'moved: [{from: "old-${var.n}", to: db}]\nremoved: [{from: "${var.n}", destroy: "${var.d}"}]\n'
    )  # fmt: skip

    made = configured(tmp_path, text, var=["n=x"]).desired

    assert [move.source for move in made.moved] == ["old-x"]
    assert [(entry.source, entry.destroy) for entry in made.removed] == [("x", False)]


def test_the_entries_of_several_files_count_together(tmp_path: Path) -> None:
    write(tmp_path, "moved: [{from: a, to: b}]\nremoved: [{from: x}]\n", "b.yaml")
    write(tmp_path, HEAD + FLEET + "moved: [{from: b, to: db}]\nremoved: [{from: y}]\n", "a.yaml")

    made = configure(directory=tmp_path, environ={}).desired

    assert [move.source for move in made.moved] == ["a", "b"]
    assert [entry.source for entry in made.removed] == ["y", "x"]


@pytest.mark.parametrize(
    ("entries", "code", "says"),
    [
        pytest.param("[{from: a, to: ‸nope}]", "unknown-sandbox", "there is no sandbox `nope`", id="an undeclared target"),
        pytest.param("[{from: a, to: ‸'r[7]'}]", "unknown-sandbox", "there is no sandbox `r[7]`", id="a replica too many"),
        pytest.param("[{from: a, to: ‸'db[0]'}]", "unknown-sandbox", "`db` is one sandbox", id="one of one"),
        pytest.param("[{from: 'a[0]', to: ‸r}]", "unknown-sandbox", "`r` is a group", id="one to a whole group"),
        pytest.param("[{from: ‸db, to: 'r[0]'}]", "still-declared", "`db` is moved, but still declared", id="a sandbox that is there"),
        pytest.param("[{from: ‸'r[1]', to: db}]", "still-declared", "`r[1]` is moved", id="a replica that is there"),
        pytest.param("[{from: ‸r, to: e}]", "still-declared", "`r` is moved", id="a group that is there"),
        pytest.param("[{from: ‸r, to: db}]", "still-declared", "`r` is moved", id="a group that is there, to one"),
        pytest.param("[{from: a, to: db}, {from: ‸a, to: r}]", "twice", "`a` is moved twice", id="twice the same source"),
        pytest.param("[{from: a, to: db}, {from: ‸a, to: db}]", "twice", "`a` is moved twice", id="twice the same entry"),
        pytest.param("[{from: a, to: db}, {from: b, to: ‸db}]", "twice", "two moves lead to `db`", id="twice the same target"),
        pytest.param(
            "[{from: g, to: r}, {from: ‸'g[1]', to: db}]", "twice", "`g[1]` is moved with all of `g`", id="one after its group",
        ),
        pytest.param("[{from: ‸db, to: db}]", "moved-nowhere", "`db` is moved to itself", id="to itself"),
        pytest.param("[{from: ‸\"x['a']\", to: 'x[\"a\"]'}]", "moved-nowhere", "moved to itself", id="to itself, written otherwise"),
        pytest.param("[{from: ‸a, to: b}, {from: b, to: a}]", "cycle", "circle: a → b → a", id="a circle"),
        pytest.param(
            "[{from: x, to: db}, {from: ‸b, to: c}, {from: c, to: a}, {from: a, to: b}]", "cycle", "circle: b → c → a → b",
            id="a larger circle",
        ),
        pytest.param("[{from: ‸'a*', to: db}]", "address", "`a*` is not the name", id="a pattern"),
        pytest.param("[‸{from: a}]", "missing-key", "`to` is missing", id="no target"),
        pytest.param("[‸{to: db}]", "missing-key", "`from` is missing", id="no source"),
        pytest.param("[{from: a, to: db, ‸id: b}]", "unknown-key", "unknown key `id`", id="another key"),
    ],
)  # fmt: skip
def test_a_move_is_refused(tmp_path: Path, entries: str, code: str, says: str) -> None:
    column = len("moved: ") + entries.index("‸") + 1

    found = wrong(tmp_path, f"{HEAD}{FLEET}moved: {entries.replace('‸', '')}\n")

    assert [(item.code, item.position) for item in found] == [(code, Position("sandboxes.yaml", 4, column))]
    assert says in found[0].summary
    assert found[0].fix


@pytest.mark.parametrize(
    ("entries", "code", "says"),
    [
        pytest.param("[{from: ‸db}]", "still-declared", "`db` is removed, but still declared", id="a sandbox that is there"),
        pytest.param("[{from: ‸r}]", "still-declared", "`r` is removed", id="a group that is there"),
        pytest.param("[{from: ‸'e[\"us\"]'}]", "still-declared", '`e["us"]` is removed', id="one of a group that is there"),
        pytest.param("[{from: a}, {from: ‸a, destroy: false}]", "twice", "`a` is removed twice", id="twice"),
        pytest.param("[{from: ‸m}]", "twice", "`m` is both moved and removed", id="what is moved"),
        pytest.param("[{from: ‸'g[1]'}]", "twice", "`g[1]` is both moved and removed", id="one of a group that is moved"),
        pytest.param("[{from: ‸a b}]", "address", "`a b` is not the name", id="no address"),
        pytest.param("[{from: a, destroy: ‸no}]", "wrong-value", "true or false", id="no for false"),
        pytest.param("[{from: a, destroy: ‸'$${x}'}]", "wrong-value", "true or false", id="an escape for false"),
        pytest.param("[‸{destroy: true}]", "missing-key", "`from` is missing", id="no address at all"),
    ],
)  # fmt: skip
def test_a_removal_is_refused(tmp_path: Path, entries: str, code: str, says: str) -> None:
    moved = "moved: [{from: m, to: db}, {from: g, to: r}]\n"

    column = len("removed: ") + entries.index("‸") + 1

    found = wrong(tmp_path, f"{HEAD}{FLEET}{moved}removed: {entries.replace('‸', '')}\n")

    assert [(item.code, item.position) for item in found] == [(code, Position("sandboxes.yaml", 5, column))]
    assert says in found[0].summary
    assert found[0].fix


def test_the_second_of_two_names_the_first_and_the_declared_its_declaration(tmp_path: Path) -> None:
    found = wrong(
        tmp_path, f"{HEAD}{FLEET}moved: [{{from: a, to: db}}, {{from: a, to: r}}, {{from: db, to: e}}]\n"
    )

    assert [(text, place.line, place.column) for item in found for text, place in item.related] == [
        ("first here", 4, 16), ("declared here", 3, 13),
    ]  # fmt: skip


def test_nothing_follows_from_a_sandbox_that_is_wrong_itself(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        HEAD + "sandboxes: {Bad: {}, many: {replicas: many}}\nmoved: [{from: a, to: Bad}, {from: b, to: 'many[3]'}]\n",
    )  # fmt: skip

    assert [item.position and item.position.line for item in found] == [3, 3]


def test_every_wrong_entry_is_told_at_once(tmp_path: Path) -> None:
    found = wrong(
        tmp_path,
        f"{HEAD}{FLEET}moved: [{{from: a, to: x}}, {{from: db, to: y}}]\nremoved: [{{from: r}}, {{from: '*'}}]\n",
    )

    assert [item.code for item in found] == [
        "unknown-sandbox", "still-declared", "unknown-sandbox", "still-declared", "address",
    ]  # fmt: skip


def test_a_long_history_is_put_in_order_quickly(tmp_path: Path) -> None:
    names = [f"n{index}" for index in range(1500)]
    entries = "".join(f"  - {{from: {a}, to: {b}}}\n" for a, b in reversed([*zip(names, [*names[1:], "db"], strict=True)]))  # fmt: skip

    made = desired(tmp_path, f"{FLEET}moved:\n{entries}").moved

    assert [move.source for move in made] == names
