"""What a watch keeps in mind does not grow with the time that it runs: days of chaos leave no more than hours."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from reconciler.engine.watch import Watch
from tests.sim import simulated
from tests.sim.declared import BACKENDS
from tests.sim.referee import Referee
from tests.sim.script import HOUR, Happens, Hour, hour
from tests.sim.simulated import Variant, live
from tests.support.effort import effort

pytestmark = pytest.mark.no_cover

FEW, MANY = 6, effort(48, 720)  # hours
_NOT_ITS_OWN = {"_source", "_tell", "_stop", "_alive", "_chance", "_wishes", "_options"}


class Lenient(Referee):
    """Rules are for hours; here only what is kept is counted."""

    def foul(self, what: str) -> None:
        self.story.clear()


def long(seed: int, hours: int) -> Hour:
    """So many hours of the same fleet, one after the other. People edit nothing, and have it begin anew every hour."""
    first = hour(seed)
    names = {*(box.name for box in first.layout.boxes), *BACKENDS}
    happens = tuple(
        replace(one, at=one.at + HOUR * number)
        for number in range(hours)
        for one in (Happens(at=1.0, what="hang up"), *hour(seed + number).happens)
        if _is_possible(one, names)
    )
    return replace(first, happens=happens, last=hours * HOUR - 700.0)


def _is_possible(one: Happens, names: set[str]) -> bool:
    return one.what == "hang up" or (one.what not in ("edit", "apply") and one.whom in names)


def kept(value: Any, seen: set[int] | None = None) -> int:
    """How many things are in it, however deep."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, str | int | float | bytes | type(None)):
        return 0
    seen.add(id(value))
    if isinstance(value, dict):
        return len(value) + sum(kept(item, seen) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return len(value) + sum(kept(item, seen) for item in value)
    if isinstance(value, Struct):
        return sum(kept(getattr(value, name), seen) for name in value.__struct_fields__)
    return 0


def after(hours: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """What the watch keeps after so many hours, and how many corrections it made."""
    watches: list[Watch] = []

    class Seen(Watch):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            watches.append(self)

    monkeypatch.setattr(simulated, "HOUR", hours * HOUR)
    monkeypatch.setattr(simulated, "Referee", Lenient)
    referee = live(long(7, hours), Variant(watch=Seen))
    own = {name: value for name, value in vars(watches[0]).items() if name not in _NOT_ITS_OWN}
    return kept(own), referee.tally["corrections"]


def test_days_leave_no_more_in_mind_than_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    early, few = after(FEW, monkeypatch)
    late, many = after(MANY, monkeypatch)
    assert many > few + MANY  # something happened all the time
    assert late <= early * 1.2 + 20
