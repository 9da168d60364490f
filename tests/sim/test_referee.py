"""The referee of the simulated hours sees what it is there for: a watch with a fault planted in it does not get through.

Faults are passed in: another watch, another damping, another reading of the configuration, an ear that hears wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from reconciler.core.damping import Damping
from reconciler.core.saved import Held
from reconciler.core.vigil import Verdict
from reconciler.engine.context import Context
from reconciler.engine.drift import DriftView
from reconciler.engine.run import ApplyOptions, carry_out
from reconciler.engine.survey import survey
from reconciler.engine.watch import Watch
from reconciler.model.lifecycle import DriftPolicy
from reconciler.model.watching import IncidentClosed, IncidentOpened
from reconciler.stores.base import Lease
from tests.sim.declared import Box, Layout
from tests.sim.script import Happens, Hour, hour
from tests.sim.simulated import Ear, Variant, live

pytestmark = pytest.mark.no_cover

SEEDS = 6  # of hours in which a planted fault must have been seen
A, B, C = Box(name="a"), Box(name="b", backend="blunt", needs="a"), Box(name="c")
NEEDED = Layout(boxes=(A, B, C))


class KeepsTheLock(Watch):
    """Has it while it waits."""

    def _wait(self, context: Context) -> str:
        with context.store.lock("watch"):
            return super()._wait(context)


class Applies(Watch):
    """Carries out what stands in the files."""

    def _correct(self, context: Context, seen: DriftView, verdict: Verdict, lease: Lease) -> None:
        view = survey(context)
        carry_out(context, ApplyOptions(), view, Held(shown=view.plan, plan=view.plan), lease, self._stop)


class GoesByEventsAlone(Watch):
    """Never looks of its own."""

    def _schedule(self, started: float, trigger: str) -> None:
        super()._schedule(started, trigger)
        self._next_look = math.inf


class NeverRests(Watch):
    """Looks all the time."""

    def _schedule(self, started: float, trigger: str) -> None:
        super()._schedule(started, trigger)
        self._next_look = started + 0.5


def _hears(event: type, times: int) -> Callable[[Ear], Ear]:
    """What is told of that kind is heard so often."""

    def hears(ear: Ear) -> Ear:
        def hear(told: object) -> None:
            for _ in range(times if isinstance(told, event) else 1):
                ear(told)  # type: ignore[arg-type]

        return hear

    return hears


def _corrects_all(layout: Layout) -> Layout:
    return replace(layout, boxes=tuple(replace(box, drift=DriftPolicy.CORRECT) for box in layout.boxes))


def _needs_nothing(layout: Layout) -> Layout:
    return replace(layout, boxes=tuple(replace(box, needs="") for box in layout.boxes))


def _knows_no_limit(layout: Layout) -> Layout:
    return replace(layout, most_drift=None)


def _fouls(variant: Variant) -> list[str]:
    """Of the first hours of chaos in which it does not get through."""
    return next((fouls for seed in range(SEEDS) if (fouls := live(hour(seed), variant).fouls)), [])


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        pytest.param(Variant(damping=Damping(pause=0.0)), "and the pause is", id="no pause is kept"),
        pytest.param(Variant(damping=Damping(longest=2.0)), "and the pause is", id="pauses do not grow"),
        pytest.param(Variant(damping=Damping(give_up=1000)), "and is given up", id="it never gives up"),
        pytest.param(Variant(damping=Damping(give_up=1)), "is given up after", id="it gives up at once"),
        pytest.param(Variant(damping=Damping(failures=1, of=1)), "as it was applied", id="one probe is enough"),
        pytest.param(Variant(blind=True), "nobody could see", id="what was not seen is taken to be gone"),
        pytest.param(Variant(opens=_corrects_all), "its policy is", id="it corrects what is to be left alone"),
        pytest.param(Variant(opens=_knows_no_limit), "and the limit is", id="too many at once are corrected"),
        pytest.param(Variant(watch=KeepsTheLock), "and has the lock", id="it waits with the lock"),
        pytest.param(Variant(watch=NeverRests), "looks in a minute", id="it looks all the time"),
        pytest.param(Variant(hears=_hears(IncidentOpened, 2)), "is told again", id="a beginning is told twice"),
        pytest.param(Variant(hears=_hears(IncidentClosed, 2)), "nobody was told of it", id="an end is told twice"),
        pytest.param(Variant(hears=_hears(IncidentOpened, 0)), "nobody was told", id="a beginning is not told"),
        pytest.param(Variant(hears=_hears(IncidentClosed, 0)), "is not over", id="an end is not told"),
    ],
)  # fmt: skip
def test_a_fault_does_not_get_through_hours_of_chaos(variant: Variant, told: str) -> None:
    assert told in "\n".join(_fouls(variant))


@pytest.mark.parametrize(
    ("variant", "happens", "told"),
    [
        pytest.param(
            Variant(opens=_needs_nothing),
            [
                Happens(at=100, what="outage", whom="able", seconds=200),
                Happens(at=150, what="kill", whom="b"),
            ],
            "b: nobody could see a",
            id="what needs the hidden is touched",
        ),
        pytest.param(
            Variant(watch=Applies),
            [
                Happens(at=100, what="edit", layout=NEEDED.edited("c", image="two")),
                Happens(at=150, what="kill", whom="a"),
            ],
            "create c as nobody applied it",
            id="an edit that waits for its apply is carried out",
        ),
        pytest.param(
            Variant(watch=GoesByEventsAlone),
            [Happens(at=100, what="kill", whom="a")],
            "a was never put back",
            id="events are needed",
        ),
    ],
)
def test_a_fault_does_not_get_through_an_hour_made_for_it(
    variant: Variant, happens: list[Happens], told: str
) -> None:
    made = Hour(seed=1, layout=NEEDED, happens=tuple(happens), lossy=1.0)
    assert live(made).fouls == []
    assert told in "\n".join(live(made, variant).fouls)
