"""Start-up: what `--version`, `validate` and a plan of ten that changes nothing cost, and how much they import."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.beside_terraform import no_op
from benchmarks.figures import Figure, Relation
from benchmarks.measure import by_turns, cpu, once, reconciler, wall
from benchmarks.projects import PLAN, applied
from tests.support.imports import imported_by

BARE = "bare Python"
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "--version": ("--version",),
    "validate": ("validate",),
    "no-op plan of 10": PLAN,
}
MOST_MORE = {"--version": 0.060}  # seconds over bare Python


def measure(quick: bool) -> Iterator[Figure]:
    with applied("replicas", 10) as folder:
        yield from _over_python(folder, 7 if quick else 21)
        name = "no-op plan of 10, replicas beside count"
        yield no_op(folder, "count", 10, name=name, goal=2.0, rounds=5 if quick else 15)
        for name, command in COMMANDS.items():
            modules = len(imported_by(*command, cwd=folder))
            yield Figure(name=f"{name}: modules imported", unit="", samples=(modules,))


def _over_python(folder: Path, rounds: int) -> Iterator[Figure]:
    commands = {BARE: [sys.executable, "-c", "pass"]}
    commands |= {name: [*reconciler(), *command] for name, command in COMMANDS.items()}
    took = by_turns({name: partial(once, argv, folder) for name, argv in commands.items()}, rounds)
    for name in COMMANDS:
        for what, column in (("wall", wall), ("processor", cpu)):
            yield Figure(
                name=f"{name}: {what} time",
                unit="s",
                samples=column(took[name]),
                peer=BARE,
                peer_samples=column(took[BARE]),
                relation=Relation.MORE,
                goal=MOST_MORE.get(name) if what == "wall" else None,
            )
