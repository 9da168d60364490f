"""How a problem is printed: place, line, caret, fix; safe on every terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from reconciler.config.diagnostics import clean, closest, one_of, quote, render
from reconciler.config.quantities import cores, seconds, size
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.position import Position
from tests.config.written import HEAD, configured, wrong
from tests.conftest import Golden

SEVERAL = (
    HEAD
    + """\
variables:
  token: {sensitive: true, default: hunter2}
sandboxes:
  box:
    imgae: a
    image: 1.10
    secrets: {T: {value: hunter2}, U: hunter2}
    ports: [{name: http, container: 70000}]
  box:
    image: b
"""
)


def test_a_file_with_several_problems(tmp_path: Path, golden: Golden) -> None:
    found = wrong(tmp_path, SEVERAL)

    golden("diagnostics/several.txt", "\n\n".join(render(item) for item in found) + "\n")


@pytest.mark.parametrize(
    ("name", "text", "width"),
    [
        ("syntax", HEAD + "sandboxes:\n  box: {command: [a, b\n  other: {}\n", 100),
        ("long", HEAD + "sandboxes: {box: {command: [" + "word, " * 40 + "{a: 1}, " + "word, " * 40 + "]}}\n", 60),
        ("wide", HEAD + "sandboxes:\n  box: {labels: {名前: '値段', team: [日本語]}}\n", 100),
        ("cycle", HEAD + "sandboxes:\n  a: {depends_on: [b]}\n  b: {depends_on: [c]}\n  c: {depends_on: [a]}\n", 100),
    ],
    ids=["a list that is never closed", "a long line", "wide characters", "a circle"],
)  # fmt: skip
def test_printed(tmp_path: Path, golden: Golden, name: str, text: str, width: int) -> None:
    found = wrong(tmp_path, text)

    golden(f"diagnostics/{name}.txt", "\n\n".join(render(item, width=width) for item in found) + "\n")


def problem(**fields: object) -> Diagnostic:
    given: dict[str, object] = {"severity": Severity.ERROR, "code": "c", "summary": "s"}
    return Diagnostic(**(given | fields))  # type: ignore[arg-type]


def test_what_a_file_holds_never_steers_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[31mred\u202e\u200b\x07"
    item = problem(
        summary=evil, fix=evil, snippet=f"a: {evil}", position=Position(evil, 1, 4), width=5,
        related=((evil, Position(evil, 1, 1)),),
    )  # fmt: skip

    shown = render(item)

    assert all(char == "\n" or char.isprintable() for char in shown)
    for text in (f'"{evil}"', '"red\u202e\u200b"', '"\\e[31m\\u202e"'):
        for item in wrong(tmp_path, HEAD + f"sandboxes: {{box: {{{text}: 1, image: [{text}]}}}}\n"):
            assert all(char == "\n" or char.isprintable() for char in render(item))


def test_without_a_place_there_is_only_the_message_and_the_fix() -> None:
    assert render(problem(fix="f")) == "error: s\n = fix: f"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("column", [1, 15, 60, 119])
def test_the_caret_stands_under_its_column_at_any_width(width: int, column: int) -> None:
    text = "".join(chr(33 + index % 90) for index in range(120))
    lines = render(problem(snippet=text, position=Position("f", 1, column)), width=width).splitlines()

    source, caret = lines[3], lines[4]
    assert source[caret.index("^")] == text[column - 1]
    assert len(source) <= max(width, 24)


def test_cleaning_keeps_what_people_write() -> None:
    assert clean("naïve → 日本語 ✓") == "naïve → 日本語 ✓"
    assert clean("a\tb\x1b\u202e") == "a b\\x1b\\u202e"
    assert clean("a\xa0b\u3000") == "a\\xa0b\\u3000"  # spaces that are none to YAML, and look like one
    assert quote("x" * 100) == "`" + "x" * 60 + "…`"


def test_suggestions() -> None:
    assert closest("imgae", ["image", "labels"]) == "image"
    assert closest("IMAGE", ["image"]) == "image"
    assert closest("zzz", ["image"]) == ""
    assert one_of(["a", "b", "c"]) == "`a`, `b` or `c`"
    assert one_of([str(n) for n in range(10)], 2) == "`0`, `1` or 8 more"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("60s", 60.0), ("250ms", 0.25), ("1h30m", 5400.0), ("8h", 28800.0), ("1d", 86400.0), ("1.5s", 1.5), ("5", 5.0),
        ("0", 0.0), ("1e3", None), ("", None), ("s", None), ("1h 30m", None), ("-1s", None), ("1w", None), ("inf", None),
    ],
)  # fmt: skip
def test_durations(text: str, value: float | None) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1Gi", 2**30), ("512M", 512 * 10**6), ("1g", 2**30), ("1GB", 10**9), ("64mb", 64 * 2**20), ("100", 100),
        ("1.5Gi", 3 * 2**29), ("1b", 1), ("1X", None), ("", None), ("-1", None), ("1 Gi", None),
    ],
)  # fmt: skip
def test_sizes(text: str, value: int | None) -> None:
    assert size(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("0.5", 0.5), ("500m", 0.5), ("0", None), ("0m", None), ("x", None), ("1 m", None)],
)
def test_cores(text: str, value: float | None) -> None:
    assert cores(text) == value


def remark(line: int, column: int, file: str = "sandboxes.yaml") -> Diagnostic:
    """As one is made where there is a position and no file."""
    return Diagnostic(severity=Severity.NOTE, code="x", summary="x", position=Position(file, line, column))


@pytest.mark.parametrize(
    ("block", "at", "width"),
    [
        ("restart: always", "always", 6),
        ("restart: always # of course", "always", 6),
        ("mounts: [{type: tmpfs, target: /a}]", "tmpfs", 5),
        ("mounts: [{type: tmpfs, target: /a}]", "{type", 1),
        ("mounts: [{source: 'a b', target: /a}]", "'a b'", 5),
        ('labels: {a: "b, c"}', '"b, c"', 6),
        ("security: {cap_add: [KILL]}", "[KILL]", 1),
    ],
    ids=[
        "a word",
        "before a comment",
        "in brackets",
        "a mapping",
        "text with a space",
        "text with a comma",
        "a list",
    ],
)
def test_a_remark_from_a_position_gets_its_line_and_caret(
    tmp_path: Path, block: str, at: str, width: int
) -> None:
    made = configured(tmp_path, f"{HEAD}sandboxes:\n  box:\n    {block}\n")
    column = 5 + block.index(at)

    shown = made.illustrate(remark(5, column))

    assert (shown.snippet, shown.width) == (f"    {block}", width)
    lines = render(shown).splitlines()
    assert lines[-1].index("^") == lines[-2].index(at)


def test_the_line_of_a_remark_shows_no_secret(tmp_path: Path) -> None:
    line = "    secrets: {T: {value: hush-hush, as: environment}}"
    made = configured(tmp_path, f"{HEAD}sandboxes:\n  box:\n{line}\n")

    shown = made.illustrate(remark(5, line.index("environment}") + 1))

    assert shown.snippet == line.replace("hush-hush", "•" * 9)
    assert shown.width == len("environment")


@pytest.mark.parametrize(
    "bare",
    [
        remark(1, 1, "another.yaml"),
        Diagnostic(severity=Severity.NOTE, code="x", summary="x"),
        replace(remark(1, 1), snippet="as it was"),
    ],
    ids=["of a file that is not ours", "without a place", "with its line already"],
)
def test_other_remarks_stay_as_they_are(tmp_path: Path, bare: Diagnostic) -> None:
    assert configured(tmp_path, HEAD + "sandboxes: {box: {}}\n").illustrate(bare) == bare


def test_a_place_beyond_the_end_shows_nothing(tmp_path: Path) -> None:
    shown = configured(tmp_path, HEAD + "sandboxes: {box: {}}\n").illustrate(remark(99, 99))

    assert (shown.snippet, shown.width) == ("", 1)
