"""Plan files: what is written comes back and shows the same; what was touched, cut, or is of others is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.cli.views.human import plan_text
from reconciler.cli.views.json import plan_dicts
from reconciler.cli.views.style import PLAIN
from reconciler.config.documents import departure
from reconciler.core.plan_file import Unverified, decode, encode
from reconciler.errors import PlanFileBroken
from reconciler.model.desired import Address, DesiredSandbox, Output, Owner, SandboxSpec
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from reconciler.model.plan import Action, FieldChange, Moved, Plan, Reason, Rung, Selection, Step, Waves
from reconciler.model.position import Position
from reconciler.model.saved import Inputs, SavedPlan
from tests.support.effort import effort

KEY, OTHER_KEY = b"k" * 32, b"o" * 32

text = st.text(max_size=8)
names = st.text(min_size=1, max_size=8)
addresses = st.sampled_from(["a", "b[0]", "b[1]", 'c["é"]']).map(Address)
counts = st.integers(0, 2**40)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), text
)
places = st.builds(Position, file=text, line=st.integers(1, 99), column=st.integers(1, 99))
hashes = st.text(alphabet="0123456789abcdef", max_size=32)
owners = st.builds(
    Owner,
    stack=text,
    lineage=text,
    address=addresses,
    generation=counts,
    spec_hash=hashes,
    protected=st.booleans(),
)
observed = st.builds(
    ObservedSandbox,
    info=st.builds(
        SandboxInfo, sandbox_id=names, sandbox_url=st.just(""), container_id=st.one_of(st.none(), text)
    ),
    backend=text,
    phase=st.sampled_from(Phase),
    owner=st.one_of(st.none(), owners),
    detail=text,
)
changes = st.builds(
    FieldChange,
    path=text,
    before=scalars,
    after=scalars,
    forces_replacement=st.booleans(),
    outside=st.booleans(),
    sensitive=st.booleans(),
    position=st.one_of(st.none(), places),
)
diagnostics = st.builds(
    Diagnostic,
    severity=st.sampled_from(Severity),
    code=text,
    summary=text,
    fix=text,
    position=st.one_of(st.none(), places),
    snippet=text,
    width=st.integers(1, 9),
    related=st.lists(st.tuples(text, places), max_size=2).map(tuple),
)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    address, backend = draw(addresses), draw(names)
    wanted = DesiredSandbox(
        address=address,
        group=draw(names),
        backend=backend,
        spec=SandboxSpec(),
        position=draw(places),
        where=draw(st.dictionaries(st.sampled_from(["image", "environment", "environment.A"]), places)),
    )
    return Step(
        action=draw(st.sampled_from(Action)),
        address=address,
        backend=backend,
        reason=draw(st.sampled_from(Reason)),
        sandbox_id=draw(names),
        generation=draw(counts),
        desired=draw(st.sampled_from([None, wanted])),
        current=draw(st.one_of(st.none(), observed)),
        recorded_spec_hash=draw(hashes),
        spec=draw(st.dictionaries(st.sampled_from(["image", "environment.A", "secrets.T"]), scalars)),
        changes=draw(st.lists(changes, max_size=2).map(tuple)),
        unchanged=draw(counts),
        detail=draw(text),
        cost=draw(text),
        needs=draw(st.lists(names, max_size=2).map(tuple)),
        create_first=draw(st.booleans()),
        rungs=draw(st.lists(st.sampled_from(Rung), max_size=2).map(tuple)),
        passed_over=draw(st.lists(text, max_size=2).map(tuple)),
        wave=draw(st.integers(0, 3)),
        needed_by=draw(text),
        protected=draw(st.booleans()),
        because=draw(text),
        ignored=tuple(draw(st.lists(text, max_size=2))),
    )


plans = st.builds(
    Plan,
    stack=names,
    lineage=names,
    serial=counts,
    steps=st.lists(steps(), max_size=3).map(tuple),
    unchanged=st.lists(addresses, max_size=2).map(tuple),
    diagnostics=st.lists(diagnostics, max_size=2).map(tuple),
    outputs=st.dictionaries(
        names,
        st.builds(Output, name=names, value=text, position=places, sensitive=st.booleans()),
        max_size=2,
    ),
    lineage_found=st.booleans(),
    selection=st.builds(
        Selection,
        targets=st.lists(text, max_size=2).map(tuple),
        excludes=st.lists(text, max_size=2).map(tuple),
        replace=st.lists(text, max_size=2).map(tuple),
        refresh_only=st.booleans(),
        refresh=st.booleans(),
        destroy=st.booleans(),
    ),
    moves=st.lists(
        st.builds(Moved, source=addresses, target=addresses, position=st.one_of(st.none(), places)),
        max_size=2,
    ).map(tuple),
    rollouts=st.lists(
        st.builds(
            Waves,
            group=names,
            waves=st.lists(st.lists(names, max_size=2).map(tuple), max_size=2).map(tuple),
            size=counts,
            at_once=st.integers(1, 9),
            min_healthy=st.floats(0, 1e6),
            canary=st.booleans(),
            auto_revert=st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
    left_out=st.lists(addresses, max_size=2).map(tuple),
    refusals=st.lists(diagnostics, max_size=1).map(tuple),
    expiring=st.dictionaries(addresses, st.floats(0, 1e6)),
)
digests = st.text(alphabet="0123456789abcdef", min_size=32, max_size=32)
saved_plans = st.builds(
    SavedPlan,
    plan=plans,
    inputs=st.builds(
        Inputs,
        configuration=st.sampled_from(["", "a" * 64]),
        variables=st.dictionaries(names, digests.map("sha256:{}".format), max_size=2),
        secrets=digests.map("hmac-sha256:{}".format),
    ),
    made_at=st.floats(0, 1e10),
    tool=text,
)


def opened(data: bytes) -> Unverified:
    return decode(data, place="p.json", shape=lambda document: departure("plan", document))


def believed(data: bytes, key: bytes | None, stack: str) -> SavedPlan:
    return opened(data).verified(key=key, stack=stack)


@settings(max_examples=effort(75, 300), deadline=None)
@given(saved=saved_plans, key=st.sampled_from([None, KEY]))
def test_any_plan_comes_back_and_shows_the_same(saved: SavedPlan, key: bytes | None) -> None:
    data = encode(saved, key=key)
    found = believed(data, key, saved.plan.stack)
    assert encode(found, key=key) == data
    assert (found.inputs, found.made_at, found.tool) == (saved.inputs, saved.made_at, saved.tool)
    assert (found.keyed, found.forgeable) == (key is not None, False)
    assert found.plan.text() == saved.plan.text()
    assert found.plan.selection == saved.plan.selection
    assert list(plan_dicts(found.plan, operation="plan")) == list(plan_dicts(saved.plan, operation="plan"))
    assert plan_text(found.plan, width=100, style=PLAIN) == plan_text(saved.plan, width=100, style=PLAIN)
    for then, now in zip(saved.plan.steps, found.plan.steps, strict=True):
        assert replace(now, desired=None) == replace(then, desired=None)


def example() -> SavedPlan:
    step = Step(
        action=Action.REPLACE,
        address=Address("a"),
        backend="main",
        reason=Reason.CONFIG_CHANGED,
        sandbox_id="a-2",
        generation=2,
        current=ObservedSandbox(info=SandboxInfo("a-1", "http://a")),
        spec={"image": "two", "environment.A": "é", "resources.cpu": 1.5},
    )
    return SavedPlan(plan=Plan(stack="s", lineage="l", serial=3, steps=(step,)), tool="0.1", made_at=12.5)


@pytest.mark.parametrize("key", [None, KEY], ids=["with a plain code", "with a keyed code"])
def test_no_byte_can_be_changed_and_none_can_be_missing(key: bytes | None) -> None:
    whole = encode(example(), key=key)
    assert believed(whole, key, "s").plan.stack == "s"
    for at in range(len(whole)):
        for other in {whole[at] ^ 1, whole[at] ^ 0x20, ord(" "), ord("1"), 0x80} - {whole[at]}:
            with pytest.raises(PlanFileBroken):
                believed(whole[:at] + bytes([other]) + whole[at + 1 :], key, "s")
        with pytest.raises(PlanFileBroken):
            believed(whole[:at], key, "s")
        with pytest.raises(PlanFileBroken):
            believed(whole[:at] + b" " + whole[at:], key, "s")


def edited(change: Callable[[dict[str, Any]], None], *, key: bytes | None = KEY) -> bytes:
    """A file whose writer knows no key but takes every other care: its plain code is right."""
    document = json.loads(encode(example(), key=key))
    change(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def resigned(change: Callable[[dict[str, Any]], None]) -> bytes:
    """With a plain code that is right: what an attacker without the key can do."""
    document = json.loads(encode(example(), key=None))
    change(document)
    from reconciler.core.plan_file import _code

    body = {name: value for name, value in document.items() if name != "integrity"}
    document["integrity"]["code"] = _code(body, "sha256", None)
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(b"", "it is empty", id="an empty file"),
        pytest.param(b"version: 1\n", "line 1, column 1", id="YAML"),
        pytest.param(b'{"format":"1.0"}\n', "it is something else", id="JSON of something else"),
        pytest.param(b"[]\n", "it is something else", id="a list"),
        pytest.param(b"\xff\xfe", "byte 0 is no ASCII", id="bytes"),
        pytest.param(b"[" * 200_000, "it does not hold a plan", id="nested too deeply"),
        pytest.param(b'{"kind":NaN}\n', "NaN is no JSON value", id="a number that is none"),
        pytest.param(b"1" * 10_000, "it does not hold a plan", id="a number of ten thousand digits"),
        pytest.param(edited(lambda d: d.update(format="1.7")), "plan format 1.7, this version knows up to 1.0", id="a newer format"),
        pytest.param(edited(lambda d: d.update(format="0.9")), "never was a plan format 0.9", id="a format that never was"),
        pytest.param(edited(lambda d: d.pop("format")), "no format version", id="no format"),
        pytest.param(edited(lambda d: d.update(serial="3")), "serial is not as the schema has it", id="a wrong type"),
        pytest.param(edited(lambda d: d.pop("steps")), "the document is not as the schema has it", id="a missing key"),
        pytest.param(edited(lambda d: d.update(more=1)), "the document is not as the schema has it", id="an unknown key"),
        pytest.param(edited(lambda d: d["steps"][0].update(action="explode")), "steps.0.action is not", id="an unknown action"),
        pytest.param(edited(lambda d: d["integrity"].update(code="é" * 64)), "integrity.code is not", id="a code that is none"),
        pytest.param(json.dumps(json.loads(encode(example(), key=KEY)), indent=2).encode(), "not written as plans are", id="laid out anew"),
        pytest.param(edited(lambda d: d.update(serial=4)), "was changed after it was made, or its code was made with another key", id="another serial"),
        pytest.param(edited(lambda d: d["selection"].update(destroy=True)), "was changed after it was made", id="made to destroy all"),
        pytest.param(edited(lambda d: d.update(serial=4), key=None), "was changed after it was made", id="a plain one, changed"),
    ],
)  # fmt: skip
def test_what_is_no_plan_file_is_refused_with_what_is_wrong(data: bytes, told: str) -> None:
    with pytest.raises(PlanFileBroken) as raised:
        believed(data, KEY, "s")
    assert told in raised.value.message
    assert raised.value.message.startswith("p.json ")
    assert raised.value.hint


def test_a_plan_of_another_stack_says_which() -> None:
    with pytest.raises(PlanFileBroken, match="a plan for stack 's', and this configuration is of stack 't'"):
        believed(encode(example(), key=KEY), KEY, "t")


def test_another_key_does_not_vouch() -> None:
    with pytest.raises(PlanFileBroken, match="its code was made with another key"):
        believed(encode(example(), key=KEY), OTHER_KEY, "s")


def test_a_keyed_plan_is_not_believed_where_the_key_is_not() -> None:
    with pytest.raises(PlanFileBroken, match="a key that is not here"):
        believed(encode(example(), key=KEY), None, "s")


def test_who_has_no_key_can_make_a_plain_code_and_that_is_known() -> None:
    forged = resigned(lambda d: d["selection"].update(destroy=True))
    found = believed(forged, KEY, "s")
    assert (found.keyed, found.forgeable) == (False, True)
    found = believed(forged, None, "s")
    assert (found.keyed, found.forgeable) == (False, False)


def test_sensitive_outputs_and_observed_details_stay_out() -> None:
    plan = replace(
        example().plan,
        outputs={"o": Output(name="o", value="CANARY", position=Position("f", 1, 1), sensitive=True)},
    )
    data = encode(SavedPlan(plan=plan), key=KEY)
    assert b"CANARY" not in data
    assert b"http://a" not in data
