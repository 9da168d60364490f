"""The soak: random life cycles through the real command for a chosen time, with kills and faults, and the survival table.

Scenarios are those of `tests/fuzz`; here they are lived by processes that really die. What a configuration may refuse on
purpose (protection, limits, fixed ports) is left out, so that each scenario has to end converged.
"""

from __future__ import annotations

import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from reconciler.model.observed import Phase
from tests.backends.processes import eventually
from tests.crash.checks import Before, mend, wrong
from tests.crash.operations import Operation
from tests.crash.places import lacks, opened
from tests.crash.runs import Runs, runs
from tests.crash.worlds import LOCAL, Body, World
from tests.fuzz.generate import generate
from tests.fuzz.scenario import Apply, Config, Declare, Group, Happens, LetGo, Rename
from tests.fuzz.scenario import Operation as Event

_KILLED = 0.6  # of all runs, about: some end before their point comes
_WITHIN = 250  # points; a run of a few sandboxes has about as many
_PATIENCE = 2  # plain applies: what was renamed while it was broken is labelled in the run after its repair


class Survival(Struct):
    """What happened, counted; `failures` are (seed, what is wrong)."""

    scenarios: int = 0
    runs: int = 0
    killed: int = 0
    faults: int = 0
    sandboxes: int = 0
    converged: int = 0
    second: int = 0  # needed the second apply
    failures: list[tuple[int, str]] = field(default_factory=list)

    def table(self) -> str:
        rows = [(name.upper(), getattr(self, name)) for name in ("scenarios", "runs", "killed", "faults")]
        rows += [("SANDBOXES MADE", self.sandboxes), ("CONVERGED", self.converged)]
        rows += [("OF THESE WITH A SECOND APPLY", self.second), ("FAILURES", len(self.failures))]
        return "\n".join(f"{name:30}{count:>8}" for name, count in rows)


def soak(*, backend: str, seconds: float, seed: int) -> int:
    """0 when everything survived. Prints a line per failure, with the seed that shows it again, and the table."""
    lacking = lacks(backend)
    if lacking:
        print(f"{backend} cannot be used here: {lacking}")
        return 1
    survival, began = Survival(), time.monotonic()
    with ExitStack() as ends:
        home = Path(ends.enter_context(tempfile.TemporaryDirectory(prefix="rc-")))
        run = ends.enter_context(runs())
        world = ends.enter_context(opened(backend, home / backend, run))
        size = _size(run, world)
        while time.monotonic() - began < seconds or not survival.scenarios:
            number = seed + survival.scenarios
            found = live(world, number, survival)
            survival.scenarios += 1
            if found:
                survival.failures.append((number, found))
                again = f"python -m tests.crash soak --backend {backend} --seconds 0 --seed {number}"
                print(f"{found}\n  again: {again}", flush=True)
        after = _size(run, world)
    print(survival.table())
    for what, first, last in zip(("memory, KiB", "file handles"), size, after, strict=True):
        print(f"{what:30}{first} at first, {last} in the end")
    print(f"seed {seed}, {time.monotonic() - began:.0f} s, on {backend}")
    return int(bool(survival.failures))


def _size(run: Runs, world: World) -> tuple[int, int]:
    """After one run, so that what is only loaded once is there."""
    world.clear()
    world.declare({"sandboxes": {}})
    world.run("plan")
    memory, handles = run.size
    return memory // 1024, handles


def live(world: World, seed: int, survival: Survival) -> str:
    """One scenario from nothing to its end; what is wrong then, "" when nothing is."""
    chance = random.Random(seed)
    world.clear()
    declared = Config()
    for event in generate(seed, backends=(LOCAL,)).operations:
        if isinstance(event, Declare):
            declared = event.config
            world.declare(body_of(declared))
        elif isinstance(event, Happens):
            survival.faults += _breaks(world, event)
        else:
            told = _run(world, event, chance, survival)
            if told:
                return told
    return _settled(world, declared, survival)


