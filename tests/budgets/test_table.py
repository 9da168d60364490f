"""The table itself: that a budget which is exceeded is told, and that none is there which nobody holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.budgets.table import BUDGETS, within

HERE = Path(__file__).parent


def test_what_exceeds_a_budget_fails_with_the_difference_and_the_reason() -> None:
    name = "docker: questions of a no-op plan"
    within(name, 1)
    with pytest.raises(AssertionError) as failed:
        within(name, 41, "40 GET /containers/{id}/json")
    for words in (name, "41", "40 over the budget of 1", BUDGETS[name].why, "40 GET /containers/{id}/json"):
        assert words in str(failed.value)


def test_every_budget_is_held_by_a_test() -> None:
    tests = "".join(
        path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py") if path.name != "test_table.py"
    )
    assert [
        name for name in BUDGETS if f'within("{name}"' not in tests.replace("within(\n        ", "within(")
    ] == []
