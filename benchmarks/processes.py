"""The process backend: sandboxes created and ready, beside as many bare servers that are started and polled."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.engine import Ended, elapsed
from benchmarks.figures import Figure, Relation, percentile
from benchmarks.measure import by_turns, heard, once, reconciler

COUNT, COUNT_QUICK = 50, 15
THREADS = (4, 8, 16)
CONFIG = """version: 1
stack: bench
backends: {{local: {{type: process, isolation: {isolation}}}}}
sandboxes: {{s: {{replicas: {count}}}}}
"""


def measure(quick: bool) -> Iterator[Figure]:
    count, rounds = (COUNT_QUICK, 2) if quick else (COUNT, 5)
    threads = min(THREADS[1:2] if quick else THREADS, key=lambda threads: bare(count, threads).made)
    peer = f"bare servers, {threads} threads"
    ways: dict[str, Callable[[], Ended]] = {
        "auto": partial(ours, count, "auto"),
        "none": partial(ours, count, "none"),
        peer: partial(bare, count, threads),
    }
    took = by_turns(ways, rounds)
    made = {name: tuple(end.made for end in ends) for name, ends in took.items()}
    what = f"process: {count} created and ready"
    for isolation, goal in (("auto", 1.2), ("none", None)):
        yield Figure(
            name=f"{what}, isolation {isolation}",
            unit="s",
            samples=made[isolation],
            peer=peer,
            peer_samples=made[peer],
            relation=Relation.TIMES,
            goal=goal if count == COUNT else None,
            note="as isolated as this machine can, beside servers that are not"
            if isolation == "auto"
            else "",
        )
    yield Figure(
        name=f"{what}: a second", unit="/s", samples=tuple(count / seconds for seconds in made["auto"])
    )
    each = [end.each for end in took["auto"]]
    yield Figure(name=f"{what}: the median one", unit="s", samples=tuple(map(median, each)))
    tail = tuple(percentile(one, 99) for one in each)
    yield Figure(name=f"{what}: 99 of 100 within", unit="s", samples=tail)
    gone = tuple(end.gone for end in took["auto"])
    yield Figure(name=f"process: {count} destroyed", unit="s", samples=gone)


def ours(count: int, isolation: str) -> Ended:
    """`reconciler apply` and `destroy`, in a folder and with a state of their own."""
    with tempfile.TemporaryDirectory(prefix="rb") as name:
        folder, home = Path(name), f"{name}/xdg"
        (folder / "sandboxes.yaml").write_text(CONFIG.format(isolation=isolation, count=count))
        argv = [*reconciler(), "apply", "--auto-approve", "--json"]
        made, events = heard(argv, folder, XDG_STATE_HOME=home)
        gone = once([*reconciler(), "destroy", "--auto-approve", "-q"], folder, XDG_STATE_HOME=home)
        return Ended(made=made.wall, gone=gone.wall, each=elapsed(events))


def bare(count: int, threads: int) -> Ended:
    """They are ended by their process ids; how long that takes says nothing."""
    with tempfile.TemporaryDirectory(prefix="rb") as name:
        argv = [sys.executable, "-m", "benchmarks.bare_servers", str(count), str(threads), name]
        made, told = heard(argv)
        for pid in map(int, told.split()):
            os.kill(pid, signal.SIGKILL)
        return Ended(made=made.wall, gone=0.0)
