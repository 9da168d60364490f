"""A run for people: lines as they come, a table at the end, a page for the docs. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, Relation, Verdict
from benchmarks.results import Run, Section
from benchmarks.words import goal, measured, times, value

_STYLES = {
    Verdict.MET: "green",
    Verdict.NOT_MET: "bold red",
    Verdict.ABSENT: "yellow",
    Verdict.NO_GOAL: "dim",
}
HEADINGS = ("figure", "n", "ours: median (least–most)", "beside", "theirs", "ratio", "goal", "verdict")


def line(figure: Figure) -> str:
    """One figure, as soon as it is there."""
    parts = [f"  {figure.name}: {_ours(figure)}"]
    if figure.peer:
        parts.append(f"{figure.peer}: {_theirs(figure)}")
    if figure.ratio is not None:
        parts.append(f"ratio {_ratio(figure)}")
    if figure.goal is not None:
        parts.append(f"{value(figure)} for a goal of {goal(figure)}: {figure.verdict}")
    if figure.note:
        parts.append(figure.note)
    return "; ".join(parts)


def show(run: Run, console: Console) -> None:
    for section in run.sections:
        table = Table(title=f"{section.name}: {section.about}", title_justify="left", header_style="bold")
        for index, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="right" if index in (1, 5) else "left")
        for figure in section.figures:
            table.add_row(*_row(figure), style=_STYLES[figure.verdict])
        if section.figures:
            console.print(table)
        if section.left_out:
            console.print(f"{section.name}: left out: {section.left_out}", style="yellow", markup=False)
    console.print(tally(run.figures))


def tally(figures: Sequence[Figure]) -> str:
    counts = {verdict: sum(figure.verdict is verdict for figure in figures) for verdict in Verdict}
    return (
        "Goals: "
        + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count or not figures)
        + "."
    )


def page(run: Run, command: str) -> str:
    """`docs/benchmarks.md`."""
    return "\n".join(_page(run, command)) + "\n"


def _page(run: Run, command: str) -> Iterator[str]:
    yield "# Benchmarks"
    yield f"<!-- Made by `{command}`. Do not edit: run it again. -->"
    yield _ABOUT.format(command=command)
    yield "![Ratios to the peers, each with its goal](benchmarks.svg)\n"
    yield f"{tally(run.figures)} Measured {run.began} in {run.seconds / 60:.0f} minutes, on this machine:\n"
    yield from _rows(("what", "which"), run.machine.items())
    yield "\nWhy a goal is not met: [where the limits are](benchmark-limits.md).\n"
    for section in run.sections:
        yield f"\n## {section.name}\n{section.about}\n"
        if section.left_out:
            yield f"Left out: {section.left_out}\n"
        if section.figures:
            yield from _rows(HEADINGS, map(_row, section.figures))
            yield from _notes(section)


def _notes(section: Section) -> Iterator[str]:
    noted = [figure for figure in section.figures if figure.note]
    if noted:
        yield ""
        yield from (f"* {figure.name}: {figure.note}." for figure in noted)


def _rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"| {' | '.join('---' for _ in headings)} |"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def _row(figure: Figure) -> tuple[str, ...]:
    more = figure.relation is Relation.MORE and figure.goal is not None
    return (
        figure.name,
        str(len(figure.samples)),
        _ours(figure),
        figure.peer,
        _theirs(figure) if figure.peer else "",
        value(figure) if more else _ratio(figure),
        goal(figure),
        "" if figure.verdict is Verdict.NO_GOAL else str(figure.verdict),
    )


def _ours(figure: Figure) -> str:
    return measured(figure.ours, figure.unit, len(figure.samples))


def _theirs(figure: Figure) -> str:
    theirs = figure.theirs
    return measured(theirs, figure.unit, len(figure.peer_samples)) if theirs else f"absent: {figure.absent}"


def _ratio(figure: Figure) -> str:
    """Of the medians; in brackets the least and the most of the turns."""
    if figure.ratio is None:
        return ""
    by_turn = figure.ratios
    if by_turn is None or len(figure.samples) == 1:
        return times(figure.ratio)
    return f"{times(figure.ratio)} ({times(by_turn.least).removesuffix(' ×')}–{times(by_turn.most).removesuffix(' ×')})"


_ABOUT = """
`{command}` measures, and writes this page, its plot and `benchmarks/results/<date>.json` anew; `make bench-quick` takes less
than two minutes and writes the JSON alone; `python -m benchmarks NAME` measures one section. Needed is nothing but the
project; peers are measured where they are installed, and named as absent where not: Terraform with its built-in
`terraform_data`, docker-compose, the Docker SDK in a pool of threads, a fixed poll once a second.

Ours and the peer's are measured in the same run and by turns, so that what else the machine does falls on both alike; so
read the ratios, not the seconds. Each is a whole process from start to end, unless it says otherwise. Warmed up once. The
ratio is of the medians; in brackets the least and the most. Below 1 × we are quicker. Nothing here is asserted in
CI, where seconds mean little: counts are ([tests/budgets](../tests/budgets/README.md)).
"""
