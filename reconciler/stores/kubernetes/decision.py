"""Whether a `Lease` may be taken: the decision alone, of what was seen, since when, and what time it is. Pure.

Clocks of machines differ, so the times that a Lease holds are never compared with ours. It counts as given up once it has not
changed for its own duration by our steady clock, since we first saw it as it is; as client-go does it.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Record(Struct, frozen=True, kw_only=True):
    """A Lease as read. `holder` is "" where nobody has it, `renewed` the time as its holder wrote it, `lasts` in seconds."""

    holder: str = ""
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0
    lasts: float = 0.0


class Sight(Struct, frozen=True, kw_only=True):
    """A record, and since when by our steady clock it is as it is, as far as we have seen."""

    record: Record
    since: float


class Answer(StrEnum):
    """FREE: nobody has it. MINE: we have it already, by a try whose answer was lost. GONE: its holder's process is no more.
    STILL: it was not renewed for its whole duration. HELD: wait."""

    FREE = "free"
    MINE = "mine"
    GONE = "gone"
    STILL = "still"
    HELD = "held"


class Decision(Struct, frozen=True, kw_only=True):
    """`left` are the seconds until it counts as given up, should it stay as it is; 0 unless it is held."""

    answer: Answer
    left: float = 0.0

    @property
    def takes(self) -> bool:
        return self.answer in (Answer.FREE, Answer.GONE, Answer.STILL)


def sighted(before: Sight | None, record: Record, now: float) -> Sight:
    """What is seen now: as before since then, or something new."""
    return before if before is not None and before.record == record else Sight(record=record, since=now)


def decide(sight: Sight, now: float, *, mine: str, ended: bool, lasts: float) -> Decision:
    """`mine` is our own identity, `ended` whether the holder's process is certainly gone, `lasts` how long a Lease is that does
    not say it, in seconds."""
    record = sight.record
    if not record.holder:
        return Decision(answer=Answer.FREE)
    if record.holder == mine:
        return Decision(answer=Answer.MINE)
    if ended:
        return Decision(answer=Answer.GONE)
    left = sight.since + (record.lasts if record.lasts > 0 else lasts) - now
    return Decision(answer=Answer.HELD, left=left) if left > 0 else Decision(answer=Answer.STILL)
