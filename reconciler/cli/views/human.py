"""A plan for people: destroys first, replicas in one block, every changed field with its reason's place.

Sees the plan and nothing else; computes no decision, prints nothing, and is readable without colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.cli.views.grouping import Block, Row, blocks, split, together
from reconciler.cli.views.style import (
    BOLD,
    CYAN,
    ELLIPSIS,
    GREEN,
    MAGENTA,
    RED,
    YELLOW,
    Style,
    cells,
    fit,
    harmless,
    pad,
    wrapped,
)
from reconciler.cli.views.values import counted
from reconciler.model.plan import CREATE_FIRST_SYMBOL, SYMBOL, Action, Plan, Reason, Step

COLOUR = {
    Action.CREATE: GREEN,
    Action.UPDATE: YELLOW,
    Action.REPLACE: RED,
    Action.REPAIR: MAGENTA,
    Action.ADOPT: CYAN,
    Action.DESTROY: RED,
    Action.FORGET: 2,
}

MEANING = {
    Action.DESTROY: "destroy",
    Action.REPLACE: "replace: destroy, then create",
    Action.REPAIR: "repair: replace what broke",
    Action.UPDATE: "change in place",
    Action.CREATE: "create",
    Action.ADOPT: "adopt",
    Action.FORGET: "forget the record",
}
CREATE_FIRST_MEANING = "replace: create, then destroy"

# What happened to the object itself, as opposed to one of its fields.
HAPPENED_OUTSIDE = (Reason.MISSING, Reason.DEAD, Reason.PAUSED)

_FIELD = "      "


def _symbols() -> Iterator[tuple[str, Action, str]]:
    """What a legend may have to explain, in its order."""
    for action, meaning in MEANING.items():
        yield SYMBOL[action], action, meaning
        if action is Action.REPLACE:
            yield CREATE_FIRST_SYMBOL, action, CREATE_FIRST_MEANING


_SYMBOLS = tuple(_symbols())


def plan_text(plan: Plan, *, width: int, style: Style) -> str:
    """The whole plan, no line wider than `width` columns, ending in the summary line."""
    lines = list(_lines(plan, width, style))
    return "\n".join([*lines, *(style.bold(line) for line in wrapped(summary(plan), width))]) + "\n"


def summary(plan: Plan) -> str:
    """`Plan: 3 to create, 1 to change, 1 to replace, 0 to destroy.`; other actions only when there are any."""
    if plan.empty:
        if plan.destroy:
            return f"Nothing to destroy. Stack {harmless(plan.stack)} has no sandboxes."
        kept = len(plan.unchanged)
        as_declared = (
            f"{'The sandbox' if kept == 1 else f'All {kept} sandboxes'} of stack {harmless(plan.stack)}"
        )
        return (
            f"No changes. {as_declared} {'is' if kept == 1 else 'are'} as declared."
            if kept
            else f"No changes. Stack {harmless(plan.stack)} declares no sandboxes, and has none."
        )
    tally = plan.tally()
    always = [
        f"{tally.get(Action.CREATE, 0)} to create",
        f"{tally.get(Action.UPDATE, 0)} to change",
        f"{tally.get(Action.REPLACE, 0)} to replace",
        f"{tally.get(Action.DESTROY, 0)} to destroy",
    ]
    more = [
        f"{tally[action]} to {action}"
        for action in (Action.REPAIR, Action.ADOPT, Action.FORGET)
        if tally.get(action)
    ]
    return f"Plan: {', '.join([*always, *more])}."


def _lines(plan: Plan, width: int, style: Style) -> Iterator[str]:
    if plan.empty:
        return
    steps = blocks(plan.steps)
    yield from _legend(plan, width, style)
    yield ""
    drifted = [block for block in steps if block.drift or block.step.reason in HAPPENED_OUTSIDE]
    if drifted:
        yield style.bold("Changed outside, since the last apply:")
        yield ""
        for block in drifted:
            yield from _drift(block, width, style)
        yield ""
        yield style.bold("To do:")
        yield ""
    for block in steps:
        yield from _block(block, width, style)
        yield ""
    if plan.unchanged:
        yield style.dim(
            fit(f"{counted(len(plan.unchanged), 'other sandbox', 'other sandboxes')} unchanged.", width)
        )


def _legend(plan: Plan, width: int, style: Style) -> Iterator[str]:
    used = {step.symbol for step in plan.steps}
    line = ""
    for symbol, action, meaning in _SYMBOLS:
        if symbol not in used:
            continue
        entry = f"  {symbol} {meaning}"
        if line and cells(line) + cells(entry) > width:
            yield line
            line = ""
        line += f"  {style.paint(symbol, COLOUR[action], BOLD)} {fit(meaning, width - 6)}"
    yield line


def _heading(block: Block, width: int, style: Style) -> Iterator[str]:
    step = block.step
    colour = COLOUR[step.action]
    symbol = pad(step.symbol, 3)
    name, backend = fit(block.title, width - 4), f"[{harmless(step.backend)}]"
    why = reason_text(block)
    lead = f"{style.paint(symbol, colour, BOLD)} {style.bold(name)}"
    used = 4 + cells(name)
    if used + 2 + cells(backend) + 2 + cells(why) <= width:
        yield f"{lead}  {backend}  {style.dim(why)}"
        return
    yield f"{lead}  {backend}" if used + 2 + cells(backend) <= width else lead
    for line in wrapped(why, width, indent="    "):
        yield style.dim(line)


def reason_text(block: Block) -> str:
    """Why the steps of a block are in the plan, with the detail that goes with it."""
    detail = harmless(block.step.detail)
    return block.step.reason.text + (f" ({detail})" if detail else "")


def _block(block: Block, width: int, style: Style) -> Iterator[str]:
    step = block.step
    yield from _heading(block, width, style)
    yield from rows_text(block.rows, width, style)
    if block.drift:
        yield from wrapped(
            f"puts back {counted(len(block.drift), 'field')} changed outside", width, indent=_FIELD
        )
    if step.unchanged and step.action is not Action.CREATE:
        yield style.dim(fit(f"{_FIELD}{counted(step.unchanged, 'unchanged field')} hidden", width))
    if step.needs:
        yield from (style.dim(line) for line in wrapped(f"after {_needs(step)}", width, indent=_FIELD))
    if step.cost:
        yield from wrapped(f"cost: {harmless(step.cost)}", width, indent=_FIELD)


def _needs(step: Step) -> str:
    groups: dict[str, list[str]] = {}
    for address in step.needs:
        groups.setdefault(split(address)[0], []).append(address)
    return ", ".join(together(addresses) for addresses in groups.values())


def _drift(block: Block, width: int, style: Style) -> Iterator[str]:
    name = fit(block.title, width - 4)
    happened = reason_text(block) if block.step.reason in HAPPENED_OUTSIDE else ""
    if happened and 4 + cells(name) + 2 + cells(happened) > width:
        yield f"    {style.bold(name)}"
        yield from wrapped(happened, width, indent=_FIELD)
    else:
        yield f"    {style.bold(name)}" + (f"  {happened}" if happened else "")
    yield from rows_text(block.drift, width, style, join=" live, declared ")


def rows_text(rows: Sequence[Row], width: int, style: Style, *, join: str = " → ") -> Iterator[str]:
    """Fields under each other: path, values, marks, place; a field too long for one line takes two or three."""
    if not rows:
        return
    column = min(max(cells(row.path) for row in rows), max(12, width // 2))
    bodies = [_body(row, column, join) for row in rows]
    room = width - len(_FIELD)
    fitting = [cells(body) for body, row in zip(bodies, rows, strict=True) if _total(body, row) <= room]
    edge = max(fitting, default=0)
    for row, body in zip(rows, bodies, strict=True):
        if cells(row.path) <= column and _total(body, row) <= room:
            aligned = pad(body, edge) if row.place and edge + 2 + cells(row.place) <= room else body
            yield f"{_FIELD}{_marked(aligned, row, style)}" + (
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
    room = width - len(_FIELD)
    path, place = fit(row.path, room), style.dim(fit(row.place, room - 2))
    if not row.place:
        yield f"{_FIELD}{path}"
    elif cells(path) + 2 + cells(row.place) <= room:
        yield f"{_FIELD}{path}  {place}"
    else:
        yield f"{_FIELD}{path}"
        yield f"{_FIELD}  {place}"
    indent = _FIELD + "    "
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
