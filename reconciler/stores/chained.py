"""A journal of a store with a server: the text of each entry hooks into all before it and into that of the snapshot. Pure.

Where the store encrypts, each entry's text is sealed, and bound to that chain: no text opens anywhere but where it was
written. A journal is sealed from its first entry on, or in clear to its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from msgspec import Struct

from reconciler.errors import StateCorrupt
from reconciler.model.outcome import Entry, entry_from_dict
from reconciler.stores.chain import Chain
from reconciler.stores.encoding import compact
from reconciler.stores.sealing import Sealer, is_sealed


class Journal(Struct, frozen=True, kw_only=True):
    """A journal as read. `chain` is what the next entry hooks into, `fresh` whether all are as they would be written now."""

    entries: Sequence[Entry]
    chain: Chain
    fresh: bool


class Advice(Struct, frozen=True, kw_only=True):
    """What a person can do about a damaged journal: restore it from somewhere, or take it away."""

    restore: str
    away: str


def on(snapshot: bytes) -> Chain:
    """The chain of a journal that builds on a snapshot of this text."""
    return Chain().after(snapshot)


def encode(entries: Iterable[Entry], chain: Chain, sealer: Sealer) -> tuple[list[bytes], Chain]:
    """The entries' texts that hook into `chain`, and what the next hooks into."""
    texts = []
    for entry in entries:
        text = sealer.seal(chain.kind, compact(entry.to_dict()))
        texts.append(text)
        chain = chain.after(text)
    return texts, chain


def decode(texts: Iterable[tuple[str, bytes]], snapshot: bytes, *, sealer: Sealer, advice: Advice) -> Journal:
    """Each with where it stands, for messages, in order, as what comes after the snapshot of this text. Raises
    StateCorrupt, and StoreError where no key fits."""
    chain, found, first, fresh = on(snapshot), list[Entry](), b"", True
    for where, text in texts:
        if not found:
            first, fresh = text, sealer.fresh(text)
        _refuse_unlike(text, first, snapshot, sealer, where, advice)
        clear = sealer.open(chain.kind, text, place=where, hint=advice.restore)
        found.append(_entry(clear, where, advice))
        chain = chain.after(text)
    return Journal(entries=found, chain=chain, fresh=fresh)


def _refuse_unlike(
    text: bytes, first: bytes, snapshot: bytes, sealer: Sealer, where: str, advice: Advice
) -> None:
    """A text in clear where the others, or the snapshot, are sealed, or the other way round."""
    sealed = is_sealed(text)
    if sealed is not is_sealed(first):
        raise StateCorrupt(
            f"{where} is {'' if sealed else 'not '}encrypted, unlike those before it", hint=advice.restore
        )
    if sealer.seals and is_sealed(snapshot) and not sealed:
        raise StateCorrupt(
            f"{where} is not encrypted, but the snapshot, which it continues, is",
            hint=f"nothing of ours writes that; {advice.away}, and find out what did",
        )


def _entry(clear: bytes, where: str, advice: Advice) -> Entry:
    try:
        return entry_from_dict(json.loads(clear))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise StateCorrupt(
            f"{where} is no journal entry ({type(error).__name__}: {error})", hint=advice.restore
        ) from error
