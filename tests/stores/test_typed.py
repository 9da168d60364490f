"""Records that are checked and made in one go are those that the check in words lets through, and the same."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import StateCorrupt
from reconciler.model.state import State
from reconciler.stores import snapshot
from reconciler.stores.typed import records_of

RECORD: dict[str, Any] = {
    "sandbox_id": "a-1",
    "backend": "main",
    "generation": 1,
    "status": "ready",
    "spec_hash": "abc",
    "spec": {"image": "one", "resources.cpu": 1.5, "ports.x.host": 80, "security.init": True},
    "info": {
        "sandbox_id": "a-1",
        "sandbox_url": "http://127.0.0.1:1",
        "container_name": None,
        "container_id": "c",
        "created_at": 1,
        "ports": {"x": 80},
    },
    "depends_on": ["b"],
    "created_at": 1.5,
    "updated_at": 2,
    "error": "",
    "imported": True,
    "protected": False,
    "triggers": {"b": "c abc"},
    "healthy": {"image": "zero"},
}
WHERE = [(key,) for key in RECORD] + [(part, key) for part in ("info", "spec") for key in RECORD[part]]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 70_000)
    | st.sampled_from([10**20, 10**400, 1e300, 1e308, float("inf"), -0.0, 1.0, "", "ready", "\ud800"])
    | st.text(max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)


def whole(records: Any) -> dict[str, Any]:
    head = {"format": "1.0", "stack": "s", "serial": 1, "lineage": "l", "updated_at": 1.0, "backends": {}}
    return {**head, "outputs": {}, "sandboxes": records}


def in_words(records: Any) -> State | None:
    """What the check in words makes of it."""
    document = whole(records)
    try:
        snapshot._STATE(document, "")
    except snapshot._Wrong:
        return None
    return State.from_dict(document)


@given(
    st.sampled_from(WHERE),
    st.sampled_from(["change", "remove", "add"]),
    VALUES,
    st.sampled_from(["a", "", "b[0]"]),
)
def test_what_is_taken_is_what_the_check_in_words_takes(
    where: tuple[str, ...], how: str, value: Any, address: str
) -> None:
    record = copy.deepcopy(RECORD)
    holder = record if len(where) == 1 else record[where[0]]
    if how == "change":
        holder[where[-1]] = value
    elif how == "remove":
        del holder[where[-1]]
    else:
        holder["more"] = value
    records = {address: record}
    made = records_of(records)
    if made is not None:
        told = in_words(records)
        assert told is not None, "taken, though the check in words refuses it"
        assert made == told.sandboxes
        for one, other in zip(made.values(), told.sandboxes.values(), strict=True):
            assert repr(one) == repr(other)  # an int is no float, and True is not 1


def test_a_whole_record_is_taken_at_once() -> None:
    made = records_of({"a": RECORD})
    assert made is not None
    assert records_of({"a": {key: RECORD[key] for key in list(RECORD)[:11]}}) is not None


def test_a_key_that_stands_twice_is_told_however_it_is_written() -> None:
    text = json.dumps(whole({"a": RECORD}), sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    assert snapshot.decode(text.encode(), place="p", hint="h").sandboxes.keys() == {"a"}
    twice = text.replace('"error": "",', '"error": "",\n      "error": "",')
    for data in (
        twice,
        twice.replace("\n", ""),
        json.dumps(json.loads(text)).replace('"error":', '"error": "", "error":'),
    ):
        with pytest.raises(StateCorrupt, match="twice"):
            snapshot.decode(data.encode(), place="p", hint="h")
