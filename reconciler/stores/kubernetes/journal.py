"""The journal as lines: one JSON text an entry, packed a handful at a time. Pure.

The head holds the end of it; what grew too long stands in Secrets of its own, which the head names. All of it is after the
snapshot that the same head names, so it is never of another one. Where the store encrypts, each entry's text is sealed, and
bound to all before it and to the very text of the snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from msgspec import Struct

from reconciler.errors import StateCorrupt
from reconciler.model.outcome import Entry, entry_from_dict
from reconciler.stores.chain import Chain
from reconciler.stores.kubernetes import index
from reconciler.stores.sealing import Sealer, is_sealed

SEGMENT = 64 * 1024  # bytes of the journal that the head itself holds, and with it each append sends
_AWAY = (
    "move the journal away: take `journal` out of the head's data (`kubectl edit secret`); what is live is found again by "
    "its labels at the next plan"
)
_RESTORE = f"restore it from a backup, or {_AWAY}"


class Journal(Struct, frozen=True, kw_only=True):
    """A journal as read. `chain` is what the next entry hooks into, `fresh` whether all are as they would be written now."""

    entries: Sequence[Entry]
    chain: Chain
    fresh: bool


def on(snapshot: bytes) -> Chain:
    """The chain of a journal that builds on a snapshot of this text."""
    return Chain().after(snapshot)


def encode(entries: Iterable[Entry], chain: Chain, sealer: Sealer) -> tuple[bytes, Chain]:
    """The entries' lines that hook into `chain`, and what the next hooks into."""
    lines = []
    for entry in entries:
        clear = json.dumps(entry.to_dict(), sort_keys=True, allow_nan=False, separators=(",", ":"))
        text = sealer.seal(chain.kind, clear.encode())
        lines.append(text)
        chain = chain.after(text)
    return b"".join(line + b"\n" for line in lines), chain


def decode(packed: Iterable[bytes], snapshot: bytes, *, place: str, sealer: Sealer) -> Journal:
    """Pieces, in order, of what comes after the snapshot of this text. Raises StateCorrupt, and StoreError where no key
    fits."""
    lines = b"".join(index.unpack(piece, place=f"the journal of {place}", hint=_RESTORE) for piece in packed)
    texts = lines.split(b"\n")
    if texts.pop() != b"":
        raise StateCorrupt(f"the journal of {place} is cut short", hint=_RESTORE)
    chain, found = on(snapshot), []
    for number, text in enumerate(texts, 1):
        where = f"entry {number} of the journal of {place}"
        _refuse_unlike(text, texts[0], snapshot, sealer, where)
        found.append(_decoded(sealer.open(chain.kind, text, place=where, hint=_RESTORE), where))
        chain = chain.after(text)
    return Journal(entries=found, chain=chain, fresh=not texts or sealer.fresh(texts[0]))


def _refuse_unlike(text: bytes, first: bytes, snapshot: bytes, sealer: Sealer, where: str) -> None:
    """A text in clear where the others, or the snapshot, are sealed, or the other way round."""
    sealed = is_sealed(text)
    if sealed is not is_sealed(first):
        raise StateCorrupt(
            f"{where} is {'' if sealed else 'not '}encrypted, unlike those before it", hint=_RESTORE
        )
    if sealer.seals and is_sealed(snapshot) and not sealed:
        raise StateCorrupt(
            f"{where} is not encrypted, but the snapshot, which it continues, is",
            hint=f"nothing of ours writes that; {_AWAY}, and find out what did",
        )


def _decoded(data: bytes, where: str) -> Entry:
    try:
        return entry_from_dict(json.loads(data))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise StateCorrupt(
            f"{where} is no journal entry ({type(error).__name__}: {error})", hint=_RESTORE
        ) from error
