"""Apply on the memory backend: a fleet that takes its time beside what arithmetic allows; and how applying grows."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.engine import elapsed
from benchmarks.figures import Figure, Relation, percentile
from benchmarks.measure import by_turns, heard, reconciler
from benchmarks.plans import growth
from benchmarks.projects import replicas

CREATE, READY, LANES = 0.030, 0.5, 64  # seconds, seconds, calls in flight
COUNT, COUNT_QUICK = 5000, 1000
SIZES, SIZES_QUICK = (1000, 3000, 10_000), (1000, 3000)
IDEAL = "the arithmetic"


def measure(quick: bool) -> Iterator[Figure]:
    yield from _slow_fleet(COUNT_QUICK if quick else COUNT, 1 if quick else 3)
    yield from _sizes(SIZES_QUICK if quick else SIZES, 1 if quick else 3)


def _slow_fleet(count: int, rounds: int) -> Iterator[Figure]:
    """Create takes 30 ms, readiness comes 0.5 s later, 64 are in flight. The ideal: all creates back to back in 64
    lanes, plus the readiness of the last."""
    ideal = count * CREATE / LANES + READY
    took = [
        json.loads(heard([sys.executable, "-m", "benchmarks.fleet", str(count)])[1]) for _ in range(rounds)
    ]
    yield Figure(
        name=f"memory: {count:,} slow ones created and ready",
        unit="s",
        samples=tuple(each["wall"] for each in took),
        peer=IDEAL,
        peer_samples=(ideal,) * rounds,
        relation=Relation.TIMES,
        goal=1.3 if count == COUNT else None,
        note=f"each created in {CREATE * 1000:.0f} ms, {LANES} at a time, and ready {READY:g} s later: what is beside is the "
        "least that this can take",
    )
    processor = tuple(each["cpu"] for each in took)
    yield Figure(name=f"memory: {count:,} slow ones: processor time", unit="s", samples=processor)


def _sizes(sizes: tuple[int, ...], rounds: int) -> Iterator[Figure]:
    """`apply` of sandboxes that are there at once: what is left is our own work."""
    one = by_turns({"one": partial(_applied, 1)}, 3)["one"]
    costs = {}
    for count in sizes:
        took = by_turns({"all": partial(_applied, count)}, rounds, warmup=0)["all"]
        costs[count] = median(seconds for _, seconds, _ in took)
        what = f"memory: `apply` of {count:,}"
        yield Figure(name=what, unit="s", samples=tuple(seconds for seconds, _, _ in took))
        yield Figure(name=f"{what}: a second", unit="/s", samples=tuple(count / each[0] for each in took))
        tail = tuple(percentile(each[2], 99) for each in took)
        yield Figure(name=f"{what}: 99 of 100 within", unit="s", samples=tail)
    yield from growth("`apply`", costs, median(seconds for _, seconds, _ in one))


def _applied(count: int) -> tuple[float, float, tuple[float, ...]]:
    """Wall and processor seconds, and seconds of each step."""
    with tempfile.TemporaryDirectory(prefix="rb") as name:
        replicas(Path(name), count)
        cost, events = heard([*reconciler(), "apply", "--auto-approve", "--json"], Path(name))
        return cost.wall, cost.cpu, elapsed(events)


def main(count: int) -> None:
    """In a process of its own: `python -m benchmarks.fleet 5000` prints seconds as JSON."""
    from benchmarks.fleets import STACK, bring_up, fleet
    from reconciler.backends.memory import MemoryBackend
    from reconciler.stores.memory import MemoryStore

    backend = MemoryBackend(STACK, create_seconds=CREATE, ready_seconds=READY)
    _, took, processor = bring_up(fleet(count, MemoryStore(STACK), backend), parallelism=LANES)
    print(json.dumps({"wall": took, "cpu": processor}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