def _run(world: World, event: Event, chance: random.Random, survival: Survival) -> str:
    argv = _argv(event)
    if not argv:
        return ""
    nth = chance.randint(1, _WITHIN) if chance.random() < _KILLED else None
    before = set(world.live())
    ended = world.run(*argv, nth=nth)
    survival.runs += 1
    survival.killed += ended.killed
    survival.sandboxes += len(set(world.live()) - before)
    bad = "Traceback" in ended.out or (ended.code < 0 and not ended.killed)
    return f"{' '.join(argv)} ended with {ended.code}:\n{ended.out}" if bad else ""


def _argv(event: Event) -> list[str]:
    match event:
        case Apply(destroy=True):
            return ["destroy", "--auto-approve"]
        case Apply():
            chosen = [("--target", a) for a in event.targets] + [("--replace", a) for a in event.replace]
            return ["apply", "--auto-approve", *(word for pair in chosen for word in pair)]
        case Rename():
            return ["state", "mv", event.source, event.target]
        case LetGo():
            return ["state", "rm", event.address]
        case _:
            return []


def _breaks(world: World, event: Happens) -> bool:
    """One of the recorded ones is killed, or goes without a trace. What a killed run had begun has settled by then."""
    eventually(
        lambda: all(seen.phase is not Phase.PENDING for seen in world.live().values()), "all to settle"
    )
    state = world.store.read()
    there = world.live()
    names = sorted(r.sandbox_id for r in state.sandboxes.values() if r.sandbox_id in there) if state else []
    names = [name for name in names if not there[name].phase.is_dead]
    if not names:
        return False
    name = names[event.which % len(names)]
    if event.what == "remove":
        world.backend.destroy(there[name].info)
    else:
        world.end(name)
    return True


def _settled(world: World, declared: Config, survival: Survival) -> str:
    if not declared.groups:
        return ""
    operation = Operation(name="soak", after=body_of(declared), company=False, renames=True)
    released = Before.of(world).released if world.store.read() else frozenset[str]()
    live = world.live()
    found: list[str] = []
    for count in range(1, _PATIENCE + 1):
        before = Before(live=live, ids={}, released=released)
        found = mend(world, operation) or wrong(world, operation, before)
        survival.runs += 1
        if not found:
            survival.converged += 1
            survival.second += count > 1
            return ""
    return "\n".join(found)


def body_of(config: Config) -> Body:
    """The configuration as it is written. What is refused on purpose is left out."""
    names = {group.name for group in config.groups}
    removed = [{"from": name, "destroy": destroy} for name, destroy in config.removed if name not in names]
    groups = {group.name: _written(group, config) for group in config.groups if group.addresses()}
    return {"sandboxes": groups, **({"removed": removed} if removed else {})}


def _written(group: Group, config: Config) -> dict[str, Any]:
    there = {other.name: other for other in config.groups if other.addresses()}
    needs = [name for name in group.needs if name in there]
    peers = {f"PEER_{name.upper()}": _url(there[name]) for name in needs if group.refers}
    lifecycle: dict[str, Any] = {"replace": "create_first"} if group.create_first else {}
    triggers = [f"sandbox.{name}" for name in group.triggers if name in there]
    if triggers:
        lifecycle["replace_triggered_by"] = triggers
    optional = {
        "replicas": group.replicas,
        "labels": {"tier": group.tier} if group.tier else None,
        "secrets": {"TOKEN": {"env": "TOKEN"}} if group.secret else None,
        "depends_on": needs or None,
        "lifecycle": lifecycle or None,
        "readiness": None if group.asks else "none",
        "rollout": _rollout(group),
    }
    environment = {"V": group.image, **peers}
    return {
        "environment": environment,
        **{key: value for key, value in optional.items() if value is not None},
    }


def _url(group: Group) -> str:
    return "${sandbox.%s.url}" % (group.name if group.replicas is None else f"{group.name}[0]")


def _rollout(group: Group) -> dict[str, Any] | None:
    if group.rollout is None:
        return None
    return {
        "max_unavailable": group.rollout.max_unavailable,
        "canary": group.rollout.canary,
        "auto_revert": group.rollout.auto_revert,
    }
