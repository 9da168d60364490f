"""The audit log on real disks: appended to by whole lines, never changed, and told of when it cannot be."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import jsonschema_rs
import pytest

from reconciler.errors import ReconcilerError
from reconciler.model.desired import Address
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.drift import Cause
from reconciler.model.plan import Action
from reconciler.model.watching import (
    Corrected,
    Incident,
    IncidentClosed,
    IncidentKind,
    IncidentOpened,
    LeadershipChanged,
    Looked,
    Reloaded,
    WatchEvent,
    WatchStarted,
    WatchStopped,
)
from reconciler.operations.audit import AuditLog
from tests.crash.test_damage import fill, small_disk

SCHEMA = Path(__file__).parents[2] / "schemas" / "audit.v1.schema.json"
INCIDENT = Incident(
    kind=IncidentKind.DRIFT, subject="web", summary="it was killed", at=1000.0, cause=Cause.KILLED
)
DONE = Corrected(
    at=1001.0, address=Address("web"), backend="local", sandbox_id="web-1", action=Action.REPAIR, reason="dead",
    cause=Cause.KILLED, seconds=1.0, took=0.5,
)  # fmt: skip
EVENTS: tuple[WatchEvent, ...] = (
    WatchStarted(at=999.0, stack="research", interval=30.0, backends={"local": True}),
    IncidentOpened(incident=INCIDENT),
    DONE,
    IncidentClosed(incident=INCIDENT, at=1002.0, how="put back"),
    Reloaded(at=1003.0, summary="3 sandboxes"),
    Reloaded(at=1004.0, problems=(Diagnostic(severity=Severity.ERROR, code="x", summary="\x1b[31mwrong"),)),
    LeadershipChanged(at=1005.0, leads=False, leader="ann@there", why="\x1b[31mlost"),
    WatchStopped(at=1005.0, why="asked to stop"),
)


class Kept:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: list[str] = []
        self.log = AuditLog(path, stack="research", version="1", told=self.told.append, now=lambda: 2000.0)

    def hear(self, *events: WatchEvent) -> None:
        for event in events:
            self.log(event)

    def lines(self, path: Path | None = None) -> list[dict[str, object]]:
        return [json.loads(line) for line in (path or self.path).read_text().splitlines() if line]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    made = Kept(tmp_path / "audit.log")
    yield made  # type: ignore[misc]
    made.log.close()


def test_each_event_but_a_look_is_a_line_by_the_schema(kept: Kept) -> None:
    kept.hear(*EVENTS, Looked(at=1.0, seconds=1.0, desired=1, observed=1, ready=1, drifted=0))
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text()))
    for line in kept.lines():
        validator.validate(line)
    assert [line["type"] for line in kept.lines()] == [
        "started", "incident_opened", "correction", "incident_closed", "reload", "reload", "leadership", "stopped",
    ]  # fmt: skip
    assert "\x1b" not in kept.path.read_text()
    assert stat.S_IMODE(kept.path.stat().st_mode) == 0o600


def test_what_is_there_is_appended_to(kept: Kept) -> None:
    kept.hear(DONE)
    kept.log.close()
    again = Kept(kept.path)
    again.hear(DONE)
    again.log.close()
    assert len(kept.lines()) == 2


def test_a_line_that_was_torn_by_a_crash_spoils_no_other(kept: Kept) -> None:
    kept.hear(DONE)
    kept.log.close()
    with kept.path.open("ab") as file:
        file.write(b'{"half')
    again = Kept(kept.path)
    again.hear(DONE)
    again.log.close()
    whole = [line for line in kept.path.read_text().splitlines() if line.endswith("}")]
    assert [json.loads(line)["type"] for line in whole] == ["correction", "correction"]


def test_after_a_rotation_it_goes_on_in_a_new_file(kept: Kept) -> None:
    kept.hear(DONE)
    rotated = kept.path.with_suffix(".1")
    os.rename(kept.path, rotated)
    kept.hear(DONE, DONE)
    assert (len(kept.lines(rotated)), len(kept.lines())) == (1, 2)
    os.unlink(kept.path)
    kept.log.reopen()
    kept.hear(DONE)
    assert len(kept.lines()) == 1
    assert kept.told == []


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "nowhere"])
def test_what_is_no_file_of_its_own_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "audit.log"
    match kind:
        case "link":
            (tmp_path / "victim").write_text("")
            path.symlink_to(tmp_path / "victim")
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "nowhere":
            path = tmp_path / "nowhere" / "audit.log"
    with pytest.raises(ReconcilerError, match="audit log") as raised:
        Kept(path)
    assert "regular file" in raised.value.hint


def test_a_link_that_takes_its_place_later_is_not_followed(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("")
    os.rename(kept.path, tmp_path / "aside")
    kept.path.symlink_to(tmp_path / "victim")
    kept.hear(DONE)
    assert (tmp_path / "victim").read_text() == ""
    assert len(kept.told) == 1


def test_a_full_disk_is_told_once_and_so_is_what_is_missing(tmp_path: Path) -> None:
    place = tmp_path / "log"
    place.mkdir()
    with small_disk(place):
        kept = Kept(place / "audit.log")
        kept.hear(DONE)
        filler = fill(place, but=0)
        kept.hear(*[DONE] * 200)
        assert len(kept.told) == 1
        assert "No space left" in kept.told[0]
        filler.unlink()
        kept.hear(DONE)
        kept.log.close()
        lines = [json.loads(line) for line in kept.path.read_text().splitlines() if line.endswith("}")]
        gap = next(line for line in lines if line["type"] == "gap")
        written = sum(line["type"] == "correction" for line in lines)
        assert written + gap["lost"] == 202
        assert lines[-1]["type"] == "correction"
        assert "can be written again" in kept.told[1]
