"""The journal's bytes: one JSON object a line, each with a checksum, so that a torn tail can be told from damage.

A line is `{"crc":"xxxxxxxx","entry":…}`: CRC-32 of the entry's text, continued from the line before, in eight hex
digits. The chain makes a line that was lost, doubled or moved as visible as one that was changed. The first line's
entry is the header: what stack, lineage and snapshot serial the entries build on. A journal of an older serial is
contained in the snapshot already: that is what makes "write the snapshot, then empty the journal" safe to interrupt.

Where the store encrypts, each entry's text is sealed, the header's too, and bound to the chain of all lines before it: no
line opens anywhere but where it was written. A journal is sealed from its first line on, or in clear to its end.

A last line without its newline was never acknowledged; it is left out. Anything else that is not as written raises
StateCorrupt. Must never open a file.
"""

from __future__ import annotations

import re
from binascii import crc32
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct, field

from reconciler.errors import StateCorrupt, StateTooNew
from reconciler.model.outcome import Entry, entry_from_dict
from reconciler.stores.chain import Chain
from reconciler.stores.encoding import compact
from reconciler.stores.sealing import PLAIN, Sealer, is_sealed

_FORMAT = "1.0"
_LINE = re.compile(rb'\{"crc":"([0-9a-f]{8})","entry":(.*)\}', re.DOTALL)
_RESTORE = "restore the file from a backup, or move the journal away: what is live is found again by its labels at the next plan"


class Header(Struct, frozen=True, kw_only=True):
    """What the entries build on: the snapshot of serial `base`."""

    stack: str
    lineage: str
    base: int


class Link(Struct, frozen=True, kw_only=True):
    """Where the next line hooks in: the checksum of the last, and the chain of all."""

    crc: int = 0
    chain: Chain = field(default=Chain())

    def after(self, text: bytes, *, sealed: bool) -> Link:
        """The link once a line with this text follows. What is in clear hooks into the checksum alone."""
        chain = self.chain.after(text) if sealed else self.chain
        return Link(crc=crc32(text, self.crc), chain=chain)


class Journal(Struct, frozen=True, kw_only=True):
    """A journal as read. `size` counts the bytes up to the end of its last whole entry, after which `link` goes on.
    `sealed` says whether its lines are, `fresh` whether they are as they would be written now."""

    header: Header
    entries: tuple[Entry, ...]
    size: int
    link: Link
    sealed: bool
    fresh: bool


def encode_header(header: Header, sealer: Sealer = PLAIN) -> tuple[bytes, Link]:
    """The first line, and what the second hooks into."""
    return _line(
        {
            "kind": "journal",
            "format": _FORMAT,
            "stack": header.stack,
            "lineage": header.lineage,
            "base": header.base,
        },
        Link(),
        sealer,
    )


def encode_entries(entries: Iterable[Entry], link: Link, sealer: Sealer = PLAIN) -> tuple[bytes, Link]:
    """The lines of the entries that hook into `link`, and what the next hooks into."""
    lines = []
    for entry in entries:
        line, link = _line(entry.to_dict(), link, sealer)
        lines.append(line)
    return b"".join(lines), link


def _line(data: Mapping[str, Any], link: Link, sealer: Sealer) -> tuple[bytes, Link]:
    text = sealer.seal(link.chain.kind, compact(data))
    after = link.after(text, sealed=sealer.seals)
    return b'{"crc":"%08x","entry":%s}\n' % (after.crc, text), after


def decode(data: bytes, *, place: str, sealer: Sealer = PLAIN) -> Journal | None:
    """The journal, None when not even its header was acknowledged. `place` is the file's name, for messages.
    Raises StateCorrupt or StateTooNew, naming `place:line`, and StoreError where no key fits."""
    lines = data.split(b"\n")
    unfinished = lines.pop()
    texts: list[bytes] = []
    crc = size = 0
    for number, line in enumerate(lines, 1):
        text = _checked(line, crc)
        if text is None:
            raise _damaged(f"{place}:{number}", "is damaged: its checksum is wrong")
        texts.append(text)
        crc, size = crc32(text, crc), size + len(line) + 1
    last = _checked(unfinished, crc)
    if last is not None:  # whole but for its newline
        texts.append(last)
        size += len(unfinished)
    if not texts:
        return None
    sealed, link = is_sealed(texts[0]), Link()
    payloads = []
    for number, text in enumerate(texts, 1):
        payloads.append((_opened(text, link, sealer, f"{place}:{number}", sealed), number))
        link = link.after(text, sealed=sealed)
    return Journal(
        header=_header(payloads[0][0], f"{place}:1"),
        entries=tuple(_entry(payload, f"{place}:{number}") for payload, number in payloads[1:]),
        size=size,
        link=link,
        sealed=sealed,
        fresh=sealer.fresh(texts[0]),
    )


def _opened(text: bytes, link: Link, sealer: Sealer, where: str, sealed: bool) -> bytes:
    if is_sealed(text) is not sealed:
        raise _damaged(where, f"is {'not ' if sealed else ''}encrypted, unlike the lines before it")
    return sealer.open(link.chain.kind, text, place=where, hint=_RESTORE)


def _checked(line: bytes, crc: int) -> bytes | None:
    """The entry's text, None when the line is not as it was written."""
    match = _LINE.fullmatch(line)
    if match is None or int(match[1], 16) != crc32(match[2], crc):
        return None
    return match[2]


def _header(payload: bytes, where: str) -> Header:
    import json

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
    import json

    try:
        return entry_from_dict(json.loads(payload))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise _damaged(where, f"is no journal entry ({type(error).__name__}: {error})") from error


def _damaged(where: str, what: str) -> StateCorrupt:
    return StateCorrupt(f"{where} {what}", hint=_RESTORE)
