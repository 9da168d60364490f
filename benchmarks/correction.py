"""Drift: a container that is killed comes back by `watch`, by events and by the clock; beside making one with the SDK."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from benchmarks.engine import Place, lacks, place
from benchmarks.figures import Figure, Relation
from benchmarks.measure import environ, once, reconciler
from benchmarks.plain_sdk import make

__all__ = ["lacks", "measure"]

COUNT, COUNT_QUICK = 20, 5
INTERVAL = 2.0  # seconds between two looks, without events
WELL = 1.0  # seconds between two kills: it is another victim each time


def measure(quick: bool) -> Iterator[Figure]:
    rounds = 5 if quick else 20
    with place() as where:
        folder = where.configure(COUNT_QUICK if quick else COUNT)
        once([*reconciler(), "apply", "--auto-approve", "-q"], folder)
        took, plain = [], []
        with _watch(folder, "--interval", "300s") as told:
            for victim in _victims(where, rounds):
                took.append(_killed(where, told, victim))
                plain.append(_one_made(where))
        yield Figure(
            name="drift: killed until it is ready again, by events",
            unit="s",
            samples=tuple(took),
            peer="one made with the SDK",
            peer_samples=tuple(plain),
            relation=Relation.TIMES,
        )
        with _watch(folder, "--interval", f"{INTERVAL:g}s", "--no-events") as told:
            slow = [_killed(where, told, victim) for victim in _victims(where, 2 if quick else 6)]
        note = f"a look every {INTERVAL:g} s"
        yield Figure(
            name="drift: killed until it is ready again, by the clock",
            unit="s",
            samples=tuple(slow),
            note=note,
        )
        once([*reconciler(), "destroy", "--auto-approve", "-q"], folder)


def _one_made(where: Place) -> float:
    """Seconds of making one beside the fleet, and of waiting until it answers."""
    label = f"{where.label}-plain"
    began = time.perf_counter()
    make(where.client, where.image, label)
    took = time.perf_counter() - began
    for item in where.client.api.containers(all=True, filters={"label": label}):
        where.client.api.remove_container(item["Id"], force=True, v=True)
    return took


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
        argv, cwd=folder, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
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
