"""Single values, text made safe, widths, tables and durations."""

from __future__ import annotations

import click
import pytest

from reconciler.cli.durations import DURATION
from reconciler.cli.views.style import PLAIN, Style, cells, fit, fit_middle, harmless, wrapped
from reconciler.cli.views.table import Column, table
from reconciler.cli.views.values import age, duration, show_value
from reconciler.model.plan import UNKNOWN_VALUE


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("image", "aio:1", '"aio:1"'),
        ("image", None, "(not set)"),
        ("image", "", '""'),
        ("image", 'a "b"\n', '"a \\"b\\"\\n"'),
        ("resources.memory", 1073741824, "1Gi"),
        ("resources.shm", 67108864, "64Mi"),
        ("resources.memory", 1000, "1000"),
        ("resources.memory", 0, "0"),
        ("resources.pids", 1024, "1024"),
        ("resources.cpu", 1.5, "1.5"),
        ("resources.cpu", 1e9, "1000000000"),
        ("resources.cpu", 0.123456789, "0.123456789"),
        ("security.read_only_root", True, "true"),
        ("environment.URL", UNKNOWN_VALUE, "(known after apply)"),
        ("secrets.KEY", "digest", "•••"),
        ("secrets.KEY", None, "(not set)"),
        ("secrets.KEY.as", "environment", '"environment"'),
    ],
)
def test_a_value_is_shown_as_it_was_most_likely_written(path, value, shown):
    assert show_value(path, value) == shown


def test_a_sensitive_value_is_masked_on_any_path():
    assert show_value("environment.X", "hunter2", sensitive=True) == "•••"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0s"),
        (1.25, "1.2s"),
        (99.9, "99.9s"),
        (99.96, "1m40s"),
        (185, "3m05s"),
        (7620, "2h07m"),
        (-1, "0.0s"),
    ],
)
def test_a_duration_is_short(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172800, "2d"),
        (-5, "0s"),
    ],
)
def test_an_age_is_humanised(seconds, shown):
    assert age(seconds) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("→ • 宽", "→ • 宽"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b", "\\x9b"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202e", "\\u202e"),
        ("\udc80", "\\udc80"),
        ("\u200b", "\\u200b"),
    ],
    ids=["plain", "wide", "escape", "C1", "white space", "override", "lone surrogate", "zero width"],
)
def test_text_is_made_harmless(text, shown):
    assert harmless(text) == shown


@pytest.mark.parametrize("width", range(1, 12))
@pytest.mark.parametrize("text", ["hello world", "宽宽宽宽宽", "aaa[12]"])
def test_text_is_cut_to_the_width_and_says_so(text, width):
    for cut in (fit(text, width), fit_middle(text, width)):
        assert cells(cut) <= width
        assert cut == text or "…" in cut


def test_the_middle_of_an_address_goes_before_its_index():
    assert fit_middle("a-very-long-researcher-name[12]", 20).endswith("[12]")


def test_wrapped_text_keeps_every_word():
    text = "one two three " + "x" * 50 + " four"
    lines = wrapped(text, 20, indent="  ")
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert max(map(cells, lines)) <= 20


def columns() -> list[Column]:
    return [
        Column(title="NAME", values=["alpha", "a-name-that-goes-on-and-on[3]"], weight=9, least=12),
        Column(title="URL", values=["http://127.0.0.1:49152", "-"], weight=2),
        Column(title="EMPTY", values=["", "-"], weight=5),
        Column(title="STATE", values=["ready", "dead"], weight=5, codes=[(32,), (31,)]),
    ]


@pytest.mark.parametrize("width", range(10, 70, 3))
def test_a_table_always_fits(width):
    lines = table(columns(), width=width, style=PLAIN)
    assert max(map(cells, lines[:3])) <= width


def test_a_table_leaves_out_what_matters_least_and_says_so():
    lines = table(columns(), width=30, style=PLAIN)
    assert lines[0].split() == ["NAME", "STATE"]
    assert lines[-1] == "(no room for: URL)"


def test_a_column_without_values_takes_no_room():
    assert "EMPTY" not in table(columns(), width=200, style=PLAIN)[0]


def test_cells_are_coloured_without_changing_the_layout():
    coloured = table(columns(), width=80, style=Style(colour=True))
    assert "\x1b[32mready\x1b[0m" in coloured[1]
    assert [cells(line) for line in coloured[1:]] == [
        cells(line) for line in table(columns(), width=80, style=PLAIN)[1:]
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30.0), ("1m30s", 90.0), ("2h", 7200.0), ("5", 5.0), ("1.5m", 90.0)],
)
def test_a_duration_is_read(text, seconds):
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "5x", "-1s", "1m 30s", "nan"])
def test_what_is_no_duration_is_refused_with_an_example(text):
    with pytest.raises(click.BadParameter, match="30s, 5m or 1h30m"):
        DURATION.convert(text, None, None)
