"""What it costs that nothing is lost: journal and state as a part of `apply`, beside bare writes; the lock; the events."""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.figures import Figure, Relation
from benchmarks.fleets import STACK, TimedStore, bring_up, fleet
from benchmarks.measure import by_turns, heard, once, reconciler, wall
from benchmarks.projects import replicas
from reconciler.backends.memory import MemoryBackend
from reconciler.stores.base import Lease
from reconciler.stores.file.store import FileStore

COUNT = 1000
SHARE = 0.15
_worlds = itertools.count()


def measure(quick: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(prefix="rb") as name:
        folder = Path(name)
        shares, store = _shares(folder, 3 if quick else 9)
        yield Figure(
            name=f"journal and state as a part of `apply` of {COUNT:,}",
            unit="",
            samples=_shares_of_the_command(folder, 3 if quick else 9),
            goal=SHARE,
            note="seconds in the store over seconds of the whole command, on the memory backend",
        )
        yield Figure(
            name=f"journal and state as a part of the engine's apply of {COUNT:,}",
            unit="",
            samples=shares,
            note="without start, configuration, plan and output",
        )
        yield from _beside_bare_writes(folder, store, 5 if quick else 25)
        yield _lock(folder, 20 if quick else 100)
    yield _events(2 if quick else 5)


def _shares(folder: Path, rounds: int) -> tuple[tuple[float, ...], TimedStore]:
    shares = []
    for turn in range(1 + rounds):
        store = TimedStore(folder / f"state-{turn}")
        _, took, _ = bring_up(fleet(COUNT, store, MemoryBackend(f"journal-{next(_worlds)}")))
        shares.append(store.seconds / took)
    return tuple(shares[1:]), store


def _shares_of_the_command(folder: Path, rounds: int) -> tuple[float, ...]:
    shares = []
    for turn in range(1 + rounds):
        place = folder / f"command-{turn}"
        place.mkdir()
        replicas(place, COUNT)
        root = str(Path(__file__).parents[1])
        cost, told = heard([sys.executable, "-m", "benchmarks.timed_apply"], place, PYTHONPATH=root)
        shares.append(float(told.split()[-1]) / cost.wall)
    return tuple(shares[1:])


def _beside_bare_writes(folder: Path, filled: TimedStore, rounds: int) -> Iterator[Figure]:
    """The same bytes put on the same disk as little as it takes that they are there after a crash."""
    store, state = FileStore(STACK, path=folder / "state"), filled.state
    assert state is not None
    entries = filled.entries
    with store.lock("benchmark") as lease:
        state = store.write(lease, state)  # a journal lies beside a state
        store.append(lease, entries)
        journal = store.directory / f"{STACK}.journal.jsonl"
        lines = journal.read_bytes()
        state = store.write(lease, state)
        snapshot = (store.directory / f"{STACK}.json").read_bytes()

        def write() -> None:
            nonlocal state
            assert state is not None
            state = store.write(lease, state)

        ways = {
            "append": partial(_seconds, lambda: store.append(lease, entries)),
            "bare append": partial(_seconds, lambda: _append(folder / "bare.jsonl", lines)),
            "write": partial(_seconds, write),
            "bare write": partial(_seconds, lambda: _replace(folder / "bare.json", snapshot)),
        }
        took = by_turns(ways, rounds)
    for what, peer, name in (
        ("append", "bare append", f"{len(entries)} journal entries made durable"),
        ("write", "bare write", f"the state of {COUNT:,} written"),
    ):
        yield Figure(
            name=name,
            unit="s",
            samples=tuple(took[what]),
            peer=f"{peer} and fsync",
            peer_samples=tuple(took[peer]),
            relation=Relation.TIMES,
        )


def _append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _lock(folder: Path, rounds: int) -> Figure:
    """Taken and given back, in the way of every command that changes something."""
    store = FileStore(STACK, path=folder / "lock")

    def round_trip() -> None:
        lease: Lease = store.lock("benchmark")
        lease.check()
        lease.release()

    took = by_turns({"lock": partial(_seconds, round_trip)}, rounds)["lock"]
    return Figure(name="the lock taken, checked, given back", unit="s", samples=tuple(took))


def _events(rounds: int) -> Figure:
    """`apply --json` tells every step; `-q` tells nothing. Each on a folder of its own, made anew each time."""
    said = {"--json": ["apply", "--auto-approve", "--json"], "-q": ["apply", "--auto-approve", "-q"]}

    def applied(argv: list[str]) -> float:
        with tempfile.TemporaryDirectory(prefix="rb") as name:
            replicas(Path(name), COUNT)
            return wall([once([*reconciler(), *argv], Path(name))])[0]

    took = by_turns({name: partial(applied, argv) for name, argv in said.items()}, rounds)
    return Figure(
        name=f"`apply --json` of {COUNT:,}, all events written",
        unit="s",
        samples=tuple(took["--json"]),
        peer="`apply -q`",
        peer_samples=tuple(took["-q"]),
        relation=Relation.TIMES,
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
