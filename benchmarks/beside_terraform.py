"""A plan of ours that changes nothing, beside Terraform's where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks import machine
from benchmarks.figures import Figure, Relation
from benchmarks.measure import Cost, by_turns, once, reconciler, wall
from benchmarks.projects import PLAN, TERRAFORM_PLAN, terraform


def no_op(folder: Path, theirs: str, count: int, *, name: str, goal: float, rounds: int) -> Figure:
    """`folder` holds ours, applied; `theirs` says how Terraform is told of as many: `count` or `for_each`."""
    with ExitStack() as ends:
        ways: dict[str, Callable[[], Cost]] = {"ours": partial(once, [*reconciler(), *PLAN], folder)}
        if machine.terraform():
            beside = ends.enter_context(terraform(theirs, count))
            ways["terraform"] = partial(once, TERRAFORM_PLAN, beside)
        took = by_turns(ways, rounds, warmup=0 if rounds == 1 else 1)
    return Figure(
        name=name,
        unit="s",
        samples=wall(took["ours"]),
        peer="Terraform",
        peer_samples=wall(took.get("terraform", [])),
        absent="" if "terraform" in took else machine.ABSENT,
        relation=Relation.TIMES,
        goal=goal,
    )
