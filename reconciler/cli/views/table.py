"""Small tables that fit the terminal: what matters least is shortened first, then left out, and that is said.

Knows nothing of what the columns mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.cli.views.style import Style, cells, fit_middle, harmless, pad

_GAP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`weight` says how long a column is kept: the lightest goes first, the heaviest stays whatever happens.
    `least` is the width it may be shortened to; None is never shortened. `codes` colours each value."""

    title: str
    values: Sequence[str]
    weight: int
    least: int | None = None
    codes: Sequence[tuple[int, ...]] = ()

    @property
    def natural(self) -> int:
        return max(cells(self.title), *(cells(value) for value in self.values), 0)


def table(columns: Sequence[Column], *, width: int, style: Style) -> list[str]:
    """Header and one line per row, at most `width` columns each; columns without any value are left out."""
    safe = [_harmless(column) for column in columns]
    filled = [column for column in safe if any(value not in ("", "-") for value in column.values)]
    shown, hidden = list(filled), []
    while (widths := _widths(shown, width)) is None:
        lightest = min(shown, key=lambda column: column.weight)
        shown.remove(lightest)
        hidden.append(lightest.title)
    lines = [style.bold(_line([column.title for column in shown], widths))]
    count = len(shown[0].values) if shown else 0
    lines += [_row(shown, widths, index, style) for index in range(count)]
    if hidden:
        titles = [column.title for column in filled if column.title in hidden]
        lines.append(style.dim(f"(no room for: {', '.join(titles)})"))
    return lines


def _harmless(column: Column) -> Column:
    return Column(
        title=column.title,
        values=[harmless(value) for value in column.values],
        weight=column.weight,
        least=column.least,
        codes=column.codes,
    )


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


def _line(values: Sequence[str], widths: Sequence[int]) -> str:
    shown = [pad(fit_middle(value, size), size) for value, size in zip(values, widths, strict=True)]
    return (" " * _GAP).join(shown).rstrip()


def _row(columns: Sequence[Column], widths: Sequence[int], index: int, style: Style) -> str:
    parts = []
    for column, size in zip(columns, widths, strict=True):
        text = pad(fit_middle(column.values[index], size), size)
        codes = column.codes[index] if column.codes else ()
        bare = text.rstrip()
        parts.append(style.paint(bare, *codes) + text[len(bare) :])
    return (" " * _GAP).join(parts).rstrip()
