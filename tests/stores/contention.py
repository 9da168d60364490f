"""Many processes contend for one lock: no two inside at once, no update lost, nobody starved; and what waiting costs.

    python -m tests.stores.contention [--processes 50] [--rounds 20] [--open MODULE:FUNCTION] [--where TEXT]

`--open` names a function that takes `--where` (a folder, an address) and returns a new `Store` of an empty state; it is
called in each process. Each of them, each round: takes the lock, waiting for it; reads; notes a begin and an end in the
journal; writes the state with a counter one higher. Its evidence is the fence, in the state and in a log beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from reconciler.model.desired import Address
from reconciler.model.outcome import Intent, Operation, Outcome
from reconciler.model.state import State
from reconciler.stores.base import Lease, Store
from reconciler.testing.store_conformance import STACK, a_state

TURN = Address("turn")
FILE_STORE = "tests.stores.contention:a_file_store"
_PATIENCE = 600.0  # seconds a process waits for its turn


def a_file_store(where: str) -> Store:
    from reconciler.stores.file import FileStore

    return FileStore(STACK, path=where, environ={})


class Turn(Struct, frozen=True, kw_only=True):
    """One time inside, as its process saw it: the fence before ours by the state, ours, and seconds waited."""

    before: int
    fence: int
    waited: float


class Contest(Struct, frozen=True, kw_only=True):
    """What came of it. `log` are the lines (fence, "begin" or "end") in the order of their writing; `idle` is the
    processor time of all processes for their waiting, `working` for what they did inside; `seconds` the whole."""

    processes: int
    rounds: int
    turns: tuple[Turn, ...]
    log: tuple[tuple[int, str], ...]
    counter: int
    serial: int
    idle: float
    working: float
    seconds: float

    def demand_order(self) -> None:
        """Fails unless each had the lock alone, and nothing that one did was lost on the next."""
        expected = self.processes * self.rounds
        begun = [fence for fence, what in self.log if what == "begin"]
        assert len(begun) == expected
        assert begun == sorted(set(begun)), "a fence did not grow"
        pairs = [line for fence in begun for line in ((fence, "begin"), (fence, "end"))]
        assert list(self.log) == pairs, "two were inside at once"
        assert {turn.fence for turn in self.turns} == set(begun)
        assert {turn.fence: turn.before for turn in self.turns} == dict(
            zip(begun, [0, *begun], strict=False)
        ), "one did not see what the one before had written"
        assert self.counter == expected, "an update was lost"
        assert self.serial == 1 + expected, "a snapshot was lost"

    def text(self) -> str:
        waits = sorted(turn.waited for turn in self.turns)
        share = 100 * self.idle / sum(waits) if sum(waits) else 0.0
        return (
            f"{self.processes} processes × {self.rounds} rounds: {len(self.turns)} turns, 0 overlaps, 0 lost updates, "
            f"counter {self.counter}\n"
            f"  total    {self.seconds:.1f} s, {1000 * self.seconds / len(waits):.1f} ms a turn\n"
            f"  waits    median {statistics.median(waits):.2f} s, 95 % {waits[int(0.95 * (len(waits) - 1))]:.2f} s, "
            f"longest {waits[-1]:.2f} s\n"
            f"  waiting  {share:.2f} % of one processor for each that waits\n"
        )


def contend(
    where: str, *, processes: int, rounds: int, open_by: str = FILE_STORE, log: Path | None = None
) -> Contest:
    """Run it to the end. `log` is a file to be made. Raises CalledProcessError when a process fails."""
    made = log or Path(tempfile.mkdtemp(prefix="contention-")) / "log"
    command = [sys.executable, "-m", "tests.stores.contention", "--where", where, "--open", open_by]
    children = [
        subprocess.Popen(
            [*command, "--rounds", str(rounds), "--take-part", str(made)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    try:
        _wait_for(lambda: made.exists() and len(made.read_text().splitlines()) == processes)
        ready = len(made.read_text())
        started = time.monotonic()
        made.with_suffix(".go").touch()
        answers = []
        for child in children:
            told, _ = child.communicate(timeout=_PATIENCE)
            if child.returncode:
                raise subprocess.CalledProcessError(child.returncode, child.args)
            answers.append(json.loads(told))
        seconds = time.monotonic() - started
    finally:
        for child in children:
            child.kill()
            child.wait()
    state = _opened(open_by, where).read()
    assert state is not None
    lines = [line.split() for line in made.read_text()[ready:].splitlines()]
    return Contest(
        processes=processes,
        rounds=rounds,
        turns=tuple(Turn(**turn) for answer in answers for turn in answer["turns"]),
        log=tuple((int(fence), what) for fence, what in lines),
        counter=int(state.outputs["counter"]),
        serial=state.serial,
        idle=sum(answer["idle"] for answer in answers),
        working=sum(answer["working"] for answer in answers),
        seconds=seconds,
    )


def _wait_for(is_so: Callable[[], bool]) -> None:
    patience_ends = time.monotonic() + 120.0
    while not is_so():
        assert time.monotonic() < patience_ends, "the processes did not start"
        time.sleep(0.01)


def _opened(open_by: str, where: str) -> Store:
    module, _, function = open_by.partition(":")
    store = getattr(import_module(module), function)(where)
    assert isinstance(store, Store)
    return store


# --- what each process does


def take_part(open_by: str, where: str, rounds: int, log: Path) -> None:
    """All rounds of one process; prints its turns and its processor time as JSON."""
    store = _opened(open_by, where)
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(out, b"ready\n")
    _wait_for(log.with_suffix(".go").exists)
    turns: list[Turn] = []
    idle = working = 0.0
    for _ in range(rounds):
        at, used = time.monotonic(), _processor_time()
        with store.lock("apply", timeout=_PATIENCE) as lease:
            waited = time.monotonic() - at
            idle, used = idle + _processor_time() - used, _processor_time()
            os.write(out, f"{lease.info.fence} begin\n".encode())  # one write, appended whole
            before = _inside(store, lease)
            os.write(out, f"{lease.info.fence} end\n".encode())
            turns.append(Turn(before=before, fence=lease.info.fence, waited=waited))
        working += _processor_time() - used
    store.close()
    told = [{"before": t.before, "fence": t.fence, "waited": t.waited} for t in turns]
    print(json.dumps({"turns": told, "idle": idle, "working": working}))


def _inside(store: Store, lease: Lease) -> int:
    """One turn with the lock; the fence of the turn before, as the state tells it."""
    fence = lease.info.fence
    state = store.read()
    if state is None:  # the very first: its lineage comes before anything is noted
        state = store.write(lease, replace(a_state(), outputs={"counter": "0"}))
    before = state.sandboxes.get(TURN)
    where = {"address": TURN, "sandbox_id": f"turn-{fence}"}
    intent = Intent(at=1.0, operation=Operation.CREATE, backend="main", generation=fence, spec={}, **where)  # type: ignore[arg-type]
    store.append(lease, [intent])
    _demand_last(store.read(), fence)
    store.append(lease, [Outcome(at=2.0, operation=Operation.CREATE, **where)])  # type: ignore[arg-type]
    noted = _demand_last(store.read(), fence)
    store.write(lease, replace(noted, outputs={"counter": str(int(state.outputs["counter"]) + 1)}))
    return 0 if before is None else before.generation


def _demand_last(state: State | None, fence: int) -> State:
    assert state is not None
    assert state.sandboxes[TURN].generation == fence, "somebody else's entry is in the journal"
    return state


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.stores.contention", description=__doc__)
    options.add_argument("--processes", type=int, default=50)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--open", default=FILE_STORE, metavar="MODULE:FUNCTION")
    options.add_argument("--where", default="")
    options.add_argument("--take-part", type=Path, metavar="LOG", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.take_part:
        take_part(given.open, given.where, given.rounds, given.take_part)
        return
    with tempfile.TemporaryDirectory() as folder:
        where = given.where or str(Path(folder) / "state")
        contest = contend(
            where,
            processes=given.processes,
            rounds=given.rounds,
            open_by=given.open,
            log=Path(folder) / "log",
        )
    contest.demand_order()
    print(contest.text(), end="")


if __name__ == "__main__":
    main()
