"""The matrix: every operation, killed at every point of it, or refused by its disk there, on every backend; and the table of
what came of that."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from msgspec import Struct, field

from tests.crash.checks import Before, mend, untold, wrong
from tests.crash.operations import Operation, prepare
from tests.crash.points import Fault, Point
from tests.crash.worlds import World

Choice = Callable[[Sequence[Point]], Sequence[Point]]


class Failure(Struct, frozen=True, kw_only=True):
    backend: str
    operation: str
    point: Point
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.operation} on {self.backend}, {self._befallen} {self.point}:",
                *(f"  {line}" for text in self.wrong for line in text.splitlines()),
                f"  again: {self.command}",
            ]
        )

    @property
    def _befallen(self) -> str:
        return "killed" if self.point.fault is Fault.KILL else "refused by the disk"

    @property
    def command(self) -> str:
        return f"python -m tests.crash matrix --backend {self.backend} --operation '{self.operation}' --point '{self.point}'"


class Row(Struct, kw_only=True):
    """One line of the table. `points` there are, `runs` were made, `missed` of them ended before their point came."""

    operation: str
    backend: str
    fault: Fault
    points: int = 0
    kinds: int = 0
    runs: int = 0
    missed: int = 0
    failures: list[Failure] = field(default_factory=list)


@contextmanager
def living(world: World) -> Iterator[World]:
    """Cleared away at the end, whatever happened."""
    try:
        yield world
    finally:
        world.clear()


class Cell(Struct, kw_only=True):
    """One operation on one backend. Use it within `living`."""

    world: World
    operation: Operation
    before: Before | None = None

    def points(self, fault: Fault = Fault.KILL) -> tuple[Point, ...]:
        """All that an undisturbed run meets. Also shows that it does what it should where nothing befalls it."""
        before = self._ready()
        ended = self.world.run(*self.operation.argv, listens=fault)
        assert ended.code in self.operation.code, (
            f"{self.operation.name} ended with {ended.code}:\n{ended.out}"
        )
        found = mend(self.world, self.operation) or wrong(self.world, self.operation, before)
        assert not found, "\n".join([f"{self.operation.name}, undisturbed:", *found])
        return ended.points

    def meet(self, point: Point) -> tuple[bool, list[str]]:
        """Whether it befell the run there, and what is wrong after the apply that follows."""
        return self._kill(point) if point.fault is Fault.KILL else self._refuse(point)

    def _kill(self, point: Point) -> tuple[bool, list[str]]:
        before = self._ready()
        ended = self.world.run(*self.operation.argv, point=point)
        if not ended.killed and ended.code not in self.operation.code:
            return False, [f"it ended with {ended.code}, and was not killed:\n{ended.out}"]
        return ended.killed, mend(self.world, self.operation) or wrong(self.world, self.operation, before)

    def _refuse(self, point: Point) -> tuple[bool, list[str]]:
        before = self._ready()
        ended = self.world.run(*self.operation.argv, point=point)
        found = mend(self.world, self.operation) or wrong(self.world, self.operation, before)
        return bool(ended.points), [*untold(self.operation, ended), *found]

    def _ready(self) -> Before:
        """The world as it is before the run: made, or made again from what was saved."""
        if self.before is not None and self.world.restorable:
            self.world.restore()
            return self.before
        self.world.clear()
        prepare(self.world, self.operation)
        self.before = Before.of(self.world)
        if self.world.restorable:  # elsewhere what runs changes its files meanwhile
            self.world.save()
        return self.before


def try_all(cell: Cell, points: Sequence[Point], row: Row) -> Row:
    for point in points:
        met, found = cell.meet(point)
        row.runs += 1
        row.missed += not met
        if found:
            row.failures.append(
                Failure(backend=row.backend, operation=row.operation, point=point, wrong=tuple(found))
            )
    return row


def a_row(
    world: World,
    operation: Operation,
    choose: Choice,
    fault: Fault = Fault.KILL,
) -> Row:
    """One line of the table; `choose` says which of all points are tried."""
    cell = Cell(world=world, operation=operation)
    row = Row(operation=operation.name, backend=world.name, fault=fault)
    with living(world):
        points = cell.points(fault)
        row.points, row.kinds = len(points), len({point.kind for point in points})
        return try_all(cell, choose(points), row)


def every(points: Sequence[Point]) -> Sequence[Point]:
    return points


def of_backends(points: Sequence[Point]) -> Sequence[Point]:
    """For where a run is dear: one point of each kind of what the backend does. The store is the same on all."""
    first = {point.kind: point for point in reversed(points) if point.is_backends}
    return [point for point in points if first.get(point.kind) == point]


class Some(Struct, frozen=True):
    """One point of each side and effect of an operation, and `more` besides: the same ones for the same seed and
    operation. Another seed takes other places and other times of the same effects. `of` says which come into question,
    `most` how many are taken."""

    seed: int
    operation: str
    more: int = 0
    most: int | None = None
    of: Choice = every

    def __call__(self, points: Sequence[Point]) -> Sequence[Point]:
        points = self.of(points)
        chance = random.Random(f"{self.seed} {self.operation}")
        groups: dict[tuple[str, str], list[Point]] = {}
        for point in points:
            groups.setdefault((point.side, point.effect), []).append(point)
        chosen = {chance.choice(group) for _, group in sorted(groups.items())}
        rest = sorted(set(points) - chosen)
        chosen |= set(chance.sample(rest, min(self.more, len(rest))))
        if self.most is not None and len(chosen) > self.most:
            chosen = set(chance.sample(sorted(chosen), self.most))
        return [point for point in points if point in chosen]


def table(rows: Sequence[Row]) -> str:
    head = ("OPERATION", "BACKEND", "FAULT", "POINTS", "KINDS", "RUNS", "NOT MET", "FAILURES")
    lines = [
        (
            r.operation,
            r.backend,
            r.fault,
            *(str(n) for n in (r.points, r.kinds, r.runs, r.missed, len(r.failures))),
        )
        for r in rows
    ]
    total = [sum(int(line[column]) for line in lines) for column in range(3, len(head))]
    lines.append(("all", "", "", *map(str, total)))
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column < 3 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, *lines)
    )
