"""The journal's bytes: one JSON object a line, each with a checksum, so that a torn tail can be told from damage.

A line is `{"crc":"xxxxxxxx","entry":…}`: CRC-32 of the entry's text, continued from the line before, in eight hex
digits. The chain makes a line that was lost, doubled or moved as visible as one that was changed. The first line's
entry is the header: what stack, lineage and snapshot serial the entries build on. A journal of an older serial is
contained in the snapshot already: that is what makes "write the snapshot, then empty the journal" safe to interrupt.

A last line without its newline was never acknowledged; it is left out. Anything else that is not as written raises
StateCorrupt. Must never open a file.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reconciler.errors import StateCorrupt, StateTooNew
from reconciler.model.outcome import Entry, entry_from_dict

_FORMAT = "1.0"
_LINE = re.compile(rb'\{"crc":"([0-9a-f]{8})","entry":(.*)\}', re.DOTALL)
_AWAY = "move the journal away: what is live is found again by its labels at the next plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the entries build on: the snapshot of serial `base`."""

    stack: str
    lineage: str
    base: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """A journal as read. `size` counts the bytes up to the end of its last whole entry, whose checksum is `crc`."""

    header: Header
    entries: tuple[Entry, ...]
    size: int
    crc: int


def encode_header(header: Header) -> tuple[bytes, int]:
    """The first line and its checksum."""
    return _line(
        {
            "kind": "journal",
            "format": _FORMAT,
            "stack": header.stack,
            "lineage": header.lineage,
            "base": header.base,
        },
        0,
    )


def encode_entries(entries: Iterable[Entry], crc: int) -> tuple[bytes, int]:
    """The lines of the entries that follow a line of checksum `crc`, and the checksum of the last."""
    lines = []
    for entry in entries:
        line, crc = _line(entry.to_dict(), crc)
        lines.append(line)
    return b"".join(lines), crc


def _line(data: Mapping[str, Any], crc: int) -> tuple[bytes, int]:
    text = json.dumps(data, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()
    crc = zlib.crc32(text, crc)
    return b'{"crc":"%08x","entry":%s}\n' % (crc, text), crc


def decode(data: bytes, *, place: str) -> Journal | None:
    """The journal, None when not even its header was acknowledged. `place` is the file's name, for messages.
    Raises StateCorrupt or StateTooNew, naming `place:line`."""
    lines = data.split(b"\n")
    unfinished = lines.pop()
    payloads: list[tuple[bytes, int]] = []
    crc = size = 0
    for number, line in enumerate(lines, 1):
        payload = _checked(line, crc)
        if payload is None:
            raise _damaged(f"{place}:{number}", "is damaged: its checksum is wrong")
        payloads.append((payload, number))
        crc, size = zlib.crc32(payload, crc), size + len(line) + 1
    last = _checked(unfinished, crc)
    if last is not None:  # whole but for its newline
        payloads.append((last, len(lines) + 1))
        crc, size = zlib.crc32(last, crc), size + len(unfinished)
    if not payloads:
        return None
    return Journal(
        header=_header(payloads[0][0], f"{place}:1"),
        entries=tuple(_entry(payload, f"{place}:{number}") for payload, number in payloads[1:]),
        size=size,
        crc=crc,
    )


def _checked(line: bytes, crc: int) -> bytes | None:
    """The entry's text, None when the line is not as it was written."""
    match = _LINE.fullmatch(line)
    if match is None or int(match[1], 16) != zlib.crc32(match[2], crc):
        return None
    return match[2]


def _header(payload: bytes, where: str) -> Header:
    try:
        data = json.loads(payload)
        kind, form = data["kind"], data["format"]
        header = Header(stack=str(data["stack"]), lineage=str(data["lineage"]), base=int(data["base"]))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _damaged(where, "is no journal header") from error
    if kind != "journal":
        raise _damaged(where, "is no journal header")
    if form != _FORMAT:
        raise StateTooNew(
            f"{where} has the journal format {form}, this version knows {_FORMAT}",
            hint="update reconciler to at least the version that wrote it",
        )
    return header


def _entry(payload: bytes, where: str) -> Entry:
    try:
        return entry_from_dict(json.loads(payload))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise _damaged(where, f"is no journal entry ({type(error).__name__}: {error})") from error


def _damaged(where: str, what: str) -> StateCorrupt:
    return StateCorrupt(f"{where} {what}", hint=f"restore the file from a backup, or {_AWAY}")
