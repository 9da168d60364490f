"""A watch for a chosen time beside sandboxes that are killed every few seconds: whether all came back, and what it cost.

`python -m tests.e2e.watch_soak --seconds 600`; `make watch-soak`.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.cli import Folder, folder
from tests.support.watching import Watching, watching

COUNT = 12
TEXT = """version: 1
stack: soak
sandboxes:
  web: {{replicas: {count}}}
"""
EVERY = (0.5, 4.0)  # seconds between two kills
SETTLES = 20  # kills, after which its size is first taken: what is only loaded once is there by then


@dataclass
class Size:
    """Of the watch's process: memory in KiB, threads, file handles."""

    memory: int
    threads: int
    handles: int

    @classmethod
    def of(cls, pid: int) -> Size:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        handles = len(os.listdir(f"/proc/{pid}/fd"))
        return cls(int(fields["VmRSS"].split()[0]), int(fields["Threads"]), handles)


@dataclass
class Soak:
    kills: int = 0
    took: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    curve: list[tuple[int, Size]] = field(default_factory=list)  # after so many kills


def soak(here: Folder, seconds: float, chance: random.Random, every: tuple[float, float] = EVERY) -> Soak:
    """Kills one after the other, each when all are well again."""
    made = Soak()
    here.write(TEXT.format(count=COUNT))
    here("apply", "--auto-approve")
    before = here.sandboxes()
    # so few kills of so few sandboxes in so short a time must not look like flapping
    with watching(here, "--give-up", "1000/1h", "--longest-pause", "1s", interval="5s") as watch:
        ends = time.monotonic() + seconds
        samples = SETTLES
        while time.monotonic() < ends:
            time.sleep(chance.uniform(*every))
            _kill(here, watch, chance.choice(before), made)
            if made.kills == samples:
                made.curve.append((made.kills, Size.of(watch.process.pid)))
                samples = int(samples * 1.5)
        made.curve.append((made.kills, Size.of(watch.process.pid)))
        made.problems += [f"failed: {told}" for told in watch.of("correction", ok=False)]
        opened, closed = len(watch.of("incident_opened")), len(watch.of("incident_closed"))
        made.problems += [] if opened == closed == made.kills else [f"{opened} incidents, {closed} over"]
    made.problems += [] if here.sandboxes() == before else [f"{here.sandboxes()} is not {before}"]
    made.problems += [] if "No drift" in here("drift").stdout else ["something drifted in the end"]
    return made


def _kill(here: Folder, watch: Watching, victim: str, made: Soak) -> None:
    began, done = time.monotonic(), len(watch.of("correction"))
    here.kill(victim)
    made.kills += 1
    watch.until("incident_closed", count=made.kills)
    made.took += [told["seconds"] for told in watch.of("correction")[done:]]
    if time.monotonic() - began > 60:
        made.problems.append(f"{victim} took {time.monotonic() - began:.0f} s")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=600.0)
    options.add_argument(
        "--every",
        type=float,
        nargs=2,
        default=EVERY,
        metavar="SECONDS",
        help="between two kills, from and to",
    )
    options.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="rw") as name, folder(Path(name)) as here:
        made = soak(here, given.seconds, random.Random(given.seed), tuple(given.every))
    print(f"{made.kills} kills of {COUNT} sandboxes in {given.seconds:.0f} s, seed {given.seed}")
    print(
        f"{len(made.took)} corrections, seconds: median {statistics.median(made.took):.3f}, most {max(made.took):.3f}"
    )
    print("     kills  memory (KiB)   threads   handles")
    for kills, size in made.curve:
        print(f"{kills:10} {size.memory:13} {size.threads:9} {size.handles:9}")
    for problem in made.problems:
        print(f"problem: {problem}")
    print(f"problems: {len(made.problems)}")
    return int(bool(made.problems))


if __name__ == "__main__":
    sys.exit(main())
