"""What hears a watch keeps no more of hundreds of incidents than of thirty, each of a sandbox that is never heard of again."""

from __future__ import annotations

import gc
import socket
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from reconciler.model.desired import Address, Secret
from reconciler.model.drift import Cause
from reconciler.model.plan import Action
from reconciler.model.watching import (
    Corrected,
    Incident,
    IncidentClosed,
    IncidentKind,
    IncidentOpened,
    Looked,
    Reloaded,
    WatchEvent,
)
from reconciler.operations.audience import Audience
from reconciler.operations.audit import AuditLog
from reconciler.operations.health import Health
from reconciler.operations.metrics import Metrics
from reconciler.operations.notify import Notifier, Pace, Webhook

FEW, MANY = 30, 600
ROOM = 5
OF_ITS_ROOM = 40 * ROOM  # things of so many notifications, of which more or fewer may wait just now
_HOLDING = (dict, list, tuple, set, frozenset, deque)
_NOT_KEPT = (type, ModuleType, threading.Thread)


def kept(*roots: object) -> int:
    """How many things can be reached from there, but for code and what belongs to the whole process, and how many places
    for things: keys that are texts are reached by nobody."""
    seen: dict[int, object] = {}
    waiting: list[object] = list(roots)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, _NOT_KEPT):
            continue
        seen[id(one)] = one
        waiting += (one.__closure__ or ()) if isinstance(one, FunctionType) else gc.get_referents(one)
    return len(seen) + sum(len(one) for one in seen.values() if isinstance(one, _HOLDING))


def incident(number: int) -> Iterator[WatchEvent]:
    """One sandbox that nobody knew before is found dead, put back, and never heard of again."""
    at, address = 1000.0 + number, Address(f"web[{number}]")
    found = Incident(kind=IncidentKind.DRIFT, subject=address, summary=f"{number}", at=at, cause=Cause.KILLED)
    yield Looked(at=at, seconds=0.1, desired=5, observed=5, ready=4, drifted=1, trigger="event")
    yield IncidentOpened(incident=found)
    yield Corrected(
        at=at, address=address, backend="local", sandbox_id=f"id-{number}", action=Action.REPAIR, reason="dead",
        cause=Cause.KILLED, seconds=1.0, took=1.0, error="" if number % 3 else f"failed for the {number}. time",
    )  # fmt: skip
    yield IncidentClosed(incident=found, at=at, how="put back")
    yield Reloaded(at=at, summary=f"{number} sandboxes are declared")


@pytest.fixture
def refused() -> Iterator[str]:
    """Nobody takes a notification there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/"


def test_hundreds_of_incidents_leave_no_more_than_thirty(tmp_path: Path, refused: str) -> None:
    metrics, health = Metrics(stack="months", version="1"), Health()
    audit = AuditLog(tmp_path / "audit.jsonl", stack="months", version="1", told=lambda _: None)
    notifier = Notifier(
        [Webhook(url=Secret(refused))],
        stack="months",
        version="1",
        told=lambda _: None,
        counted=metrics.notified,
        pace=Pace(first=60.0, room=ROOM),
    )
    broken: list[str] = []
    audience = Audience([health, metrics, audit, notifier], told=broken.append)

    def after(first: int, last: int) -> tuple[int, int]:
        for number in range(first, last):
            for event in incident(number):
                audience(event)
        return kept(audience), len(metrics.render()[0].splitlines())

    try:
        early, lines = after(0, FEW)
        late, more_lines = after(FEW, MANY)
    finally:
        notifier.close(0.0)
        audit.close()
    assert broken == []
    assert late <= early + OF_ITS_ROOM
    assert more_lines == lines
    assert len((tmp_path / "audit.jsonl").read_bytes().splitlines()) == 4 * MANY
