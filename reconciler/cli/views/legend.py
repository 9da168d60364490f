"""The signs of a plan: symbol, colour and meaning of each action, and a legend of those that are used."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.cli.views.style import BOLD, CYAN, DIM, GREEN, MAGENTA, RED, YELLOW, Style, cells, fit
from reconciler.model.plan import CREATE_FIRST_SYMBOL, SYMBOL, Action, Plan

COLOUR = {
    Action.CREATE: GREEN,
    Action.UPDATE: YELLOW,
    Action.REPLACE: RED,
    Action.REPAIR: MAGENTA,
    Action.ADOPT: CYAN,
    Action.DESTROY: RED,
    Action.FORGET: DIM,
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
LADDER_MEANING = "repair: mend what broke, or replace it"  # some of them are not replaced at once


def legend(plan: Plan, width: int, style: Style) -> Iterator[str]:
    """The symbols in use, in as few lines as they fit in."""
    used = {step.symbol for step in plan.steps}
    mends = any(step.rungs for step in plan.steps)
    line = ""
    for symbol, action, meaning in _SYMBOLS:
        if symbol not in used:
            continue
        words = LADDER_MEANING if mends and action is Action.REPAIR else meaning
        entry = f"  {symbol} {words}"
        if line and cells(line) + cells(entry) > width:
            yield line
            line = ""
        line += f"  {style.paint(symbol, COLOUR[action], BOLD)} {fit(words, width - 6)}"
    yield line


def _symbols() -> Iterator[tuple[str, Action, str]]:
    """What a legend may have to explain, in its order."""
    for action, meaning in MEANING.items():
        yield SYMBOL[action], action, meaning
        if action is Action.REPLACE:
            yield CREATE_FIRST_SYMBOL, action, CREATE_FIRST_MEANING


_SYMBOLS = tuple(_symbols())
