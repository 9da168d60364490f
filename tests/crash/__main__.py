"""`python -m tests.crash matrix` and `python -m tests.crash soak`: what `make crash-matrix` and `make soak` run."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from tests.crash.matrix import Row, Some, a_row, every, of_backends, table
from tests.crash.operations import ALL, BY_NAME, OPERATIONS
from tests.crash.places import lacks, opened
from tests.crash.points import Fault, Point
from tests.crash.runs import runs
from tests.crash.worlds import World
from tests.support.required import IN_CI


def main(argv: Sequence[str]) -> int:
    options = _options(argv)
    if options.what == "soak":
        from tests.crash.soak import soak

        return soak(backend=options.backend[0], seconds=options.seconds, seed=options.seed)
    return _matrix(options)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("what", choices=["matrix", "soak"])
    parser.add_argument("--backend", action="append", choices=ALL, default=[])
    parser.add_argument("--operation", action="append", choices=sorted(BY_NAME), default=[])
    parser.add_argument("--fault", action="append", type=Fault, choices=list(Fault), default=[])
    parser.add_argument(
        "--point", action="append", type=Point.parse, default=[], help="as a failure names it"
    )
    parser.add_argument(
        "--cut", type=int, metavar="MORE", help="one point of each kind of effect, and MORE besides"
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args(argv)
    options.backend = options.backend or ["process"] if options.what == "soak" else options.backend
    return options


def _matrix(options: argparse.Namespace) -> int:
    began = time.monotonic()
    rows: list[Row] = []
    left_out = False
    with ExitStack() as ends:
        home = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="rc-")))
        run = ends.enter_context(runs())
        for backend in options.backend or ALL:
            lacking = lacks(backend)
            if lacking:
                print(f"{backend}: left out: {lacking}", file=sys.stderr)
                left_out = True
                continue
            world = ends.enter_context(opened(backend, home / backend, run))
            rows += _rows(world, options)
    print(table(rows))
    print(f"seed {options.seed}, {time.monotonic() - began:.0f} s")
    return int(any(row.failures for row in rows) or (left_out and (IN_CI or not rows)))


def _rows(world: World, options: argparse.Namespace) -> Iterator[Row]:
    """Of one backend, each told as soon as it is there."""
    for operation, fault in product(OPERATIONS, _faults(options)):
        if world.name not in operation.on or operation.name not in (options.operation or BY_NAME):
            continue
        points = [point for point in options.point if point.fault is fault]
        choose = of_backends if world.name in ("docker", "remote") else every
        if options.cut is not None:
            choose = Some(options.seed, operation.name, options.cut)
        row = a_row(world, operation, (lambda _, chosen=points: chosen) if points else choose, fault)
        told = f"{row.backend}: {row.operation}, {row.fault}: {row.runs} of {row.points} points"
        print("\n".join([told, *map(str, row.failures)]), file=sys.stderr, flush=True)
        yield row


def _faults(options: argparse.Namespace) -> list[Fault]:
    """Those of the points, where some are asked for."""
    chosen = {point.fault for point in options.point} or set(options.fault or Fault)
    return [fault for fault in Fault if fault in chosen]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
