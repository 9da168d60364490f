"""The snapshot's format: stable when written, and nothing taken on trust when read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.errors import StateCorrupt, StateTooNew, StoreError
from reconciler.model.desired import Address
from reconciler.model.state import State
from reconciler.stores import snapshot
from reconciler.testing.store_conformance import STACK, a_state
from tests.stores.places import a_store
from tests.support.effort import effort

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/state.v1.schema.json").read_text())
ALLOWS = jsonschema_rs.validator_for(SCHEMA)
GOOD = snapshot.encode(a_state("a", 'b["eu"]', serial=3))


def decode(data: bytes | str) -> State:
    raw = data.encode() if isinstance(data, str) else data
    return snapshot.decode(raw, place="state/research.json", hint="look at state/research.json.backup")


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOOD)
    return found


def test_the_same_state_has_the_same_bytes() -> None:
    assert snapshot.encode(decode(GOOD)) == GOOD
    assert GOOD.endswith(b"}\n")
    assert list(document()) == sorted(document())
    assert GOOD.splitlines()[1].startswith(b'  "backends"')


def test_what_is_written_is_what_the_schema_describes() -> None:
    ALLOWS.validate(document())
    ALLOWS.validate(json.loads(snapshot.encode(State(stack="s", lineage="l"))))


def test_what_was_imported_is_marked_and_nothing_else_is() -> None:
    state = a_state("a", "b")
    mixed = state.with_record(replace(state.sandboxes[Address("a")], imported=True))

    written = json.loads(snapshot.encode(mixed))["sandboxes"]

    assert written["a"]["imported"] is True
    assert (
        "imported" not in written["b"]
    )  # as every state before there were imports: those read as not imported
    assert decode(snapshot.encode(mixed)) == mixed
    ALLOWS.validate(json.loads(snapshot.encode(mixed)))


def test_text_that_is_no_unicode_survives() -> None:
    state = State.from_dict({**document(), "outputs": {"name": "caf\udce9"}})
    assert decode(snapshot.encode(state)) == state


A = "sandboxes.a"
WRONG: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("a missing key", lambda d: d.pop("lineage"), "lineage is missing"),
    ("a missing key of a record", lambda d: d["sandboxes"]["a"].pop("status"), f"{A}.status is missing"),
    ("an unknown key", lambda d: d.update(extra=1), "extra is an unknown key"),
    (
        "an unknown key of a record",
        lambda d: d["sandboxes"]["a"].update(phase=1),
        f"{A}.phase is an unknown key",
    ),
    ("a serial in words", lambda d: d.update(serial="3"), 'serial is "3", expected a whole number'),
    ("a serial that is a truth value", lambda d: d.update(serial=True), "serial is true"),
    ("a serial below zero", lambda d: d.update(serial=-1), "serial is -1"),
    (
        "a fraction of a generation",
        lambda d: d["sandboxes"]["a"].update(generation=1.5),
        f"{A}.generation is 1.5",
    ),
    (
        "a status that there is not",
        lambda d: d["sandboxes"]["a"].update(status="well"),
        f'{A}.status is "well"',
    ),
    ("an empty lineage", lambda d: d.update(lineage=""), 'lineage is ""'),
    ("an address that is empty", lambda d: d["sandboxes"].update({"": {}}), "sandboxes has an empty name"),
    ("sandboxes as a list", lambda d: d.update(sandboxes=[]), "sandboxes is no object"),
    ("a record that is null", lambda d: d["sandboxes"].update(a=None), f"{A} is no object"),
    (
        "a spec with a list in it",
        lambda d: d["sandboxes"]["a"]["spec"].update(image=[]),
        f"{A}.spec.image is []",
    ),
    (
        "a dependency that is a number",
        lambda d: d["sandboxes"]["a"].update(depends_on=[1]),
        f"{A}.depends_on[0] is 1",
    ),
    (
        "dependencies as one text",
        lambda d: d["sandboxes"]["a"].update(depends_on="db"),
        f"{A}.depends_on is no list",
    ),
    (
        "an info without a URL",
        lambda d: d["sandboxes"]["a"]["info"].pop("sandbox_url"),
        "sandbox_url is missing",
    ),
    (
        "a port beyond the last",
        lambda d: d["sandboxes"]["a"]["info"].update(ports={"http": 65536}),
        "ports.http is",
    ),
    ("an output that is a number", lambda d: d["outputs"].update(url=1), "outputs.url is 1"),
    (
        "a backend without a type",
        lambda d: d["backends"]["main"].pop("type"),
        "backends.main.type is missing",
    ),
    (
        "a time that is no number",
        lambda d: d["sandboxes"]["a"].update(created_at="now"),
        f'{A}.created_at is "now"',
    ),
    (
        "an origin in words",
        lambda d: d["sandboxes"]["a"].update(imported="yes"),
        f'{A}.imported is "yes"',
    ),
    ("a format that is none", lambda d: d.update(format="one"), "does not begin with a format version"),
    ("a format before the first", lambda d: d.update(format="0.9"), "never was a state format 0.9"),
]


@pytest.mark.parametrize(("change", "says"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
def test_it_refuses(change: Callable[[dict[str, Any]], object], says: str) -> None:
    wrong = document()
    change(wrong)
    with pytest.raises(StateCorrupt, match=re.escape(says)) as refused:
        decode(json.dumps(wrong))
    assert refused.value.message.startswith("state/research.json is no state: ")
    assert "state/research.json.backup" in refused.value.hint
    assert not ALLOWS.is_valid(wrong)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (GOOD[:-3], "line "),
        (GOOD + b"}", "line "),
        (b"\xff" + GOOD, "is no UTF-8"),
        (b"\xef\xbb\xbf" + GOOD, "is no state"),
        (b"[" * 200_000, "is no state"),
        (b"null", "does not begin with a format version"),
        (GOOD.replace(b'"serial": 3', b'"serial": NaN'), "NaN"),
        (GOOD.replace(b'"serial": 3', b'"serial": ' + b"9" * 5000), "is no state"),
        (GOOD.replace(b'"updated_at": 0.0', b'"updated_at": 1e999'), "updated_at"),
        (GOOD.replace(b'"updated_at": 0.0', b'"updated_at": 1' + b"0" * 400), "updated_at"),
        (GOOD.replace(b'"serial": 3', b'"serial": 3, "serial": 4'), "'serial' stands there twice"),
    ],
    ids=[
        "nothing",
        "blank",
        "a file cut short",
        "a brace too many",
        "bytes that are no text",
        "a byte order mark",
        "endless nesting",
        "null",
        "NaN",
        "a number of thousands of digits",
        "infinity",
        "a time that no float holds",
        "a key twice",
    ],
)
def test_it_refuses_bytes(data: bytes, says: str) -> None:
    with pytest.raises(StateCorrupt, match=re.escape(says)) as refused:
        decode(data)
    assert refused.value.hint


@pytest.mark.parametrize("form", ["1.1", "2.0", "10.0"])
def test_a_newer_format_is_left_to_the_newer_version(form: str) -> None:
    newer = {"format": form, "everything": "else may be different"}
    with pytest.raises(StateTooNew, match=f"format {form}, this version knows up to 1") as refused:
        decode(json.dumps(newer))
    assert "update" in refused.value.hint


def test_the_state_of_another_stack_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{STACK}.json").write_text(json.dumps({**document(), "stack": "other"}))
    with pytest.raises(StateCorrupt, match="stack 'other', not of 'research'"):
        a_store(tmp_path).read()


def test_what_stands_where_a_secret_belongs_is_not_quoted() -> None:
    wrong = document()
    wrong["sandboxes"]["a"]["spec"]["secrets.TOKEN"] = ["hunter2"]
    with pytest.raises(StateCorrupt, match=r"secrets\.TOKEN is not shown, expected a plain value") as refused:
        decode(json.dumps(wrong))
    assert "hunter2" not in str(refused.value) + refused.value.hint


def test_everything_that_a_record_may_say_is_read_back() -> None:
    state = a_state("a", "b")
    full = replace(
        state.with_record(
            replace(
                state.sandboxes[Address("a")],
                protected=True,
                triggers={Address("b"): "sb-b"},
                healthy={"image": "aio:0"},
            )
        ),
        released={("main", "sb-old"): Address("old")},
    )
    assert decode(snapshot.encode(full)) == full
    ALLOWS.validate(json.loads(snapshot.encode(full)))


def test_a_state_that_could_not_be_read_back_is_never_encoded() -> None:
    with pytest.raises(StoreError, match="cannot be stored"):
        snapshot.encode(State(stack="s", lineage=""))
    with pytest.raises(StoreError, match="cannot be stored"):
        snapshot.encode(State(stack="s", lineage="l", updated_at=float("nan")))


def refused_or_read_as_it_stands(data: bytes) -> bool:
    try:
        state = decode(data)
    except StoreError:
        return True
    stands = json.loads(data)
    for record in stands["sandboxes"].values():
        if record["info"] is not None and record["info"].get("ports") == {}:
            del record["info"]["ports"]
    return bool(state.to_dict() == stands)


@settings(deadline=None, max_examples=effort(100, 10_000))
@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 4), st.binary(max_size=4)),
        min_size=1,
        max_size=4,
    )
)
def test_bytes_changed_at_random_are_refused_or_read_as_they_stand(
    edits: list[tuple[int, int, bytes]],
) -> None:
    data = bytearray(GOOD)
    for place, length, instead in edits:
        data[place : place + length] = instead
    assert refused_or_read_as_it_stands(bytes(data))


PLACES = [
    ("serial",),
    ("backends", "main", "options"),
    ("outputs", "url"),
    ("sandboxes", "a"),
    *(("sandboxes", "a", key) for key in document()["sandboxes"]["a"]),
    *(("sandboxes", "a", "info", key) for key in document()["sandboxes"]["a"]["info"]),
]
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=effort(100, 10_000))
@given(st.sampled_from(PLACES), anything)
def test_values_changed_at_random_are_refused_or_allowed_by_the_schema(
    place: tuple[str, ...], value: object
) -> None:
    changed = document()
    *path, last = place
    inner = changed
    for key in path:
        inner = inner[key]
    inner[last] = value
    data = json.dumps(changed).encode()
    assert refused_or_read_as_it_stands(data)
    try:
        decode(data)
    except StateCorrupt:
        return
    ALLOWS.validate(changed)
