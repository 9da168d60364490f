"""Figures in words: numbers with their units, goals, spreads. Pure; for the terminal, the page and the plot alike."""

from __future__ import annotations

from benchmarks.figures import Figure, Relation, Spread

_SECONDS = ((1.0, 1.0, "s"), (1e-3, 1e3, "ms"), (0.0, 1e6, "µs"))


def number(value: float, unit: str) -> str:
    """Three digits that count: `1.23 s`, `45.6 ms`, `118 MB`, `290`."""
    if unit == "s":
        _, factor, name = next(each for each in _SECONDS if abs(value) >= each[0])
        return f"{_digits(value * factor)} {name}"
    return f"{_digits(value)}{'' if unit == '/s' else ' ' if unit else ''}{unit}"


def times(ratio: float) -> str:
    return f"{_digits(ratio)} ×"


def goal(figure: Figure) -> str:
    """What was aimed at: `≤ 2 ×`, `≤ 60 ms more`, `≤ 1.5 s`; "" for nothing."""
    if figure.goal is None:
        return ""
    match figure.relation:
        case Relation.TIMES:
            return f"≤ {times(figure.goal)}"
        case Relation.MORE:
            return f"≤ {number(figure.goal, figure.unit)} more"
        case Relation.ITSELF:
            return f"≤ {number(figure.goal, figure.unit)}"


def value(figure: Figure) -> str:
    """What is held against the goal."""
    found = figure.value
    if found is None:
        return ""
    match figure.relation:
        case Relation.TIMES:
            return times(found)
        case Relation.MORE:
            return f"{number(found, figure.unit)} more"
        case Relation.ITSELF:
            return number(found, figure.unit)


def measured(of: Spread, unit: str, repetitions: int) -> str:
    """`1.23 s (1.10–1.41)`: the median, and the least and the most where it was repeated."""
    middle = number(of.median, unit)
    if repetitions == 1:
        return middle
    least, most = number(of.least, unit), number(of.most, unit)
    name = middle.rpartition(" ")[2]
    if least.endswith(f" {name}") and most.endswith(f" {name}"):
        least = least.removesuffix(f" {name}")
    return (
        f"{middle} ({least}–{most.removesuffix(f' {name}')})"
        if " " in middle
        else f"{middle} ({least}–{most})"
    )


def _digits(value: float) -> str:
    """Three digits that count; all of those before the point."""
    if value == round(value):
        return f"{value:,.0f}"
    size = abs(float(f"{value:.3g}"))  # what it is once rounded: 9.996 is 10.0
    if size < 1:
        return f"{value:.3g}"
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2}f}"
