"""A container that is killed comes back by `watch`: by events, and by the clock; beside making one with the plain SDK."""

from __future__ import annotations

import contextlib
import json
import random
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from benchmarks.containers import Place, one_ready, place
from benchmarks.measure import process, reconciler
from tests.support.docker import docker_host, engine_lacks

COUNT, ROUNDS, BY_CLOCK = 20, 20, 6
INTERVAL = 5.0  # seconds, without events
WELL = 1.0  # seconds between two kills: it is another victim each time


def main() -> None:
    lacks = engine_lacks(docker_host())
    if lacks:
        print(f"left out: {lacks}")
        return
    with place() as where:
        plain = [one_ready(where) for _ in range(ROUNDS)]
        where.clear()
        folder = where.configure(COUNT)
        process([*reconciler(), "apply", "--auto-approve", "-q"], folder, runs=1, warmup=0)
        with _watch(folder, "--interval", "300s") as told:
            took = [_killed(where, told, victim) for victim in _victims(where, ROUNDS)]
        goal = 1.3 * statistics.median(plain) + 0.1
        _tell("one made with the SDK until it answers", plain)
        _tell(f"one of {COUNT} killed until it is corrected, by events", took)
        print(
            f"corrected by events: median {statistics.median(took):.3f} s "
            f"(goal: at most 1.3 × {statistics.median(plain):.3f} + 0.1 = {goal:.3f} s)"
        )
        with _watch(folder, "--interval", f"{INTERVAL:g}s", "--no-events") as told:
            slow = [_killed(where, told, victim) for victim in _victims(where, BY_CLOCK)]
        _tell("the same by the clock", slow)
        bound = INTERVAL * 1.1 + max(took)
        print(
            f"corrected by the clock: most {max(slow):.2f} s (goal: one interval, {bound:.2f} s with the correction)"
        )
        process([*reconciler(), "destroy", "--auto-approve", "-q"], folder, runs=1, warmup=0)


def _victims(where: Place, count: int) -> list[str]:
    chance, ids = random.Random(1), sorted(where.ids())
    return [chance.choice(ids) for _ in range(count)]


def _killed(where: Place, told: IO[str], victim: str) -> float:
    """Seconds from the kill until the watch tells that it is ready again."""
    time.sleep(WELL)
    where.client.api.kill(victim)
    began = time.perf_counter()
    for line in told:
        event: dict[str, Any] = json.loads(line)
        if event["type"] == "correction":
            if not event["ok"]:
                raise SystemExit(f"the correction failed: {event['error']}")
            return time.perf_counter() - began
    raise SystemExit("the watch ended")


@contextlib.contextmanager
def _watch(folder: Path, *options: str) -> Iterator[IO[str]]:
    argv = [*reconciler(), "watch", "--json", *options]
    with subprocess.Popen(
        argv, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as watch:
        assert watch.stdout is not None
        try:
            for line in watch.stdout:
                if json.loads(line)["type"] == "look":
                    break
            yield watch.stdout
        finally:
            watch.terminate()
            watch.wait()


def _tell(what: str, seconds: list[float]) -> None:
    print(
        f"{what:52} median {statistics.median(seconds):6.3f} s   least {min(seconds):6.3f} s   most {max(seconds):6.3f} s"
    )


if __name__ == "__main__":
    main()
