"""The journal as lines: one text an entry, packed a handful at a time. Pure.

The head holds the end of it; what grew too long stands in Secrets of its own, which the head names. All of it is after the
snapshot that the same head names, so it is never of another one.
"""

from __future__ import annotations

from collections.abc import Iterable

from reconciler.errors import StateCorrupt
from reconciler.model.outcome import Entry
from reconciler.stores import chained
from reconciler.stores.chain import Chain
from reconciler.stores.kubernetes import index
from reconciler.stores.sealing import Sealer

SEGMENT = 64 * 1024  # bytes of the journal that the head itself holds, and with it each append sends
_AWAY = (
    "move the journal away: take `journal` out of the head's data (`kubectl edit secret`); what is live is found again by "
    "its labels at the next plan"
)
_ADVICE = chained.Advice(restore=f"restore it from a backup, or {_AWAY}", away=_AWAY)


def encode(entries: Iterable[Entry], chain: Chain, sealer: Sealer) -> tuple[bytes, Chain]:
    """The entries' lines that hook into `chain`, and what the next hooks into."""
    texts, chain = chained.encode(entries, chain, sealer)
    return b"".join(text + b"\n" for text in texts), chain


def decode(packed: Iterable[bytes], snapshot: bytes, *, place: str, sealer: Sealer) -> chained.Journal:
    """Pieces, in order, of what comes after the snapshot of this text. Raises StateCorrupt, and StoreError where no key
    fits."""
    lines = b"".join(
        index.unpack(piece, place=f"the journal of {place}", hint=_ADVICE.restore) for piece in packed
    )
    texts = lines.split(b"\n")
    if texts.pop() != b"":
        raise StateCorrupt(f"the journal of {place} is cut short", hint=_ADVICE.restore)
    named = ((f"entry {number} of the journal of {place}", text) for number, text in enumerate(texts, 1))
    return chained.decode(named, snapshot, sealer=sealer, advice=_ADVICE)
