"""Docker: containers created and ready, planned again, destroyed; beside the plain SDK at its best and docker-compose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median

from benchmarks import machine
from benchmarks.engine import Ended, Place, compose, compose_command, lacks, ours, place, sdk
from benchmarks.figures import Figure, Relation, percentile
from benchmarks.measure import Cost, by_turns, once, reconciler, wall
from benchmarks.projects import PLAN

__all__ = ["lacks", "measure"]

COUNT, COUNT_QUICK = 40, 10
THREADS = (4, 8, 16, 32)
COMPOSE = "docker-compose"


def measure(quick: bool) -> Iterator[Figure]:
    count = COUNT_QUICK if quick else COUNT
    with place() as where:
        best = _best(where, count, THREADS[1:3] if quick else THREADS)
        yield from _made_and_gone(where, count, best, 2 if quick else 4)
        yield from _planned_again(where, count, 3 if quick else 7)


def _best(where: Place, count: int, choices: Sequence[int]) -> int:
    """How many threads the SDK is quickest with on this engine, by one run each; the first run of all warms up."""
    took: dict[int, float] = {}
    for threads in (choices[0], *choices):
        took[threads] = sdk(where, count, threads).made
    return min(took, key=lambda threads: took[threads])


def _made_and_gone(where: Place, count: int, threads: int, rounds: int) -> Iterator[Figure]:
    script = f"the SDK, {threads} threads"
    ways: dict[str, Callable[[], Ended]] = {"ours": partial(ours, where, count)}
    ways[script] = partial(sdk, where, count, threads)
    if machine.docker_compose():
        ways[COMPOSE] = partial(compose, where, count)
    took = by_turns(ways, rounds, warmup=0)
    made = {name: tuple(end.made for end in ends) for name, ends in took.items()}
    gone = {name: tuple(end.gone for end in ends) for name, ends in took.items()}
    what, told = f"docker: {count} created and ready", count == COUNT  # the goals are about so many
    yield _beside(what, made, script, 1.05 if told else None)
    yield _beside(what, made, COMPOSE, 0.6 if told else None)
    yield _beside(f"the limit: {count} made by the SDK alone", {**made, "ours": made[script]}, COMPOSE, None)
    yield Figure(
        name=f"{what}: a second", unit="/s", samples=tuple(count / seconds for seconds in made["ours"])
    )
    each = [end.each for end in took["ours"]]
    yield Figure(name=f"{what}: the median one", unit="s", samples=tuple(map(median, each)))
    tail = tuple(percentile(one, 99) for one in each)
    yield Figure(name=f"{what}: 99 of 100 within", unit="s", samples=tail)
    yield _beside(f"docker: {count} destroyed", gone, script, 1.1 if told else None)
    yield _beside(f"docker: {count} destroyed", gone, COMPOSE, None)


def _planned_again(where: Place, count: int, rounds: int) -> Iterator[Figure]:
    """All fleets are up: ours is planned, and the peer's brought up again."""
    plain = where.configure(count, limits=False)
    limited = where.configure(count, stack=f"{where.label}-2")
    for folder in (plain, limited):
        once([*reconciler(), "apply", "--auto-approve", "-q"], folder)
    ways: dict[str, Callable[[], Cost]] = {
        "ours": partial(once, [*reconciler(), *PLAN], plain),
        "with limits": partial(once, [*reconciler(), *PLAN], limited),
    }
    if machine.docker_compose():
        folder = where.compose(count)
        once(compose_command(where, "up", "-d"), folder)
        ways[COMPOSE] = partial(once, compose_command(where, "up", "-d"), folder)
    took = {name: wall(costs) for name, costs in by_turns(ways, rounds).items()}
    yield _beside(f"docker: no-op plan of {count}", took, COMPOSE, 0.2 if count == COUNT else None)
    limits = {**took, "ours": took["with limits"]}
    yield _beside(f"docker: no-op plan of {count} with limits", limits, COMPOSE, None)
    where.clear()


def _beside(what: str, took: dict[str, tuple[float, ...]], peer: str, goal: float | None) -> Figure:
    return Figure(
        name=what,
        unit="s",
        samples=took["ours"],
        peer=peer,
        peer_samples=took.get(peer, ()),
        absent="" if peer in took else machine.ABSENT,
        relation=Relation.TIMES,
        goal=goal,
    )
