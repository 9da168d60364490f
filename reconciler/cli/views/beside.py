"""What a plan holds beside its steps, for a terminal: moves, rollouts, what expires soon, and why it is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.cli.views import wording
from reconciler.cli.views.style import BOLD, RED, Style, cells, fit, fit_middle, harmless, pad, wrapped
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.plan import Plan, Waves

_ITEM = "    "


def moves_text(plan: Plan, width: int, style: Style) -> Iterator[str]:
    rows = wording.moves(plan)
    if not rows:
        return
    yield style.bold("Moved:")
    yield ""
    bodies = [f"{row.source} → {row.target}" for row in rows]
    room = width - len(_ITEM)
    fitting = [
        cells(body)
        for body, row in zip(bodies, rows, strict=True)
        if cells(body) + 2 + cells(row.place) <= room
    ]
    edge = max(fitting, default=0)
    for row, body in zip(rows, bodies, strict=True):
        if cells(body) + 2 + cells(row.place) <= room:
            aligned = pad(body, edge) if row.place and edge + 2 + cells(row.place) <= room else body
            yield f"{_ITEM}{aligned}" + (f"  {style.dim(row.place)}" if row.place else "")
            continue
        if cells(body) <= room:
            yield f"{_ITEM}{body}"
        else:
            yield f"{_ITEM}{fit_middle(row.source, room)}"
            yield f"{_ITEM}→ {fit_middle(row.target, room - 2)}"
        if row.place:
            yield style.dim(f"{_ITEM}  {fit(row.place, room - 2)}")
    yield ""


def rollout_text(waves: Waves, plan: Plan, width: int, style: Style) -> Iterator[str]:
    yield from (style.bold(line) for line in wrapped(wording.rollout_title(waves, plan), width))
    rows = wording.wave_rows(waves, plan)
    column = max((cells(row.label) for row in rows), default=0)
    for row in rows:
        names = fit_middle(row.names, width - len(_ITEM) - column - 2)
        yield f"{_ITEM}{pad(row.label, column)}  {names}"
    end = wording.rollout_end(waves)
    if end:
        yield from (style.dim(line) for line in wrapped(end, width, indent=_ITEM))
    yield ""


def expiring_text(plan: Plan, width: int, style: Style) -> Iterator[str]:
    rows, more = wording.expiring(plan)
    if not rows:
        return
    yield style.bold("Expiring:")
    yield ""
    widest = max(cells(when) for _, when in rows)
    column = min(max(cells(name) for name, _ in rows), width - len(_ITEM) - 2 - widest)
    for name, when in rows:
        yield f"{_ITEM}{pad(fit_middle(name, column), column)}  {when}"
    if more:
        yield style.dim(f"{_ITEM}… and {more} more within a day")
    yield ""


def refusals_text(refusals: Sequence[Diagnostic], width: int, style: Style) -> Iterator[str]:
    """The very end of a plan that must not be carried out: what tripped, where, and what to do."""
    if not refusals:
        return
    yield ""
    yield style.paint(wording.REFUSED, RED, BOLD)
    for refusal in refusals:
        yield ""
        first, *rest = wrapped(harmless(refusal.summary), width - len(_ITEM))
        places = list(wording.places(refusal))
        beside = len(places) == 1 and not rest and cells(first) + 2 + cells(places[0]) <= width - len(_ITEM)
        yield f"  {style.paint('✗', RED, BOLD)} {style.paint(first, RED)}" + (
            f"  {style.dim(places[0])}" if beside else ""
        )
        yield from (f"{_ITEM}{style.paint(line, RED)}" for line in rest)
        for place in [] if beside else places:
            yield from (style.dim(line) for line in wrapped(place, width, indent=_ITEM))
        if refusal.fix:
            yield from wrapped(f"fix: {harmless(refusal.fix)}", width, indent=_ITEM)
