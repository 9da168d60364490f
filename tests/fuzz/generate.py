"""A seed becomes a scenario: configurations that change bit by bit, operations on them, and things that go wrong."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec.structs import replace

from reconciler.model.lifecycle import Policy, Rollout
from tests.fuzz.scenario import (
    Apply,
    Config,
    Declare,
    Fault,
    Group,
    Happens,
    LetGo,
    Operation,
    Passes,
    Rename,
    Scenario,
    Stranger,
)

NAMES = ("a", "b", "c", "d")
_BACKENDS = ("able", "able", "fixed", "fixed", "plain")
_ACTS = ("create", "create", "destroy", "update", "restart")
_HOWS = (
    "transient",
    "transient_after",
    "permanent",
    "permanent_after",
    "crash",
    "crash_after",
    "silent",
    "silent_after",
    "late",
    "lies",
    "sleeps",
    "dies",
    "kill",
    "kill_after",
)


def generate(seed: int, *, backends: tuple[str, ...] = _BACKENDS) -> Scenario:
    """The same for the same seed."""
    return _Author(random.Random(seed), backends).scenario()


class _Author:
    def __init__(self, rng: random.Random, backends: tuple[str, ...]) -> None:
        self.rng = rng
        self.backends = backends
        self.config = Config()

    def scenario(self) -> Scenario:
        """A beginning, most often a good one, and a few things that come after it."""
        size = self.rng.choice([1, 2, 2, 3, 3, 4])
        self.config = Config(groups=tuple(self._group(name) for name in NAMES[:size]))
        operations: list[Operation] = [Declare(config=self.config)]
        operations.append(Apply() if self._odds(0.7) else self._apply())
        for _ in range(self.rng.randint(2, 7)):
            operations += self._next()
        store = "file" if self._odds(0.06) else "memory"
        return Scenario(operations=tuple(operations), store=store)

    def _odds(self, chance: float) -> bool:
        return self.rng.random() < chance

    def _next(self) -> list[Operation]:
        roll = self.rng.random()
        if roll < 0.34:
            self.config = self._edited()
            return [Declare(config=self.config), self._apply()]
        if roll < 0.56:
            happens = [self._happens() for _ in range(self.rng.choice([1, 1, 2]))]
            return [*happens, self._apply()] if self._odds(0.7) else [*happens]
        if roll < 0.8:
            return [self._apply()]
        if roll < 0.85:
            return [self._stranger()]
        if roll < 0.89:
            return [Passes(seconds=self.rng.choice([100.0, 20_000.0]))]
        if roll < 0.93:
            return [Rename(source=self._address(), target=self._address())]
        if roll < 0.96:
            return [LetGo(address=self._address())]
        return [Apply(destroy=True, faults=self._faults())]

    # -- configurations ------------------------------------------------------------------------------------------

    def _group(self, name: str) -> Group:
        before = NAMES[: NAMES.index(name)]
        replicas = self.rng.choice([None, None, 1, 2, 3])
        return Group(
            name=name,
            replicas=replicas,
            backend=self.rng.choice(self.backends),
            image=self.rng.choice(["one", "two"]),
            cpu=self.rng.choice([None, 1.0, 2.0]),
            tier=self.rng.choice([None, None, "x"]),
            secret=self.rng.choice([None, None, "v1"]),
            port=31000 + 1000 * NAMES.index(name) if replicas is None and self._odds(0.1) else None,
            needs=(self.rng.choice(before),) if before and self._odds(0.4) else (),
            refers=self._odds(0.5),
            asks=self._odds(0.85),
            create_first=self._odds(0.3),
            protected=self._odds(0.1),
            ignores=(self.rng.choice(["image", "resources", "labels"]),) if self._odds(0.1) else (),
            triggers=(self.rng.choice(before),) if before and self._odds(0.15) else (),
            lifetime=10_000.0 if self._odds(0.1) else None,
            rollout=self._rollout() if replicas and self._odds(0.5) else None,
        )

    def _rollout(self) -> Rollout:
        return Rollout(
            max_unavailable=self.rng.choice([1, 1, 2]),
            max_unavailable_percent=self.rng.choice([None, None, 50.0]),
            min_healthy=self.rng.choice([0.0, 0.5]),
            canary=self.rng.choice([0, 0, 1]),
            auto_revert=self._odds(0.5),
        )

    def _edited(self) -> Config:
        """What is declared now, with one or two changes."""
        config = self.config
        for _ in range(self.rng.choice([1, 1, 2])):
            edits: list[Callable[[Config], Config]] = [self._touched] * 6
            edits += [self._added, self._dropped, self._moved, self._removed, self._imported, self._policed]
            config = self.rng.choice(edits)(config)
        return config

    def _touched(self, config: Config) -> Config:
        """One group gets some fields of another one of its name."""
        index = self.rng.randrange(len(config.groups))
        old = config.groups[index]
        new = self._group(old.name)
        fields = self.rng.sample(
            [
                "replicas", "backend", "image", "image", "image", "cpu", "cpu", "tier", "secret", "port", "needs",
                "refers", "asks", "create_first", "protected", "ignores", "triggers", "lifetime", "rollout",
            ],
            self.rng.choice([1, 1, 2, 3]),
        )  # fmt: skip
        touched = replace(old, **{name: getattr(new, name) for name in fields})
        if touched.replicas is None:
            touched = replace(touched, rollout=None)
        elif touched.port:
            touched = replace(touched, port=None)
        return replace(config, groups=(*config.groups[:index], touched, *config.groups[index + 1 :]))

    def _added(self, config: Config) -> Config:
        there = {group.name for group in config.groups}
        left = [name for name in NAMES if name not in there]
        groups = {group.name: group for group in config.groups}
        groups |= {name: self._group(name) for name in left[:1]}
        return replace(config, groups=tuple(groups[name] for name in NAMES if name in groups))

    def _dropped(self, config: Config) -> Config:
        if len(config.groups) == 1:
            return config
        gone = self.rng.choice(config.groups).name
        return replace(config, groups=tuple(group for group in config.groups if group.name != gone))

    def _moved(self, config: Config) -> Config:
        """A group, or one of it, gets another name; most often its declaration as well."""
        left = [name for name in NAMES if name not in {group.name for group in config.groups}]
        if not left:
            return replace(config, moved=())
        old, new = self.rng.choice(config.groups), left[0]
        groups = {group.name: group for group in config.groups}
        if self._odds(0.8):
            groups[new] = replace(groups.pop(old.name), name=new, needs=(), triggers=())
        return replace(
            config,
            groups=tuple(groups[name] for name in NAMES if name in groups),
            moved=(*config.moved, (old.name, new))[-2:],
        )

    def _removed(self, config: Config) -> Config:
        if len(config.groups) == 1:
            return replace(config, removed=())
        gone = self.rng.choice(config.groups).name
        return replace(
            config,
            groups=tuple(group for group in config.groups if group.name != gone),
            removed=((gone, self._odds(0.3)),),
        )

    def _imported(self, config: Config) -> Config:
        return replace(config, imports=((self._address(), self.rng.choice(["theirs", "others"])),))

    def _policed(self, config: Config) -> Config:
        return replace(
            config,
            policy=Policy(
                max_destroy=self.rng.choice([None, 0, 1, 2]),
                max_destroy_percent=self.rng.choice([None, None, 40.0]),
                max_drift_percent=self.rng.choice([None, None, 40.0]),
                protected=("a",) if self._odds(0.2) else (),
            ),
        )

    def _address(self) -> str:
        known = [str(a) for group in self.config.groups for a in group.addresses()]
        return self.rng.choice([*known, *known, *NAMES, "b[1]"])

    # -- operations ----------------------------------------------------------------------------------------------

    def _apply(self) -> Apply:
        run = Apply(
            parallelism=self.rng.choice([None, 1]),
            fail_fast=self._odds(0.1),
            faults=self._faults() if self._odds(0.55) else (),
        )
        roll = self.rng.random()
        if roll < 0.1:
            return replace(run, dies_at=self.rng.randint(1, 12), after=self._odds(0.5))
        if roll < 0.13:
            return replace(run, full_at=self.rng.randint(1, 8))
        if roll < 0.18:
            return replace(run, stops_at=self.rng.randint(1, 12))
        roll = self.rng.random()
        if roll < 0.06:
            return replace(run, targets=(self._address(),))
        if roll < 0.1:
            return replace(run, excludes=(self._address(),))
        if roll < 0.16:
            return replace(run, replace=(self._address(),))
        if roll < 0.2:
            return replace(run, refresh_only=True)
        if roll < 0.25:
            return replace(run, refresh=False)
        return run

    def _faults(self) -> tuple[Fault, ...]:
        return tuple(self._fault() for _ in range(self.rng.choice([0, 1, 1, 2, 3])))

    def _fault(self) -> Fault:
        backend = self.rng.choice(self.backends)
        roll = self.rng.random()
        if roll < 0.08:
            return Fault(verb="observe", how="permanent", backend=backend)
        if roll < 0.14:
            return Fault(verb="observe", how="omits", backend=backend)
        if roll < 0.22:
            how = self.rng.choice(["transient", "permanent", "crash", "silent", "kill"])
            return Fault(verb="look", how=how, nth=self.rng.randint(1, 4), backend=backend)
        if roll < 0.28:
            how = self.rng.choice(["permanent", "crash", "silent"])
            return Fault(verb="probe", how=how, nth=self.rng.randint(1, 3), times=20, backend=backend)
        verb, how = self.rng.choice(_ACTS), self.rng.choice(_HOWS)
        return Fault(
            verb=verb,
            how="late"
            if (verb, how) == ("update", "lies")
            else how,  # nobody can tell, of a field that was not set
            nth=self.rng.choice([1, 1, 1, 2, 3]),
            times=self.rng.choice([1, 1, 1, 2, 99]),
            backend=backend,
        )

    def _happens(self) -> Happens:
        what = self.rng.choice(["kill", "kill", "remove", "remove", "alter", "alter", "pause", "resume"])
        return Happens(what=what, which=self.rng.randrange(6))

    def _stranger(self) -> Stranger:
        return Stranger(
            kind=self.rng.choice(["bare", "bare", "foreign", "sibling"]),
            id=self.rng.choice(["theirs", "others", "others", ""]),
            address=self._address(),
            backend=self.rng.choice(self.backends),
        )
