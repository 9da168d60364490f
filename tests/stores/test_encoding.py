"""What stores write is JSON that anybody reads: the same values, always in the same order."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.stores.encoding import compact, indented

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda kids: st.lists(kids, max_size=4) | st.dictionaries(st.text(), kids, max_size=4),
    max_leaves=12,
)


@given(DOCUMENTS)
def test_what_is_written_is_read_again(document: Any) -> None:
    for written in (compact(document), indented(document)):
        assert json.loads(written) == document


@given(st.dictionaries(st.text(), LEAVES, min_size=2))
def test_the_order_of_keys_is_no_part_of_it(document: dict[str, Any]) -> None:
    other = dict(reversed(document.items()))
    assert compact(document) == compact(other)
    assert indented(document) == indented(other)


@given(DOCUMENTS)
def test_one_line_is_one_line(document: Any) -> None:
    assert b"\n" not in compact(document)


@pytest.mark.parametrize("write", [compact, indented])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_know_is_refused(write: Any, number: float) -> None:
    for document in (number, {"a": [1, {"b": number}]}, [(number,)]):
        with pytest.raises(ValueError, match="no JSON number"):
            write(document)


@pytest.mark.parametrize("write", [compact, indented])
def test_what_is_no_json_at_all_is_refused(write: Any) -> None:
    with pytest.raises(TypeError):
        write({"a": object()})


@pytest.mark.parametrize("odd", ["\ud800", "a\udfffb", 1 << 70, -(1 << 70)])
@pytest.mark.parametrize("write", [compact, indented])
def test_what_the_fast_writer_cannot_write_is_written_all_the_same(write: Any, odd: Any) -> None:
    assert json.loads(write({"b": odd, "a": 1})) == {"a": 1, "b": odd}
