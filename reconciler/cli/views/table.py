"""Small tables that fit the terminal: what matters least is shortened first, then left out, and that is said.

Knows nothing of what the columns mean.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from reconciler.cli.views.style import Style, cells, fit_middle, harmless, pad

_GAP = 2


class Column(Struct, frozen=True, kw_only=True):
    """`weight` says how long a column is kept: the lightest goes first, the heaviest stays whatever happens.
    `least` is the width it may be shortened to; None is never shortened. `codes` colours each value; `right` aligns
    numbers."""

    title: str
    values: Sequence[str]
    weight: int
    least: int | None = None
    codes: Sequence[tuple[int, ...]] = ()
    right: bool = False

    def cell(self, value: str, width: int) -> str:
        text = fit_middle(value, width)
        return " " * max(0, width - cells(text)) + text if self.right else pad(text, width)

    @property
    def natural(self) -> int:
        return max(cells(self.title), *(cells(value) for value in self.values), 0)


def table(columns: Sequence[Column], *, width: int, style: Style) -> list[str]:
    """Header and one line per row, at most `width` columns each; columns without any value are left out."""
    shown, widths, hidden = _shown(columns, width)
    titles = [column.cell(column.title, size) for column, size in zip(shown, widths, strict=True)]
    lines = [style.bold((" " * _GAP).join(titles).rstrip())]
    count = len(shown[0].values) if shown else 0
    lines += [_row(shown, widths, index, style) for index in range(count)]
    if hidden:
        lines.append(style.dim(f"(no room for: {', '.join(hidden)})"))
    return lines


def without_room(columns: Sequence[Column], *, width: int) -> list[str]:
    """The titles of the columns that `table` has to leave out at that width."""
    return _shown(columns, width)[2]


def _shown(columns: Sequence[Column], width: int) -> tuple[list[Column], list[int], list[str]]:
    """Those columns that fit, their widths, and the titles of the others."""
    filled = [column for column in map(_harmless, columns) if any(v not in ("", "-") for v in column.values)]
    shown = list(filled)
    while (widths := _widths(shown, width)) is None:
        shown.remove(min(shown, key=lambda column: column.weight))
    return shown, widths, [column.title for column in filled if column not in shown]


def _harmless(column: Column) -> Column:
    return replace(column, values=[harmless(value) for value in column.values])


def _widths(columns: Sequence[Column], width: int) -> list[int] | None:
    """A width for each column, None when they do not fit and one of them must go."""
    widths = [column.natural for column in columns]
    excess = sum(widths) + _GAP * (len(widths) - 1) - width
    for index, column in sorted(enumerate(columns), key=lambda item: item[1].weight):
        if excess <= 0:
            break
        least = widths[index] if column.least is None else min(widths[index], column.least)
        given = min(excess, widths[index] - least)
        widths[index] -= given
        excess -= given
    if excess <= 0:
        return widths
    if len(columns) > 1:
        return None
    return [max(1, width)]


def _row(columns: Sequence[Column], widths: Sequence[int], index: int, style: Style) -> str:
    parts = []
    for column, size in zip(columns, widths, strict=True):
        text = column.cell(column.values[index], size)
        codes = column.codes[index] if column.codes else ()
        bare = text.strip()
        before, _, after = text.partition(bare) if bare else (text, "", "")
        parts.append(before + style.paint(bare, *codes) + after)
    return (" " * _GAP).join(parts).rstrip()
