"""The audit log: a JSON line per correction, incident, reload, start and stop (`schemas/audit.v1.schema.json`).

Only ever appended to, by one write a line. What cannot be written is counted, and the log itself says so when it goes on.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from reconciler.errors import ReconcilerError
from reconciler.model.harmless import harmless
from reconciler.model.watching import (
    Corrected,
    IncidentClosed,
    IncidentOpened,
    LeadershipChanged,
    Looked,
    Reloaded,
    WatchEvent,
    WatchStarted,
    WatchStopped,
)
from reconciler.operations.documents import (
    Document,
    correction_document,
    incident_document,
    line_of,
    text_of,
    time_of,
)

_FORMAT = "1.0"
_MODE = 0o600
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class AuditLog:
    """Raises ReconcilerError when the file cannot be opened now. A later failure goes to `told`, once until it works again,
    and that is told too. `now` in seconds since the epoch."""

    def __init__(
        self,
        path: Path,
        *,
        stack: str,
        version: str,
        told: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._stack = stack
        self._version = version
        self._told = told
        self._now = now
        self._lost = 0
        self._failing = False
        self._torn = False  # the file ends within a line
        self._asked = False  # to reopen; a plain flag, as a handler of signals may wait for no lock
        self._fd = -1
        try:
            self._open()
        except OSError as error:
            raise ReconcilerError(
                f"the audit log {harmless(str(path))} cannot be written: {_why(error)}",
                hint="name a regular file, no link, in a directory that this user may write to",
            ) from error

    def __call__(self, event: WatchEvent) -> None:
        document = self._document(event)
        if document is not None:
            self._append(document, sync=isinstance(event, Corrected))

    def reopen(self) -> None:
        """Open the file anew before the next line, after a rotation. From a signal handler or another thread too."""
        self._asked = True

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    # -- what is written

    def _document(self, event: WatchEvent) -> Document | None:
        match event:
            case Corrected():
                return self._entry("correction", event.at, correction_document(event))
            case IncidentOpened():
                incident = event.incident
                return self._entry(
                    "incident_opened", incident.at, {"incident": incident_document(self._stack, incident)}
                )
            case IncidentClosed():
                more = {
                    "incident": incident_document(self._stack, event.incident),
                    "how": text_of(event.how),
                    "seconds": round(event.seconds, 3),
                }
                return self._entry("incident_closed", event.at, more)
            case Reloaded():
                problems = [text_of(problem.summary) for problem in event.problems]
                outcome = "done" if event.ok else "refused"
                more = {"outcome": outcome, "summary": text_of(event.summary), "problems": problems}
                return self._entry("reload", event.at, more)
            case WatchStarted():
                more = {
                    "version": self._version,
                    "interval": event.interval,
                    "backends": sorted(event.backends),
                }
                return self._entry("started", event.at, {**more, "user": os.getuid()})
            case LeadershipChanged():
                more = {"leads": event.leads, "leader": text_of(event.leader), "why": text_of(event.why)}
                return self._entry("leadership", event.at, more)
            case WatchStopped():
                return self._entry("stopped", event.at, {"why": text_of(event.why)})
            case Looked():
                return None

    def _entry(self, kind: str, at: float, more: Document) -> Document:
        head = {"format": _FORMAT, "type": kind, "at": time_of(at), "stack": self._stack, "pid": os.getpid()}
        return {**head, **more}

    # -- how it is written

    def _append(self, document: Document, *, sync: bool) -> None:
        try:
            self._follow()
            if self._lost:
                self._write(line_of(self._entry("gap", self._now(), {"lost": self._lost})))
                self._lost = 0
            self._write(line_of(document))
        except OSError as error:
            self._lost += 1
            self._fail(error)
            return
        try:
            if sync:
                os.fsync(self._fd)
        except OSError as error:  # the line is there for now, and may not outlive a power cut
            self._fail(error)
            return
        if self._failing:
            self._failing = False
            self._told(f"the audit log {harmless(str(self._path))} can be written again")

    def _write(self, line: bytes) -> None:
        """All of it or an error. What a full disk left of a line ends there, so that the next one can be read."""
        piece = b"\n" + line if self._torn else line
        written = os.write(self._fd, piece)
        if 0 < written < len(piece):
            self._torn = piece[written - 1] != ord("\n")
        if written < len(piece):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False

    def _fail(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            self._told(
                f"the audit log {harmless(str(self._path))} cannot be written: {_why(error)}; what happens "
                "meanwhile is missing in it"
            )

    def _follow(self) -> None:
        """Have the file open that is at the path now: the one before may have been rotated away."""
        if self._asked or self._fd < 0 or not self._is_there():
            self._asked = False
            self.close()
            self._open()

    def _is_there(self) -> bool:
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except OSError:
            return False
        mine = os.fstat(self._fd)
        return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)

    def _open(self) -> None:
        fd = os.open(self._path, _FLAGS, _MODE)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file")
            self._torn = _is_torn(self._path, fd)
        except OSError:
            os.close(fd)
            raise
        self._fd = fd


def _is_torn(path: Path, fd: int) -> bool:
    """Whether the file ends within a line, as a machine that lost its power leaves it."""
    size = os.fstat(fd).st_size
    if not size:
        return False
    with suppress(OSError):
        reading = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.pread(reading, 1, size - 1) != b"\n"
        finally:
            os.close(reading)
    return True  # an empty line too many hurts nobody


def _why(error: OSError) -> str:
    return error.strerror or str(error)
