"""Plans that change nothing, of 10 to 10,000 sandboxes written in four ways; beside Terraform's; and how they grow."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from statistics import median

from benchmarks.beside_terraform import no_op
from benchmarks.figures import Figure, Relation
from benchmarks.growth import exponent
from benchmarks.measure import by_turns, cpu, once, peak, reconciler, wall
from benchmarks.projects import PLAN, SHAPES, applied

SIZES, SIZES_QUICK = (10, 100, 1000, 3000, 10_000), (10, 1000, 2000)
MOST = {("replicas", 10_000): 1.5, ("literal YAML", 1000): 0.8}  # seconds
MOST_MB = {("replicas", 10_000): 150.0}
GROWTH = 1.1
# (our way, Terraform's, how many, at most so many times, rounds, also when it must be quick)
BESIDE = (
    ("replicas", "count", 100, 1.0, 7, True),
    ("for_each", "for_each", 100, 1.0, 7, True),
    ("replicas", "count", 1000, 1.0, 3, False),
    ("for_each", "for_each", 1000, 0.01, 3, False),
)


def measure(quick: bool) -> Iterator[Figure]:
    for ours, theirs, count, goal, rounds, always in BESIDE:
        if always or not quick:
            beside = _beside_terraform(ours, theirs, count, goal, 3 if quick else rounds)
            yield beside
            if goal < 1 and beside.peer_samples:
                yield _limit(beside)
    for shape in SHAPES:
        yield from _sizes(shape, SIZES_QUICK if quick else SIZES, 2 if quick else 3)


def _beside_terraform(ours: str, theirs: str, count: int, goal: float, rounds: int) -> Figure:
    with applied(ours, count) as folder:
        name = f"no-op plan of {count:,}, {ours} beside {theirs}"
        return no_op(folder, theirs, count, name=name, goal=goal, rounds=rounds)


def _limit(beside: Figure) -> Figure:
    """What no plan in Python can go below: the interpreter, and the libraries that it reads a command and a state with."""
    libraries = "import click, msgspec, pathlib"
    took = by_turns({"bare": partial(once, [sys.executable, "-c", libraries])}, 5)["bare"]
    return Figure(
        name="the limit: Python that imports the libraries of a plan, and ends",
        unit="s",
        samples=wall(took),
        peer=beside.peer,
        peer_samples=(median(beside.peer_samples),) * len(took),
        relation=Relation.TIMES,
        note=f"{libraries}",
    )


def _sizes(shape: str, sizes: tuple[int, ...], rounds: int) -> Iterator[Figure]:
    """One after the other, the plan of one sandbox, which is the constant, among them by turns."""
    argv = [*reconciler(), *PLAN]
    constant: list[float] = []
    costs: dict[int, float] = {}
    with applied(shape, 1) as one:
        for count in sizes:
            with applied(shape, count) as folder:
                ways = {"one": partial(once, argv, one), "all": partial(once, argv, folder)}
                took = by_turns(ways, rounds, warmup=0)  # the apply before was a warm-up
            constant += cpu(took["one"])
            what = f"no-op plan of {count:,}, {shape}"
            yield Figure(name=what, unit="s", samples=wall(took["all"]), goal=MOST.get((shape, count)))
            yield Figure(
                name=f"{what}: peak memory",
                unit="MB",
                samples=peak(took["all"]),
                goal=MOST_MB.get((shape, count)),
            )
            costs[count] = median(cpu(took["all"]))
    yield from growth(f"no-op plan, {shape}", costs, median(constant))


def growth(what: str, costs: Mapping[int, float], constant: float) -> Iterator[Figure]:
    """Fitted over the sizes whose cost is well above the constant, and over the largest two in any case: below that,
    what is left of the cost is mostly noise. No figure where noise is all there is."""
    largest = sorted(costs)[-2:]
    fitted = {size: cost for size, cost in costs.items() if cost > 1.5 * constant or size in largest}
    try:
        found = exponent(fitted, constant)
    except ValueError:
        return
    yield Figure(
        name=f"growth of {what}: exponent",
        unit="",
        samples=(found,),
        goal=GROWTH,
        note=f"processor time at {', '.join(f'{size:,}' for size in fitted)}, "
        f"less {constant * 1000:.0f} ms of a run with one",
    )
