"""The process backend: sandboxes created and ready, beside as many bare servers that are started and polled.

The second peer is the same servers, each behind the bubblewrap that ours is behind: what the isolation itself takes, which
nobody who wants it goes without.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.bare_servers import PLAIN
from benchmarks.engine import Ended, elapsed
from benchmarks.figures import Figure, Relation, percentile
from benchmarks.measure import by_turns, heard, once, reconciler
from reconciler.backends.process.isolation import HOME, SERVER, Jail, find_bubblewrap, jailed, python

COUNT, COUNT_QUICK = 50, 15
THREADS = (4, 8, 16)
CONFIG = """version: 1
stack: bench
backends: {{local: {{type: process, isolation: {isolation}}}}}
sandboxes: {{s: {{replicas: {count}}}}}
"""
BARE, BEHIND = "bare servers", "bare servers behind bubblewrap"


def measure(quick: bool) -> Iterator[Figure]:
    count, rounds = (COUNT_QUICK, 2) if quick else (COUNT, 5)
    behind = _behind_bubblewrap()
    threads = min(THREADS[1:2] if quick else THREADS, key=lambda threads: bare(count, threads, PLAIN).made)
    ways: dict[str, Callable[[], Ended]] = {
        "auto": partial(ours, count, "auto"),
        "none": partial(ours, count, "none"),
        BARE: partial(bare, count, threads, PLAIN),
    }
    if behind:
        ways[BEHIND] = partial(bare, count, threads, behind)
    took = by_turns(ways, rounds)
    made = {name: tuple(end.made for end in ends) for name, ends in took.items()}
    what = f"process: {count} created and ready"
    beside = (
        ("isolation auto", "auto", BARE, 1.2 if count == COUNT else None, "beside what is not isolated"),
        ("isolation auto beside the same", "auto", BEHIND, None, ""),
        ("isolation none", "none", BARE, None, ""),
    )
    for name, isolation, peer, goal, note in beside:
        yield Figure(
            name=f"{what}, {name}",
            unit="s",
            samples=made[isolation],
            peer=f"{peer}, {threads} threads",
            peer_samples=made.get(peer, ()),
            absent="" if peer in made else find_bubblewrap().detail,
            relation=Relation.TIMES,
            goal=goal,
            note=note,
        )
    if behind:
        yield Figure(
            name=f"the limit: {count} bare servers behind bubblewrap",
            unit="s",
            samples=made[BEHIND],
            peer=f"{BARE}, {threads} threads",
            peer_samples=made[BARE],
            relation=Relation.TIMES,
            note="nothing is kept, probed for long, or watched over here: what isolation itself takes",
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


def bare(count: int, threads: int, words: Sequence[str]) -> Ended:
    """They are ended by their process ids; how long that takes says nothing."""
    with tempfile.TemporaryDirectory(prefix="rb") as name:
        argv = [sys.executable, "-m", "benchmarks.bare_servers", str(count), str(threads), name, *words]
        made, told = heard(argv)
        for pid in map(int, told.split()):
            os.kill(pid, signal.SIGKILL)
        return Ended(made=made.wall, gone=0.0)


def _behind_bubblewrap() -> Sequence[str]:
    """The words of a server behind it, as the backend starts one; none where it does not work."""
    found = find_bubblewrap()
    command = [python(), "-I", "-S", f"{SERVER}/__main__.py", "--listen-fd", "{fd}", "--home", HOME]
    if not found.path:
        return ()
    return [str(word) for word in jailed(found.path, Jail(workspace="{home}"), command)]
