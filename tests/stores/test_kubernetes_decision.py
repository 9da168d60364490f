"""Whether a Lease may be taken: the decision as a table, by our steady clock alone."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.stores.kubernetes.decision import Answer, Decision, Record, Sight, decide, sighted

HELD = Record(
    holder="them_1",
    acquired="2026-11-27T04:00:00Z",
    renewed="2026-11-27T04:00:10Z",
    transitions=3,
    lasts=15.0,
)
LONG_AGO = replace(HELD, renewed="1999-01-01T00:00:00Z")
AHEAD = replace(HELD, renewed="2999-01-01T00:00:00Z")
FREE = replace(HELD, holder="")
MINE = replace(HELD, holder="us_1")
ENDLESS = replace(HELD, lasts=0.0)


@pytest.mark.parametrize(
    ("record", "seen_for", "ended", "expected"),
    [
        pytest.param(FREE, 0.0, False, Decision(answer=Answer.FREE), id="nobody has it: it is taken"),
        pytest.param(Record(), 0.0, False, Decision(answer=Answer.FREE), id="one without a word is nobody's"),
        pytest.param(
            MINE, 0.0, False, Decision(answer=Answer.MINE), id="ours by a try whose answer was lost"
        ),
        pytest.param(MINE, 99.0, True, Decision(answer=Answer.MINE), id="ours, however long ago"),
        pytest.param(HELD, 0.0, False, Decision(answer=Answer.HELD, left=15.0), id="seen for the first time"),
        pytest.param(
            HELD, 14.5, False, Decision(answer=Answer.HELD, left=0.5), id="not for its whole duration yet"
        ),
        pytest.param(HELD, 15.0, False, Decision(answer=Answer.STILL), id="unchanged for its whole duration"),
        pytest.param(
            LONG_AGO,
            0.0,
            False,
            Decision(answer=Answer.HELD, left=15.0),
            id="a holder whose clock is behind lives",
        ),
        pytest.param(
            AHEAD, 15.0, False, Decision(answer=Answer.STILL), id="one whose clock is ahead is not for ever"
        ),
        pytest.param(HELD, 0.0, True, Decision(answer=Answer.GONE), id="its process is no more: at once"),
        pytest.param(
            ENDLESS, 29.0, False, Decision(answer=Answer.HELD, left=1.0), id="without a duration ours counts"
        ),
        pytest.param(ENDLESS, 30.0, False, Decision(answer=Answer.STILL), id="and ends as well"),
    ],
)
def test_what_follows(record: Record, seen_for: float, ended: bool, expected: Decision) -> None:
    found = decide(Sight(record=record, since=100.0), 100.0 + seen_for, mine="us_1", ended=ended, lasts=30.0)
    assert found == expected
    assert found.takes == (expected.answer in (Answer.FREE, Answer.STILL, Answer.GONE))


@pytest.mark.parametrize(
    ("before", "now", "since"),
    [
        pytest.param(None, HELD, 50.0, id="never seen"),
        pytest.param(HELD, HELD, 10.0, id="as it was"),
        pytest.param(HELD, replace(HELD, renewed="2026-11-27T04:00:20Z"), 50.0, id="renewed"),
        pytest.param(HELD, replace(HELD, transitions=4), 50.0, id="taken anew by the same"),
        pytest.param(HELD, replace(HELD, holder="others_1"), 50.0, id="another's"),
    ],
)
def test_since_when_it_is_as_it_is(before: Record | None, now: Record, since: float) -> None:
    sight = None if before is None else Sight(record=before, since=10.0)
    assert sighted(sight, now, 50.0) == Sight(record=now, since=since)
