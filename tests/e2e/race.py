"""Many `reconciler apply` of one stack at once, each with a value of its own, on the installed command and a file store.

    python -m tests.e2e.race [--runs 50]

Each run changes every sandbox, on a backend that notes each change with the pid it came from. What is checked: each run
ends with 0 or 4; no change of one run is between changes of another; each run that ended with 0 made its changes, one
version of the state came of each, in their order; the end is what the last one wanted, and a plan finds nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from msgspec import Struct

from reconciler.backends.memory import MemoryBackend
from reconciler.model.observed import SandboxInfo
from tests.support.cli import TIMEOUT, Folder

ROOT = Path(__file__).resolve().parents[2]
CHANGES = "changes"
_YAML = """\
version: 1
stack: race
variables:
  run: {{default: none}}
backends:
  local: {{type: "tests.e2e.race:Noted", path: {world}, create_seconds: 0.02}}
sandboxes:
  one:
    backend: local
    environment: {{RUN: "${{var.run}}"}}
  two:
    backend: local
    replicas: 2
    depends_on: [one]
    environment: {{RUN: "${{var.run}}"}}
"""


class Noted(MemoryBackend):
    """Notes each change, with the pid of whoever makes it, before and after it is made."""

    def create(self, *args: Any, **kwargs: Any) -> SandboxInfo:
        self._note("create")
        made = super().create(*args, **kwargs)
        self._note("created")
        return made

    def destroy(self, info: SandboxInfo) -> None:
        self._note("destroy")
        super().destroy(info)
        self._note("destroyed")

    def _note(self, what: str) -> None:
        out = os.open(Path(self.place()).parent / CHANGES, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(out, f"{os.getpid()} {what}\n".encode())
        os.close(out)


class Race(Struct, frozen=True, kw_only=True):
    """How it ended: exit code and what was said of each run, and the pids in the order of their changes."""

    ends: tuple[tuple[int, int, str], ...]  # pid, code, stderr
    order: tuple[int, ...]
    winner: str
    serials: tuple[int, ...]
    seconds: float

    def demand_order(self) -> None:
        done = {pid for pid, code, _ in self.ends if code == 0}
        assert done
        assert len(self.order) == len(set(self.order)), "changes of two runs are mixed"
        assert set(self.order) == done, (
            "a run that was turned away changed something, or one that was not did not"
        )
        newest = 1 + len(self.order)  # the first run writes twice: its lineage, and its end
        kept = range(newest, newest - len(self.serials), -1)
        assert self.serials == tuple(kept), "a version of the state is missing"
        for _, code, said in self.ends:
            if code == 4:
                for word in ("is locked by", "(pid ", ", apply)", "since", "s ago)", "its lease lasts"):
                    assert word in said, f"{word!r} is missing in: {said}"

    def text(self) -> str:
        done = sum(code == 0 for _, code, _ in self.ends)
        return (
            f"{len(self.ends)} applies at once: {done} ended with 0, {len(self.ends) - done} with 4, 0 overlaps, "
            f"in {self.seconds:.1f} s; the state is of the last one\n"
        )


def race(home: Path, *, runs: int, lock_timeout: str) -> Race:
    """All of them to their end, on a new stack in the folder."""
    folder = Folder(home, environ={"PYTHONPATH": str(ROOT)})
    folder.write(_YAML.format(world=home / "world"))
    started = time.monotonic()
    processes = [
        folder.start("apply", "--auto-approve", "--lock-timeout", lock_timeout, "--var", f"run=r{number}")
        for number in range(runs)
    ]
    try:
        ends = []
        for process in processes:
            _, said = process.communicate(timeout=5 * TIMEOUT)
            ends.append((process.pid, process.returncode, said))
    finally:
        for process in processes:
            process.kill()
            process.wait()
    seconds = time.monotonic() - started
    assert {code for _, code, _ in ends} <= {0, 4}, "\n".join(f"{code}: {said}" for _, code, said in ends)
    order = tuple(pid for pid, _ in groupby(int(line.split()[0]) for line in _lines(home / CHANGES)))
    records = folder.state()["sandboxes"]
    [winner] = {record["spec"]["environment.RUN"] for record in _records(records)}
    assert winner == f"r{[process.pid for process in processes].index(order[-1])}"
    folder("plan", "--detailed-exitcode", "--var", f"run={winner}")
    versions = json.loads(folder("state", "history", "--json").stdout)
    return Race(
        ends=tuple(ends),
        order=order,
        winner=winner,
        serials=tuple(version["serial"] for version in versions["versions"]),
        seconds=seconds,
    )


def _records(records: Any) -> Sequence[Any]:
    found = list(records.values()) if isinstance(records, dict) else list(records)
    assert len(found) == 3
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.e2e.race")
    options.add_argument("--runs", type=int, default=50)
    given = options.parse_args()
    for lock_timeout in ("10m", "0s"):
        with tempfile.TemporaryDirectory() as folder:
            ended = race(Path(folder), runs=given.runs, lock_timeout=lock_timeout)
        ended.demand_order()
        print(f"--lock-timeout {lock_timeout}: {ended.text()}", end="")


if __name__ == "__main__":
    main()
