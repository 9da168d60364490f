"""Everybody is told, whatever one of them does, and nobody is told a secret."""

from __future__ import annotations

from reconciler.model.drift import Cause
from reconciler.model.watching import Incident, IncidentKind, IncidentOpened, Looked, WatchEvent
from reconciler.operations.audience import Audience

LOOK = Looked(at=1.0, seconds=0.1, desired=1, observed=1, ready=1, drifted=0)
OPENED = IncidentOpened(
    incident=Incident(
        kind=IncidentKind.DRIFT, subject="web", summary="it said hush", at=1.0, cause=Cause.CRASHED
    )
)


def test_one_that_fails_keeps_the_event_from_nobody_and_is_told_once_without_its_words() -> None:
    told: list[str] = []
    heard: list[WatchEvent] = []

    def broken(event: WatchEvent) -> None:
        raise ValueError(f"hush {event}")

    audience = Audience([broken, heard.append], told=told.append)
    audience(LOOK)
    audience(OPENED)
    assert heard == [LOOK, OPENED]
    assert len(told) == 1
    assert "ValueError" in told[0]
    assert "hush" not in told[0]


def test_secrets_are_out_of_every_text() -> None:
    heard: list[WatchEvent] = []
    Audience([heard.append], told=lambda _: None, scrub=lambda text: text.replace("hush", "•••"))(OPENED)
    assert "hush" not in repr(heard)
    assert "it said •••" in repr(heard)
