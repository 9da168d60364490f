"""Hours of chaos with a watch, in virtual time. The referee (`referee.py`) judges by what is there, not by what was decided.

`python -m tests.sim` lives as many as there is time for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from reconciler.core import applied
from reconciler.core.damping import Damping, Patient
from reconciler.core.vigil import Vigil
from reconciler.model.watching import IncidentKind
from tests.sim.referee import Referee
from tests.sim.script import hour
from tests.sim.simulated import live
from tests.support.effort import effort

pytestmark = pytest.mark.no_cover

HOURS, BATCH = effort(60, 1200), 10
MOST = 120  # hours until a planted fault must have been seen


def lived(seed: int, **changes: Any) -> Referee:
    return live(replace(hour(seed), **changes))


@pytest.mark.parametrize("batch", range(HOURS // BATCH))
def test_an_hour_of_chaos_breaks_no_rule(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        referee = lived(seed)
        assert not referee.fouls, "\n".join([f"seed {seed}", hour(seed).text(), *referee.story])


def test_without_any_event_the_end_is_the_same() -> None:
    for seed in range(5000, 5000 + effort(5, 100)):
        referee = lived(seed, events=False)
        assert not referee.fouls, "\n".join([f"seed {seed}", *referee.story])


def test_the_same_seed_is_the_same_hour() -> None:
    assert lived(7).story == lived(7).story != lived(8).story


def test_hours_have_all_that_can_happen_in_them() -> None:
    happened = Counter(one.what for seed in range(HOURS) for one in hour(seed).happens)
    assert {
        "kill",
        "pause",
        "remove",
        "deaf",
        "flap",
        "outage",
        "cut",
        "full",
        "locked",
        "jump",
        "edit",
        "apply",
    } <= set(happened)


# -- the referee sees what it is there for


def _always(patient: Patient, now: float) -> bool:
    return True


def _one_is_enough(patient: Patient) -> bool:
    return bool(patient._probes) and not patient._probes[-1]


def _nothing_is_hidden(*_: object) -> frozenset[str]:
    return frozenset()


def _over_twice(vigil: Vigil, *given: Any, told: Callable[..., Any] = Vigil._tell) -> Any:
    for event in told(vigil, *given):
        yield event
        if event.__class__.__name__ == "IncidentClosed":
            yield event


def _unasked(vigil: Vigil, kind: IncidentKind, *_: object, **__: object) -> Collection[Any]:
    return ()


@pytest.mark.parametrize(
    ("where", "name", "fault"),
    [
        (Patient, "may_be_corrected", _always),
        (Patient, "silent", property(_one_is_enough)),
        (Damping, "after", lambda damping, attempts: 0.0),
        (applied, "_unseen", _nothing_is_hidden),
        (Vigil, "_tell", _over_twice),
        (Vigil, "closed", _unasked),
    ],
    ids=[
        "no pause is kept",
        "one probe is enough",
        "pauses do not grow",
        "what needs the hidden is touched",
        "an end is told twice",
        "an end is not told",
    ],
)
def test_a_planted_fault_is_seen(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, fault: object
) -> None:
    monkeypatch.setattr(where, name, fault)
    assert any(lived(seed).fouls for seed in range(MOST))
