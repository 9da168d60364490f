"""Start-up: what `--version`, `validate` and a plan of ten that changes nothing cost, and how much they import."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.figures import Figure, Relation
from benchmarks.measure import Cost, by_turns, cpu, once, reconciler, wall
from benchmarks.projects import PLAN, TERRAFORM_PLAN, applied, terraform
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
        yield from _beside_terraform(folder, 5 if quick else 15)
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


def _beside_terraform(folder: Path, rounds: int) -> Iterator[Figure]:
    ways = {"ours": partial(once, [*reconciler(), *PLAN], folder)}
    if not machine.terraform():
        took: dict[str, list[Cost]] = by_turns(ways, rounds)
    else:
        with terraform("count", 10) as theirs:
            took = by_turns({**ways, "terraform": partial(once, TERRAFORM_PLAN, theirs)}, rounds)
    yield Figure(
        name="no-op plan of 10, replicas beside count",
        unit="s",
        samples=wall(took["ours"]),
        peer="Terraform",
        peer_samples=wall(took.get("terraform", [])),
        absent="" if "terraform" in took else machine.ABSENT,
        relation=Relation.TIMES,
        goal=2.0,
    )
