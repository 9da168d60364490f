"""Some hundred seeded life cycles in every run of the tests; `make fuzz` lives as many as there is time for.

One that breaks a rule prints the smallest scenario that still does, as a test to paste.
"""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import smallest
from tests.fuzz.generate import generate
from tests.fuzz.live import live
from tests.fuzz.scenario import Apply, Declare, Happens, LetGo, Passes, Rename, Stranger
from tests.support.effort import effort

pytestmark = pytest.mark.no_cover

SCENARIOS = effort(150, 600)
BATCH = 25


@pytest.mark.parametrize("batch", range(SCENARIOS // BATCH))
def test_every_rule_holds_after_every_operation(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        scenario = generate(seed)
        broken = live(scenario)
        assert broken is None, f"seed {seed}: {broken}\n\n{smallest(scenario, broken, seed)}"


def test_the_same_seed_is_the_same_scenario_and_the_same_life() -> None:
    assert generate(7) == generate(7) != generate(8)
    assert live(generate(7)) == live(generate(7))


def test_the_seeds_of_every_run_do_everything_there_is() -> None:
    operations = [operation for seed in range(SCENARIOS) for operation in generate(seed).operations]
    assert {type(operation) for operation in operations} == {
        Apply, Declare, Happens, LetGo, Passes, Rename, Stranger,
    }  # fmt: skip
    applies = [operation for operation in operations if isinstance(operation, Apply)]
    for field in (
        "targets",
        "excludes",
        "replace",
        "refresh_only",
        "destroy",
        "dies_at",
        "full_at",
        "stops_at",
    ):
        assert any(getattr(apply, field) for apply in applies), field
    assert {fault.verb for apply in applies for fault in apply.faults} >= {
        "create",
        "destroy",
        "update",
        "observe",
    }
    assert {generate(seed).store for seed in range(SCENARIOS)} == {"memory", "file"}
