"""Hours of chaos with a watch, in virtual time. The referee (`referee.py`) judges by what is there, not by what was decided.

`python -m tests.sim` lives as many as there is time for.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from tests.sim.referee import Referee
from tests.sim.script import hour
from tests.sim.simulated import live
from tests.support.effort import effort

pytestmark = pytest.mark.no_cover

HOURS, BATCH = effort(40, 1200), 10


def lived(seed: int, **changes: Any) -> Referee:
    return live(replace(hour(seed), **changes))


@pytest.mark.parametrize("batch", range(HOURS // BATCH))
def test_an_hour_of_chaos_breaks_no_rule(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        referee = lived(seed)
        assert not referee.fouls, "\n".join([f"seed {seed}", hour(seed).text(), *referee.story])


def test_a_run_that_is_under_way_when_the_stop_comes_ends_first() -> None:
    """Of 1,700 hours the one in which it came between two rounds of a coordinator."""
    referee = lived(41000486)
    assert not referee.fouls, "\n".join(referee.story)


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
