"""What `<stack>.lock` says: the fence, which only ever grows, and who holds the lock.

The bytes may be anybody's: whatever is not exactly a record of ours is refused by name, never half believed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from msgspec import Struct

from reconciler.errors import StateCorrupt, StateTooNew
from reconciler.stores.base import LockInfo
from reconciler.stores.encoding import indented
from reconciler.stores.file import disk

_FORMAT = "1.0"
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_LATEST = 1e11  # seconds since the epoch; the year 5138
_MOST_BYTES = 64 * 1024  # a record has some hundred


class Holder(Struct, frozen=True, kw_only=True):
    """A holder as recorded: what everybody is told, what only its own machine can make use of, and how often it has
    renewed its lease, which is the sign of life that others watch."""

    info: LockInfo
    boot: str
    started: str
    beats: int = 0

    @property
    def sign(self) -> tuple[str, int, int, float]:
        """What is another one after each sign of life."""
        return self.info.id, self.info.fence, self.beats, self.info.expires


class Record(Struct, frozen=True, kw_only=True):
    fence: int = 0
    holder: Holder | None = None

    @property
    def next_fence(self) -> int:
        """Above everything the record speaks of, also where somebody wrote in it."""
        return 1 + max(self.fence, 0 if self.holder is None else self.holder.info.fence)

    def encode(self) -> bytes:
        held = self.holder
        who = held and {
            **held.info.to_dict(),
            "boot": held.boot,
            "started": held.started,
            "beats": held.beats,
        }
        data = {"format": _FORMAT, "fence": self.fence, "holder": who}
        return indented(data) + b"\n"  # not with `json`, whose indenting leaves cycles behind


def read_record(path: Path) -> Record:
    """What the file says; nobody's when there is none. Raises StateTooNew, and StateCorrupt for what is none of ours."""
    import json

    data = disk.read_bytes(path, most=_MOST_BYTES)
    if data is None:
        return Record()
    try:
        return _decode(json.loads(data))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise StateCorrupt(
            f"the lock file {disk.shown(path)} is damaged",
            hint="remove it when no reconciler runs on this stack",
        ) from error
    except _Newer as newer:
        raise StateTooNew(
            f"the lock file {disk.shown(path)} is of the newer format {str(newer)[:20]!r}",
            hint="run the reconciler that wrote it, or a newer one",
        ) from None


class _Newer(Exception):
    pass


def _decode(data: Any) -> Record:
    form = data["format"]
    if form.partition(".")[0] != _FORMAT.partition(".")[0]:
        raise _Newer(form)
    held = data["holder"]
    holder = None if held is None else _holder(held)
    return Record(fence=_count(data["fence"]), holder=holder)


def _holder(held: Any) -> Holder:
    if _ID.fullmatch(held["id"]) is None:  # people are told to type it
        raise ValueError("an id that is none")
    info = LockInfo(
        id=held["id"],
        who=str(held["who"]),
        host=str(held["host"]),
        pid=_count(held["pid"]),
        operation=str(held["operation"]),
        since=float(held["since"]),
        expires=float(held["expires"]),
        fence=_count(held["fence"]),
    )
    if not (0 <= info.since < _LATEST and 0 <= info.expires < _LATEST):
        raise ValueError("a time that is none")
    beats = _count(held.get("beats", 0))
    return Holder(info=info, boot=str(held["boot"]), started=str(held["started"]), beats=beats)


def _count(value: Any) -> int:
    """A number that counts something. Raises ValueError for others, TypeError for what is no number."""
    if not isinstance(value, int):
        raise TypeError("no whole number")
    if not 0 <= value < 2**63:
        raise ValueError("a number that counts nothing")
    return value
