"""A seed becomes an hour: what is declared, how the watch is set, and all that happens, each at its time.

Nothing in it depends on what the watch does, so that two watches can live the same hour.
"""

from __future__ import annotations

import random

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.core.damping import Damping
from reconciler.model.lifecycle import DriftPolicy
from tests.sim.declared import BACKENDS, Box, Layout

HOUR = 3600.0
QUIET = 700.0  # seconds at the end in which nothing happens: longer than the longest pause, and an interval
_TO_ONE = (
    "kill", "kill", "kill", "pause", "remove", "replace it", "limit it", "wakes", "unknown", "deaf", "deaf", "flap",
)  # fmt: skip
_TO_MANY = (
    "outage",
    "cut",
    "refuse",
    "full",
    "unsaved",
    "unreadable",
    "locked",
    "steal",
    "jump",
    "stray",
    "chatter",
)
_BY_PEOPLE = ("image", "cpu", "drift", "add", "remove box", "invalid", "hang up", "apply", "apply")


class Happens(Struct, frozen=True, kw_only=True):
    """`what` to `whom` (a name of a box or of a backend, "" for all), for `seconds`. `layout` is what is declared from then
    on, None is not valid."""

    at: float
    what: str
    whom: str = ""
    seconds: float = 0.0
    layout: Layout | None = None

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.0f}s" if self.seconds else ""
        return f"{self.at:7.1f} {self.what} {self.whom}{lasts}"


class Hour(Struct, frozen=True, kw_only=True):
    """`last` is when the last of it is over."""

    seed: int
    layout: Layout
    happens: tuple[Happens, ...] = ()
    interval: float = 30.0
    damping: Damping = field(default_factory=Damping)
    lossy: float = 0.3  # the share of events that get lost
    events: bool = True
    last: float = HOUR - QUIET

    def text(self) -> str:
        boxes = "\n".join(map(str, self.layout.boxes))
        happens = "\n".join(map(str, self.happens))
        return f"{self.damping}, interval {self.interval}, most drift {self.layout.most_drift}\n{boxes}\n{happens}"


def hour(seed: int) -> Hour:
    return _Author(random.Random(seed)).hour(seed)


class _Author:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.layout = Layout()
        self.valid = True
        self.added = 0
        self.found: list[Happens] = []

    def hour(self, seed: int) -> Hour:
        rng = self.rng
        self.layout = Layout(
            boxes=tuple(self._box(number) for number in range(rng.choice([4, 5, 6, 8]))),
            most_drift=rng.choice([None, None, None, 40.0, 60.0]),
        )
        first, last = self.layout, HOUR - QUIET
        times = sorted(rng.uniform(5.0, last - 5.0) for _ in range(rng.choice([3, 8, 16, 24])))
        for number, at in enumerate(times):
            burst = rng.choice([0.0, 0.0, 0.3, 3.0])  # things come together
            self._something(
                at if not number or not burst else min(self.found[-1].at + burst, last - 5.0), last
            )
        self._settle(last)
        return Hour(
            seed=seed,
            layout=first,
            happens=tuple(sorted(self.found, key=lambda one: one.at)),
            interval=rng.choice([30.0, 60.0, 60.0, 120.0]),
            damping=Damping(
                give_up=rng.choice([4, 6, 8]),
                longest=rng.choice([30.0, 120.0, 300.0]),
                window=rng.choice([600.0, 3600.0]),
            ),
            lossy=rng.choice([0.0, 0.3, 0.8, 1.0]),
            last=last,
        )

    def _box(self, number: int) -> Box:
        rng = self.rng
        before = [f"b{i}" for i in range(number)]
        return Box(
            name=f"b{number}",
            backend=rng.choice(BACKENDS),
            drift=rng.choice([DriftPolicy.CORRECT] * 5 + [DriftPolicy.REPORT, DriftPolicy.IGNORE]),
            needs=rng.choice(before) if before and rng.random() < 0.35 else "",
            refers=rng.random() < 0.4,
            asks=rng.random() < 0.6,
            protected=rng.random() < 0.1,
        )

    def _something(self, at: float, last: float) -> None:
        rng = self.rng
        kind = rng.choice([_TO_ONE, _TO_ONE, _TO_ONE, _TO_MANY, _BY_PEOPLE])
        what = rng.choice(kind)
        if kind is _BY_PEOPLE:
            self._by_people(at, what)
            return
        names = [box.name for box in self.layout.boxes]
        whom = rng.choice(BACKENDS) if kind is _TO_MANY else rng.choice(names)
        most = {"flap": 900.0, "locked": 60.0, "steal": 0.0, "chatter": 600.0, "jump": 0.0}.get(what, 200.0)
        seconds = min(rng.uniform(0.0, 1.0) * most, last - at)
        self.found.append(Happens(at=at, what=what, whom=whom, seconds=seconds))

    def _by_people(self, at: float, what: str) -> None:
        rng = self.rng
        if what in ("apply", "hang up"):
            self.found.append(Happens(at=at, what=what))
            return
        boxes = self.layout.boxes
        box = rng.choice(boxes)
        match what:
            case "image":
                self.layout = self.layout.edited(box.name, image=rng.choice(["one", "two", "three"]))
            case "cpu":
                self.layout = self.layout.edited(box.name, cpu=rng.choice([1.0, 2.0, 4.0]))
            case "drift":
                self.layout = self.layout.edited(box.name, drift=rng.choice(list(DriftPolicy)))
            case "add" if len(boxes) < 12:
                self.added += 1
                self.layout = replace(
                    self.layout, boxes=(*boxes, replace(self._box(0), name=f"n{self.added}"))
                )
            case "remove box" if len(boxes) > 3 and not box.protected:
                self.layout = self.layout.without(box.name)
        self.valid = what != "invalid"
        self.found.append(Happens(at=at, what="edit", whom=what, layout=self.layout if self.valid else None))
        if self.valid and rng.random() < 0.4:
            self.found.append(Happens(at=at + rng.choice([0.1, 1.0, 30.0]), what="apply"))

    def _settle(self, last: float) -> None:
        """What stands in the files is valid in the end, and now and then applied."""
        if not self.valid:
            self.found.append(Happens(at=last - 2.0, what="edit", layout=self.layout))
        if self.rng.random() < 0.5:
            self.found.append(Happens(at=last - 1.0, what="apply"))
