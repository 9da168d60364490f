"""What is measured: samples, beside whose, against which goal. Pure: no clock, no process, no file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct


class Relation(StrEnum):
    """How a figure is held against its goal, which is always a most."""

    TIMES = "times"  # our median over the peer's
    MORE = "more"  # our median less the peer's
    ITSELF = "itself"  # our median alone


class Verdict(StrEnum):
    MET = "met"
    NOT_MET = "not met"
    ABSENT = "peer absent"
    NO_GOAL = "no goal"  # measured, so that it can be followed


class Spread(Struct, frozen=True, kw_only=True):
    """Least and most, quartiles and median, of at least one sample."""

    least: float
    lower: float
    median: float
    upper: float
    most: float


class Figure(Struct, frozen=True, kw_only=True):
    """One row. `unit` is that of all samples: "s", "MB", "ms", "" for a bare number.

    Without `peer` it stands alone. With a peer that could not be measured, `absent` says why. When both have as many
    samples, the i-th of each are from the same turn.
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    peer: str = ""
    peer_samples: tuple[float, ...] = ()
    absent: str = ""
    relation: Relation = Relation.ITSELF
    goal: float | None = None
    note: str = ""

    @property
    def ours(self) -> Spread:
        return spread(self.samples)

    @property
    def theirs(self) -> Spread | None:
        return spread(self.peer_samples) if self.peer_samples else None

    @property
    def ratio(self) -> float | None:
        """Our median over the peer's; None without one."""
        theirs = self.theirs
        return self.ours.median / theirs.median if theirs and theirs.median else None

    @property
    def ratios(self) -> Spread | None:
        """How the ratio spreads over the turns; None where there were no turns."""
        turns = len(self.samples) == len(self.peer_samples)
        if not turns or not all(self.peer_samples):
            return None
        return spread([mine / its for mine, its in zip(self.samples, self.peer_samples, strict=True)])

    @property
    def value(self) -> float | None:
        """What the goal is about; None when the peer is absent."""
        match self.relation:
            case Relation.ITSELF:
                return self.ours.median
            case Relation.TIMES:
                return self.ratio
            case Relation.MORE:
                theirs = self.theirs
                return self.ours.median - theirs.median if theirs else None

    @property
    def verdict(self) -> Verdict:
        value = self.value
        if value is None:
            return Verdict.ABSENT
        if self.goal is None:
            return Verdict.NO_GOAL
        return Verdict.MET if value <= self.goal else Verdict.NOT_MET


def spread(samples: Sequence[float]) -> Spread:
    """Quartiles as the inclusive method has them. Raises ValueError for no samples."""
    if not samples:
        raise ValueError("no samples, no spread")
    if len(samples) == 1:
        return Spread(
            least=samples[0], lower=samples[0], median=samples[0], upper=samples[0], most=samples[0]
        )
    lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(least=min(samples), lower=lower, median=median, upper=upper, most=max(samples))


def percentile(samples: Sequence[float], percent: int) -> float:
    """The least sample that so many percent of all do not exceed. Raises ValueError for no samples."""
    if not samples:
        raise ValueError("no samples, no percentile")
    rank = -(-len(samples) * percent // 100)  # rounded up
    return sorted(samples)[max(0, rank - 1)]
