"""Who holds the lock, as the protocol tells it: JSON with the keys that Terraform gives it.

The server keeps little of it for certain. GitLab keeps the id alone, adds its own user and time, and answers with the
rest as whoever is refused has just sent it. So what tells a dead holder on this machine from a living one stands in the
id; and what stands in `Info` is believed only when it is about that very id. Must never call a holder dead that may live.
"""

from __future__ import annotations

import contextlib
import json
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from msgspec import Struct

from reconciler import __version__
from reconciler.stores.base import LockInfo
from reconciler.stores.host import Host

_LOOK = "look-"
_ID = re.compile(
    r"(look-)?[0-9a-f]{32}\.(?P<pid>[0-9]{1,10})\.(?P<machine>[0-9a-f]{12}|-)\.(?P<began>[0-9a-f]{12}|-)",
    re.ASCII,
)
_LONGEST = 255  # characters of anything that is told about a holder
_LATEST = 1e11  # seconds since the epoch; the year 5138


class Myself(Struct, frozen=True, kw_only=True):
    """This process, as a holder. `stack` is what it locks."""

    host: Host
    stack: str

    def holds(self, operation: str, *, now: float) -> LockInfo:
        """A lock of a new id. It has no end and no number: the protocol has neither."""
        return self._info(self._new_id(), operation, now)

    def looks(self, *, now: float) -> LockInfo:
        """A lock that is taken only to see whether somebody has it, and given back at once."""
        return self._info(_LOOK + self._new_id(), "lock show", now)

    def _info(self, lock_id: str, operation: str, now: float) -> LockInfo:
        return LockInfo(
            id=lock_id,
            who=self.host.who,
            host=self.host.name,
            pid=self.host.pid,
            operation=operation,
            since=now,
            expires=0.0,
            fence=0,
        )

    def _new_id(self) -> str:
        return f"{uuid.uuid4().hex}.{self.host.pid}.{self._machine}.{_short(self.host.began())}"

    @property
    def _machine(self) -> str:
        return _short(f"{self.host.name}\0{self.host.boot}") if self.host.boot else "-"

    def outlived(self, lock_id: str) -> bool:
        """Whether the lock is that of a process on this machine which is certainly gone."""
        found = _ID.fullmatch(lock_id)
        if found is None or found["machine"] == "-" or found["machine"] != self._machine:
            return False
        try:
            began = self.host.started(int(found["pid"]))
        except (OSError, OverflowError):
            return False
        return began is None or (found["began"] != "-" and found["began"] != _short(began))

    def written(self, info: LockInfo) -> bytes:
        """The body of a request that takes the lock or gives it back. Every key has to be there for some servers."""
        about = {**info.to_dict(), "about": "reconciler"}
        document = {
            "ID": info.id,
            "Operation": info.operation,
            "Info": json.dumps(about, sort_keys=True),
            "Who": info.who,
            "Version": f"reconciler {__version__}",
            "Created": datetime.fromtimestamp(info.since, UTC).isoformat().replace("+00:00", "Z"),
            "Path": self.stack,
        }
        return json.dumps(document).encode()


def is_look(info: LockInfo) -> bool:
    return info.id.startswith(_LOOK)


def told(body: bytes) -> LockInfo:
    """The holder as a refusal tells it. What it does not tell is "" or 0, all of it where the body is nothing we know:
    that somebody holds the lock is certain even then."""
    document: object = None
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
    if not isinstance(document, dict):
        document = {}
    lock_id = _text(document, "ID")
    about = _about(document)
    who = _text(document, "Who")
    if about.get("id") == lock_id != "":
        return _of_ours(lock_id, about)
    found = _ID.fullmatch(lock_id)
    return LockInfo(
        id=lock_id,
        who=who,
        host=who.rpartition("@")[2] if "@" in who else "",
        pid=int(found["pid"]) if found else 0,
        operation="" if about else _text(document, "Operation"),  # about another lock: the words of who asks
        since=_instant(_text(document, "Created")),
        expires=0.0,
        fence=0,
    )


def _about(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """What one of us wrote into `Info`; empty when it was not one of us."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(_text(document, "Info", longest=4096))
        if isinstance(found, dict) and found.get("about") == "reconciler":
            return found
    return {}


def _of_ours(lock_id: str, about: Mapping[str, Any]) -> LockInfo:
    pid, since = about.get("pid"), about.get("since")
    return LockInfo(
        id=lock_id,
        who=_text(about, "who"),
        host=_text(about, "host"),
        pid=pid if isinstance(pid, int) and 0 <= pid < 2**32 else 0,
        operation=_text(about, "operation"),
        since=float(since) if isinstance(since, (int, float)) and 0 <= since < _LATEST else 0.0,
        expires=0.0,
        fence=0,
    )


def _text(document: Mapping[str, Any], key: str, *, longest: int = _LONGEST) -> str:
    found = document.get(key)
    return found[:longest] if isinstance(found, str) else ""


def _instant(text: str) -> float:
    """Seconds since the epoch, 0.0 for what is no time."""
    with contextlib.suppress(ValueError, OverflowError):
        at = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text).removesuffix(" UTC"))
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
        return seconds if 0 <= seconds < _LATEST else 0.0
    return 0.0


def _short(text: str) -> str:
    """Twelve digits that stand for it; `-` for nothing."""
    return sha256(text.encode(errors="surrogateescape")).hexdigest()[:12] if text else "-"
