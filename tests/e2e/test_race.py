"""Several applies of one stack at once, with the installed command. Fifty of them: `make lock-contention`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.race import race


@pytest.mark.slow
def test_of_applies_at_once_those_that_wait_all_have_their_turn(tmp_path: Path) -> None:
    ended = race(tmp_path, runs=5, lock_timeout="2m")
    ended.demand_order()
    assert [code for _, code, _ in ended.ends] == [0] * 5


@pytest.mark.slow
def test_of_applies_at_once_those_that_do_not_wait_leave_with_4_and_say_who_is_there(tmp_path: Path) -> None:
    ended = race(tmp_path, runs=4, lock_timeout="0s")
    ended.demand_order()
