"""The journal that hooks into its snapshot, by itself: whole, sealed or not, and every way in which it is not as written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import StateCorrupt
from reconciler.stores import chained
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import created
from tests.stores.places import a_key, a_sealer

ADVICE = chained.Advice(restore="restore it", away="take it away")
SNAPSHOT = b"{}"
SEALED = a_sealer(a_key())
ENTRIES = [entry for name in "abc" for entry in created(name)]


def written(sealer: Sealer, snapshot: bytes = SNAPSHOT) -> list[bytes]:
    return chained.encode(ENTRIES, chained.on(snapshot), sealer)[0]


def read(texts: list[bytes], sealer: Sealer, snapshot: bytes = SNAPSHOT) -> chained.Journal:
    named = ((f"entry {number}", text) for number, text in enumerate(texts, 1))
    return chained.decode(named, snapshot, sealer=sealer, advice=ADVICE)


@pytest.mark.parametrize("sealer", [PLAIN, SEALED], ids=["clear", "sealed"])
def test_what_was_written_is_read_and_goes_on_where_it_ended(sealer: Sealer) -> None:
    texts, chain = chained.encode(ENTRIES[:3], chained.on(SNAPSHOT), sealer)
    more, end = chained.encode(ENTRIES[3:], chain, sealer)
    found = read([*texts, *more], sealer)
    assert found == chained.Journal(entries=ENTRIES, chain=end, fresh=True)


def test_none_is_fresh_and_hooks_into_the_snapshot() -> None:
    assert read([], SEALED) == chained.Journal(entries=[], chain=chained.on(SNAPSHOT), fresh=True)


def test_one_in_clear_is_not_as_a_store_that_encrypts_would_write_it_now() -> None:
    assert not read(written(PLAIN), SEALED).fresh


@given(st.permutations(range(len(ENTRIES))), st.integers(0, len(ENTRIES)))
def test_sealed_it_opens_in_its_order_alone(order: list[int], count: int) -> None:
    texts = written(SEALED)
    chosen = order[:count]
    if chosen == list(range(count)):
        assert list(read([texts[n] for n in chosen], SEALED).entries) == ENTRIES[:count]
    else:
        with pytest.raises(StateCorrupt):
            read([texts[n] for n in chosen], SEALED)


def test_sealed_it_is_of_one_snapshot_alone() -> None:
    with pytest.raises(StateCorrupt):
        read(written(SEALED), SEALED, b'{"serial": 2}')


@pytest.mark.parametrize(
    ("texts", "said", "hint"),
    [
        pytest.param(
            [written(PLAIN)[0], written(SEALED)[1]], "entry 2 is encrypted", "restore it", id="sealed"
        ),
        pytest.param(
            [written(SEALED)[0], written(PLAIN)[1]], "entry 2 is not encrypted", "restore it", id="in clear"
        ),
    ],
)
def test_one_unlike_those_before_it_is_refused(texts: list[bytes], said: str, hint: str) -> None:
    with pytest.raises(StateCorrupt, match=said) as caught:
        read(texts, SEALED)
    assert caught.value.hint == hint


def test_in_clear_after_a_sealed_snapshot_somebody_else_wrote_it() -> None:
    sealed = SEALED.seal("snapshot", SNAPSHOT)
    with pytest.raises(StateCorrupt, match="entry 1 is not encrypted, but the snapshot") as caught:
        read(written(PLAIN, sealed), SEALED, sealed)
    assert caught.value.hint is not None
    assert "take it away" in caught.value.hint


GARBAGE = {
    "no JSON": b"{",
    "no text": b"\xff",
    "a list": b"[]",
    "a number": b"1",
    "empty": b"",
    "no kind": b"{}",
    "another kind": written(PLAIN)[0].replace(b'"intent"', b'"wish"'),
    "a number beyond all": written(PLAIN)[0].replace(b'"generation":1', b'"generation":1e999'),
    "nested too deeply": b"[" * 100_000,
}


@pytest.mark.parametrize("text", GARBAGE.values(), ids=GARBAGE)
def test_what_is_no_entry_is_refused_by_its_place(text: bytes) -> None:
    with pytest.raises(StateCorrupt, match="entry 2 is no journal entry"):
        read([written(PLAIN)[0], text], PLAIN)
