"""Changed fields for people: path, value before and after, marks and place, in as few lines as the width allows.

Sees rows and a width; nothing is cut that tells two values apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.cli.views.grouping import Row
from reconciler.cli.views.style import ELLIPSIS, RED, Style, cells, fit, pad

FIELD = "      "


def rows_text(rows: Sequence[Row], width: int, style: Style, *, join: str = " → ") -> Iterator[str]:
    """Fields under each other: path, values, marks, place; a field too long for one line takes two or three."""
    if not rows:
        return
    column = min(max(cells(row.path) for row in rows), max(12, width // 2))
    bodies = [_body(row, column, join) for row in rows]
    room = width - len(FIELD)
    fitting = [cells(body) for body, row in zip(bodies, rows, strict=True) if _total(body, row) <= room]
    edge = max(fitting, default=0)
    for row, body in zip(rows, bodies, strict=True):
        if cells(row.path) <= column and _total(body, row) <= room:
            aligned = pad(body, edge) if row.place and edge + 2 + cells(row.place) <= room else body
            yield f"{FIELD}{_marked(aligned, row, style)}" + (
                f"  {style.dim(row.place)}" if row.place else ""
            )
        else:
            yield from _long_row(row, width, style, join)


def _values(row: Row, join: str) -> str:
    return f"{row.before}{join}{row.after}" if row.before else row.after


def _note(row: Row) -> str:
    return "  # forces replacement" if row.forces_replacement else ""


def _body(row: Row, column: int, join: str) -> str:
    return f"{pad(row.path, column)}  {_values(row, join)}{_note(row)}"


def _total(body: str, row: Row) -> int:
    return cells(body) + (2 + cells(row.place) if row.place else 0)


def _marked(body: str, row: Row, style: Style) -> str:
    note = _note(row)
    if not note:
        return body
    head, _, tail = body.rpartition(note)
    return f"{head}{style.paint(note, RED)}{tail}"


def _long_row(row: Row, width: int, style: Style, join: str) -> Iterator[str]:
    """Path and place, values and marks: each pair on a line if it fits, else one under the other."""
    room = width - len(FIELD)
    path, place = fit(row.path, room), style.dim(fit(row.place, room - 2))
    if not row.place:
        yield f"{FIELD}{path}"
    elif cells(path) + 2 + cells(row.place) <= room:
        yield f"{FIELD}{path}  {place}"
    else:
        yield f"{FIELD}{path}"
        yield f"{FIELD}  {place}"
    indent = FIELD + "    "
    lines = _long_values(row, width - len(indent), join)
    note = _note(row)
    if note and cells(indent + lines[-1] + note) <= width:
        lines[-1] += style.paint(note, RED)
    elif note:
        lines.append(style.paint(note.strip(), RED))
    yield from (indent + line for line in lines)


def _long_values(row: Row, space: int, join: str) -> list[str]:
    if cells(_values(row, join)) <= space:
        return [_values(row, join)]
    if not row.before:
        return [fit(row.after, space)]
    before, after = _where_they_differ(row.before, row.after, space)
    return [fit(before, space), fit(f"{join.strip()} {after}", space)]


def _where_they_differ(before: str, after: str, space: int) -> tuple[str, str]:
    """Both without most of what they begin with alike, if that is what the cut would leave of them."""
    pairs = enumerate(zip(before, after, strict=False))
    alike = next((index for index, (one, other) in pairs if one != other), min(len(before), len(after)))
    if alike < space // 2:
        return before, after
    return ELLIPSIS + before[alike - 8 :], ELLIPSIS + after[alike - 8 :]
