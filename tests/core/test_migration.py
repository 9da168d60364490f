"""When a state may move into another store, and who may work with which of the two afterwards."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.core.migration import needs_writing, refuse_migrated
from reconciler.errors import Refused
from reconciler.model.state import Migrated, State
from reconciler.testing.store_conformance import a_state

HERE, THERE = Migrated(to="new", at=1.0), Migrated(to="old", at=2.0)


def state(serial: int, *addresses: str, lineage: str = "l", migrated: Migrated | None = None) -> State:
    return replace(a_state(*(addresses or ("a",)), serial=serial), lineage=lineage, migrated=migrated)


ELSEWHERE = Migrated(to="third", at=1.0)


@pytest.mark.parametrize(
    ("source", "target", "needed"),
    [
        pytest.param(state(5), None, True, id="nothing is there yet"),
        pytest.param(state(5, migrated=HERE), None, True, id="it was broken off before anything was written"),
        pytest.param(state(6, migrated=HERE), state(6), False, id="it was broken off after that"),
        pytest.param(state(6, migrated=HERE), state(9, "b"), False, id="it is done, and the new one went on"),
        pytest.param(state(5), state(3, "b"), True, id="an older copy of it is there"),
        pytest.param(state(5), state(5), False, id="the same was copied there by hand"),
        pytest.param(state(9), state(6, migrated=THERE), True, id="it comes back to where it was"),
        pytest.param(
            state(9, migrated=HERE), state(6, migrated=THERE), True, id="coming back was broken off"
        ),
    ],
)
def test_it_is_written_where_it_is_not_yet(source: State, target: State | None, needed: bool) -> None:
    assert needs_writing(source, target, from_="old", to="new", force=False) is needed


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        pytest.param(state(5), state(1, lineage="m"), "have different sandboxes", id="another state"),
        pytest.param(state(5), state(6, "b"), "new holds serial 6 of this state", id="a newer one"),
        pytest.param(state(5), state(5, "b"), "the newer one would be replaced", id="one that is as old and another"),
        pytest.param(
            state(6, migrated=HERE), state(7, migrated=THERE), "holds serial 7", id="what the new one left when it moved on"
        ),
        pytest.param(state(5, migrated=ELSEWHERE), None, "moved to third already", id="what moved elsewhere"),
    ],
)  # fmt: skip
def test_nothing_is_lost_without_force(source: State, target: State | None, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        needs_writing(source, target, from_="old", to="new", force=False)
    assert refused.value.hint
    assert needs_writing(source, target, from_="old", to="new", force=True)


def test_what_is_left_behind_is_nothing_to_work_with() -> None:
    refuse_migrated(None, "old")
    refuse_migrated(state(5), "old")
    with pytest.raises(Refused, match="the state in old moved to new") as refused:
        refuse_migrated(state(5, migrated=HERE), "old")
    assert "state migrate" in refused.value.hint
