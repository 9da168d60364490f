"""The head's table of contents: which Secrets are the state, its versions and its journal. Pure.

One Secret, named after the stack, is the head. It alone is ever replaced, always at the version that was read, so each change of
the state is one moment. What it names is written before it and never changed. Must never be believed before what it
names says the same.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.errors import ConfigError, StateCorrupt, StateTooNew

LAYOUT = 1
PREFIX = "state.sandbox-reconciler/"  # of every label here: none is one of a sandbox's
TYPE = "sandbox-reconciler/state"  # of the Secrets, for `kubectl get secret --field-selector type=…`
HEAD, SNAPSHOT, JOURNAL, KEY = "head", "snapshot", "journal", "key"
PART = 900 * 1024  # bytes of one Secret's content; it may hold 1 MiB
UNTOLD = -1  # in place of a number of sandboxes: what is sealed does not tell
MEND = "restore the Secrets of this store from a backup; what is live is found again by its labels"
_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")  # no dot: what follows one is ours
_LARGEST = 2**28  # bytes of a state, unpacked: a few hundred bytes can claim to be gigabytes


class Kept(Struct, frozen=True, kw_only=True):
    """One snapshot that was written, in the Secrets `parts`. `at` in seconds since the epoch, `size` in bytes."""

    serial: int
    lineage: str
    at: float
    sandboxes: int
    size: int
    parts: tuple[str, ...]


class Index(Struct, frozen=True, kw_only=True):
    """`fence` is that of the last holder of the lock; who has a lower one writes nothing. `write` names the write that this is
    of, so that one whose answer was lost is known again. `versions` are what was replaced, oldest first; `segments` the
    journal's Secrets before what stands in the head itself."""

    stack: str
    fence: int
    write: str
    snapshot: Kept | None = None
    versions: tuple[Kept, ...] = ()
    segments: tuple[str, ...] = ()

    def names(self) -> frozenset[str]:
        """Of every Secret that belongs to it."""
        there = (*self.versions, *([self.snapshot] if self.snapshot else []))
        return frozenset([*self.segments, *(part for kept in there for part in kept.parts)])

    def encode(self) -> bytes:
        document: dict[str, Any] = {
            "layout": LAYOUT,
            "stack": self.stack,
            "fence": self.fence,
            "write": self.write,
            "snapshot": None if self.snapshot is None else _document(self.snapshot),
            "versions": [_document(kept) for kept in self.versions],
            "segments": list(self.segments),
        }
        return json.dumps(document, separators=(",", ":")).encode()


class Head(Struct, frozen=True, kw_only=True):
    """The head as read: its index, the end of its journal, packed, and the object that it came in."""

    index: Index
    tail: bytes = b""
    object: Mapping[str, Any] = field(default_factory=dict)

    def next(self, **changes: Any) -> Head:
        """One whose index is another."""
        return replace(self, index=replace(self.index, **changes))


def head_of(found: Mapping[str, Any], *, place: str, stack: str) -> Head:
    """Raises StateCorrupt and StateTooNew."""
    try:
        document = json.loads(content(found, "index"))
        if document["layout"] > LAYOUT:
            raise StateTooNew(
                f"{place} has the layout {document['layout']}, this version knows up to {LAYOUT}",
                hint="update reconciler to at least the version that wrote it",
            )
        index = Index(
            stack=str(document["stack"]),
            fence=int(document["fence"]),
            write=str(document["write"]),
            snapshot=None if document["snapshot"] is None else _kept(document["snapshot"]),
            versions=tuple(_kept(one) for one in document["versions"]),
            segments=tuple(str(name) for name in document["segments"]),
        )
        tail = content(found, "journal")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise StateCorrupt(
            f"{place} is no head of a state ({type(error).__name__}: {error})", hint=MEND
        ) from error
    if index.stack != stack:
        raise StateCorrupt(
            f"{place} is of stack {index.stack!r}",
            hint="give each stack a name of its own under `state: {name: …}`, or none",
        )
    return Head(index=index, tail=tail, object=found)


def _document(kept: Kept) -> dict[str, Any]:
    return {name: getattr(kept, name) for name in Kept.__struct_fields__}


def _kept(document: Mapping[str, Any]) -> Kept:
    return Kept(
        serial=int(document["serial"]),
        lineage=str(document["lineage"]),
        at=float(document["at"]),
        sandboxes=int(document["sandboxes"]),
        size=int(document["size"]),
        parts=tuple(str(name) for name in document["parts"]),
    )


def marks(store: str, stack: str, part: str) -> dict[str, str]:
    """Labels of every object of the store: which store, which stack, and what of it."""
    return {
        "app.kubernetes.io/managed-by": "sandbox-reconciler",
        f"{PREFIX}store": store,
        f"{PREFIX}stack": stack,
        f"{PREFIX}part": part,
    }


def checked_name(name: str | None, stack: str) -> str:
    """The head's name. Raises ConfigError for one that a cluster, or a label, does not take."""
    chosen = f"reconciler-state-{stack}" if name is None else name
    if not _NAME.fullmatch(chosen):
        raise ConfigError(
            f"state: `name: {chosen}` cannot be the name of a Secret and a label's value",
            hint="use at most 63 of a-z, 0-9 and -, no dash first or last",
        )
    return chosen


def body(
    name: str,
    contents: Mapping[str, bytes],
    *,
    store: str,
    stack: str,
    part: str,
    fence: int,
    serial: int | None = None,
    of: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A Secret to be sent: in place of `of`, whose labels and owners others may have added to, or a new one."""
    labels = {**marks(store, stack, part), f"{PREFIX}fence": str(fence)}
    if serial is not None:
        labels[f"{PREFIX}serial"] = str(serial)
    metadata: dict[str, Any] = dict((of or {}).get("metadata") or {"name": name})
    metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    metadata.pop("managedFields", None)
    data = {key: base64.b64encode(value).decode() for key, value in contents.items()}
    made = {"metadata": metadata, "type": TYPE, "data": data}
    return made if part in (HEAD, KEY) else {**made, "immutable": True}


def content(found: Mapping[str, Any], key: str) -> bytes:
    """Of a Secret; b"" where it has nothing of that name. Raises ValueError."""
    text = (found.get("data") or {}).get(key) or ""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{key} is no base64") from error


def pack(data: bytes) -> bytes:
    return gzip.compress(data, 6, mtime=0)


def unpack(data: bytes, *, place: str, hint: str = MEND) -> bytes:
    """What `pack` was given, in one piece or in several. Raises StateCorrupt."""
    out, left, size = [], data, 0
    try:
        while left:
            stream = zlib.decompressobj(wbits=31)
            out.append(stream.decompress(left, _LARGEST - size))
            size += len(out[-1])
            if not stream.eof:
                raise StateCorrupt(f"{place} is cut short, or larger than {_LARGEST // 2**20} MiB", hint=hint)
            left = stream.unused_data
    except zlib.error as error:
        raise StateCorrupt(f"{place} is damaged: {error}", hint=hint) from error
    return b"".join(out)


def split(data: bytes, size: int = PART) -> Sequence[bytes]:
    """Pieces of at most `size` bytes, at least one."""
    return [data[at : at + size] for at in range(0, max(1, len(data)), size)]
