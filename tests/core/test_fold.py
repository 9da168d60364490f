"""The fold: one row per rule, and the properties that make a journal safe to replay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.core.fold import fold, fold_all
from reconciler.model.desired import Address, fingerprint
from reconciler.model.observed import SandboxInfo
from reconciler.model.outcome import Entry, Intent, Operation, Outcome
from reconciler.model.state import SandboxRecord, State, Status

A, B = Address("a"), Address("b")
OLD, NEW = {"image": "old"}, {"image": "new"}
OLD_HASH, NEW_HASH = fingerprint(OLD), fingerprint(NEW)
INFO, LATER_INFO = SandboxInfo("a-1", "http://old"), SandboxInfo("a-1", "http://new")


def record(**fields: object) -> SandboxRecord:
    base = SandboxRecord(
        address=A,
        sandbox_id="a-1",
        backend="main",
        generation=1,
        spec=OLD,
        spec_hash=OLD_HASH,
        info=INFO,
        status=Status.READY,
        depends_on=(B,),
        created_at=1.0,
        updated_at=2.0,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def intent(operation: Operation, sandbox_id: str = "a-1", **fields: object) -> Intent:
    base = Intent(
        at=10.0,
        operation=operation,
        address=A,
        sandbox_id=sandbox_id,
        backend="main",
        generation=1,
        spec=NEW,
        spec_hash=NEW_HASH,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def outcome(operation: Operation, sandbox_id: str = "a-1", **fields: object) -> Outcome:
    return Outcome(at=10.0, operation=operation, address=A, sandbox_id=sandbox_id, **fields)  # type: ignore[arg-type]


def state(*records: SandboxRecord | None) -> State:
    held = {r.address: r for r in records if r is not None}
    return State(stack="s", lineage="l", serial=4, sandboxes=held, updated_at=3.0)


PENDING = record(
    spec=NEW,
    spec_hash=NEW_HASH,
    info=None,
    status=Status.PENDING,
    depends_on=(),
    created_at=10.0,
    updated_at=10.0,
)
HALF_UPDATED = record(spec=NEW, spec_hash="", status=Status.CREATED, depends_on=(), updated_at=10.0)


@dataclass(frozen=True)
class Rule:
    says: str
    before: SandboxRecord | None
    entry: Entry
    after: SandboxRecord | None


RULES = (
    # intents
    Rule("a create that is meant is pending", None, intent(Operation.CREATE), PENDING),
    Rule(
        "a create of the next generation replaces the record whole",
        record(error="x"),
        intent(Operation.CREATE, "a-2", generation=2, depends_on=(B,)),
        replace(PENDING, sandbox_id="a-2", generation=2, depends_on=(B,), healthy=OLD),
    ),
    Rule(
        "a create tried again forgets the last error",
        replace(PENDING, error="x"),
        intent(Operation.CREATE),
        PENDING,
    ),
    Rule(
        "an update that is meant makes no spec trusted",
        record(),
        intent(Operation.UPDATE),
        replace(HALF_UPDATED, healthy=OLD),
    ),
    Rule(
        "an update of what is not recorded makes a record without an info",
        None,
        intent(Operation.UPDATE),
        replace(HALF_UPDATED, info=None, created_at=10.0),
    ),
    Rule(
        "an update of another object than the recorded one inherits nothing",
        record(sandbox_id="a-0"),
        intent(Operation.UPDATE),
        replace(HALF_UPDATED, info=None, created_at=10.0),
    ),
    Rule(
        "adopting says that it exists",
        None,
        intent(Operation.ADOPT),
        replace(PENDING, status=Status.CREATED),
    ),
    Rule(
        "adopting the recorded object keeps its age and its info",
        record(status=Status.TAINTED, error="x"),
        intent(Operation.ADOPT),
        record(spec=NEW, spec_hash=NEW_HASH, status=Status.CREATED, depends_on=(), updated_at=10.0),
    ),
    Rule(
        "a destroy that is meant is destroying and keeps the rest",
        record(error="x"),
        intent(Operation.DESTROY, spec={}, spec_hash=""),
        record(status=Status.DESTROYING, updated_at=10.0, healthy=OLD),
    ),
    Rule(
        "what was healthy is known through a replacement that was begun",
        record(status=Status.DESTROYING, healthy=OLD),
        intent(Operation.CREATE, "a-2", generation=2),
        replace(PENDING, sandbox_id="a-2", generation=2, healthy=OLD),
    ),
    Rule(
        "what was healthy before a failure stays known when that is tried again",
        record(spec=NEW, status=Status.TAINTED, healthy=OLD),
        intent(Operation.CREATE, "a-2", generation=2),
        replace(PENDING, sandbox_id="a-2", generation=2, healthy=OLD),
    ),
    Rule(
        "going back to what was healthy remembers it until that is ready: it may be interrupted",
        record(spec=NEW, status=Status.TAINTED, healthy=OLD),
        intent(Operation.CREATE, "a-2", generation=2, spec=OLD, spec_hash=OLD_HASH),
        replace(PENDING, sandbox_id="a-2", generation=2, spec=OLD, spec_hash=OLD_HASH, healthy=OLD),
    ),
    Rule(
        "what is ready is what was healthy last",
        record(spec=NEW, spec_hash=NEW_HASH, status=Status.CREATED, healthy=OLD),
        outcome(Operation.READY),
        record(spec=NEW, spec_hash=NEW_HASH, updated_at=10.0),
    ),
    Rule("what is let go has no record", record(), intent(Operation.RELEASE), None),
    Rule(
        "another object than the recorded one is let go without a word",
        record(),
        intent(Operation.RELEASE, "a-0"),
        record(),
    ),
    Rule(
        "destroying a leftover leaves the record alone", record(), intent(Operation.DESTROY, "a-0"), record()
    ),
    Rule("destroying what is not recorded makes no record", None, intent(Operation.DESTROY), None),
    # what others made
    Rule(
        "taking over what others made says so",
        None,
        intent(Operation.ADOPT, imported=True),
        replace(PENDING, status=Status.CREATED, imported=True),
    ),
    Rule(
        "taking over to change it says so, and makes no spec trusted",
        None,
        intent(Operation.UPDATE, imported=True),
        replace(HALF_UPDATED, info=None, created_at=10.0, imported=True),
    ),
    Rule(
        "taking over to replace it records the one that goes",
        None,
        intent(Operation.DESTROY, spec={}, spec_hash="", imported=True),
        replace(PENDING, spec={}, spec_hash="", status=Status.DESTROYING, imported=True),
    ),
    Rule(
        "what was taken over stays that when it is changed",
        record(imported=True),
        intent(Operation.UPDATE),
        replace(HALF_UPDATED, imported=True, healthy=OLD),
    ),
    Rule(
        "what was taken over stays that when it answers",
        record(status=Status.CREATED, imported=True),
        outcome(Operation.READY),
        record(imported=True, updated_at=10.0),
    ),
    Rule(
        "the one that comes in its place is our own",
        record(status=Status.DESTROYING, imported=True),
        intent(Operation.CREATE, "a-2"),
        replace(PENDING, sandbox_id="a-2"),
    ),
    Rule("meaning to forget forgets nothing yet", record(), intent(Operation.FORGET), record()),
    # outcomes of making it
    Rule(
        "a create that worked is created, with its info",
        PENDING,
        outcome(Operation.CREATE, info=INFO),
        replace(PENDING, status=Status.CREATED, info=INFO),
    ),
    Rule(
        "a create that failed may exist all the same",
        PENDING,
        outcome(Operation.CREATE, error="timeout"),
        replace(PENDING, error="timeout"),
    ),
    Rule(
        "an adoption that worked has the info",
        record(status=Status.CREATED, info=None, error="x"),
        outcome(Operation.ADOPT, info=LATER_INFO),
        record(status=Status.CREATED, info=LATER_INFO, updated_at=10.0),
    ),
    Rule(
        "an update that worked vouches for its spec again",
        HALF_UPDATED,
        outcome(Operation.UPDATE, info=LATER_INFO),
        replace(HALF_UPDATED, spec_hash=NEW_HASH, info=LATER_INFO),
    ),
    Rule(
        "an update that failed is tainted and vouches for no spec",
        HALF_UPDATED,
        outcome(Operation.UPDATE, error="refused"),
        replace(HALF_UPDATED, status=Status.TAINTED, error="refused"),
    ),
    Rule(
        "an answer makes it ready and clears the error",
        record(status=Status.TAINTED, error="x"),
        outcome(Operation.READY),
        record(updated_at=10.0),
    ),
    Rule(
        "an answer brings the newest info",
        record(status=Status.CREATED),
        outcome(Operation.READY, info=LATER_INFO),
        record(info=LATER_INFO, updated_at=10.0),
    ),
    Rule(
        "no answer taints it",
        record(status=Status.CREATED),
        outcome(Operation.READY, error="timed out"),
        record(status=Status.TAINTED, error="timed out", updated_at=10.0),
    ),
    # outcomes of ending it
    Rule(
        "a destroy that worked removes the record",
        record(status=Status.DESTROYING),
        outcome(Operation.DESTROY),
        None,
    ),
    Rule(
        "a destroy that failed is still destroying",
        record(status=Status.DESTROYING),
        outcome(Operation.DESTROY, error="busy", info=LATER_INFO),
        record(status=Status.DESTROYING, error="busy", updated_at=10.0),
    ),
    Rule(
        "a leftover that is gone leaves the record alone",
        record(),
        outcome(Operation.DESTROY, "a-0"),
        record(),
    ),
    Rule("forgetting removes the record", record(), outcome(Operation.FORGET), None),
    Rule(
        "forgetting another object leaves the record alone",
        record(),
        outcome(Operation.FORGET, "a-0"),
        record(),
    ),
    Rule(
        "late readiness does not call a destroy off",
        record(status=Status.DESTROYING),
        outcome(Operation.READY, info=LATER_INFO),
        record(status=Status.DESTROYING),
    ),
    # strangers
    *(
        Rule(f"{operation} of an unknown address is ignored", None, outcome(operation, info=INFO), None)
        for operation in Operation
    ),
    *(
        Rule(f"{operation} of another generation is ignored", record(), outcome(operation, "a-2"), record())
        for operation in Operation
    ),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.says)
def test_rule(rule: Rule) -> None:
    neighbour = record(address=B, sandbox_id="b-1")
    assert fold(state(rule.before, neighbour), rule.entry).sandboxes == state(rule.after, neighbour).sandboxes


def test_a_run_that_dies_between_intent_and_outcome_of_an_update_is_looked_at_again() -> None:
    """Guards against trusting either spec: an empty hash equals neither the old fingerprint nor the new one."""
    died = fold(state(record()), intent(Operation.UPDATE)).sandboxes[A]
    assert died.spec_hash not in (OLD_HASH, NEW_HASH)
    assert died.sandbox_id == "a-1"


def test_an_entry_that_changes_nothing_returns_the_very_state() -> None:
    before = state(record())
    assert fold(before, outcome(Operation.DESTROY, "a-0")) is before


# --- properties: complete runs, as an engine writes them

addresses = st.sampled_from([Address("a"), Address("b"), Address("c[0]")])
infos = st.none() | st.builds(SandboxInfo, st.just("x"), st.sampled_from(["http://1", "http://2"]))
errors = st.sampled_from(["", "", "it broke"])
specs = st.sampled_from([OLD, NEW, {}])


@st.composite
def operations(draw: st.DrawFn) -> tuple[Entry, ...]:
    """One operation on one object: intent, outcome, verdict; cut off where the process was killed."""
    operation = draw(
        st.sampled_from(
            [Operation.CREATE, Operation.UPDATE, Operation.ADOPT, Operation.DESTROY, Operation.FORGET]
        )
    )
    address = draw(addresses)
    sandbox_id = f"{address}-{draw(st.integers(0, 2))}"
    flat, at = draw(specs), draw(st.floats(0, 1000))
    meant = Intent(
        at=at,
        operation=operation,
        address=address,
        sandbox_id=sandbox_id,
        backend=draw(st.sampled_from(["main", "other"])),
        generation=draw(st.integers(0, 3)),
        spec=flat,
        spec_hash=fingerprint(flat),
        imported=draw(st.booleans()) and operation is not Operation.CREATE,
    )
    error = draw(errors)
    did = Outcome(
        at=at + 1, operation=operation, address=address, sandbox_id=sandbox_id, info=draw(infos), error=error
    )
    entries: tuple[Entry, ...] = (meant, did)
    if operation in (Operation.CREATE, Operation.UPDATE, Operation.ADOPT) and not error:
        entries += (replace(did, at=at + 2, operation=Operation.READY, info=draw(infos), error=draw(errors)),)
    return entries[: draw(st.integers(1, len(entries)))]


@st.composite
def journals(draw: st.DrawFn) -> list[Entry]:
    return [entry for operation in draw(st.lists(operations(), max_size=8)) for entry in operation]


def folded_one_by_one(before: State, entries: Iterable[Entry]) -> State:
    for entry in entries:
        before = fold(before, entry)
    return before


@settings(deadline=None)
@given(journals(), journals())
def test_folding_all_is_folding_each(earlier: list[Entry], later: list[Entry]) -> None:
    before = fold_all(state(), earlier)
    assert fold_all(before, later) == folded_one_by_one(before, later)


@settings(deadline=None)
@given(journals(), journals())
def test_folding_in_parts_is_folding_at_once(first: list[Entry], second: list[Entry]) -> None:
    assert fold_all(fold_all(state(), first), second) == fold_all(state(), first + second)


@example(
    [],
    [
        intent(Operation.DESTROY),
        outcome(Operation.DESTROY, error="busy", info=LATER_INFO),
        intent(Operation.UPDATE),
    ],
)
@settings(deadline=None)
@given(journals(), journals())
def test_replaying_a_journal_that_is_contained_already_changes_nothing(
    earlier: list[Entry], journal: list[Entry]
) -> None:
    """But for what was healthy: where the very id was destroyed as a leftover that is created next, the second reading takes
    that for the end of the record, and what it was healthy with before is forgotten."""
    once = fold_all(fold_all(state(), earlier), journal)
    assert _but_for_health(fold_all(once, journal)) == _but_for_health(once)


def _but_for_health(folded: State) -> State:
    return replace(folded, sandboxes={a: replace(r, healthy=None) for a, r in folded.sandboxes.items()})


@settings(deadline=None)
@given(journals())
def test_a_record_vouches_only_for_the_spec_it_holds(journal: list[Entry]) -> None:
    for kept in fold_all(state(), journal).sandboxes.values():
        assert kept.spec_hash in ("", fingerprint(kept.spec))


@settings(deadline=None)
@given(journals())
def test_a_record_is_of_its_address_and_survives_storing(journal: list[Entry]) -> None:
    after = fold_all(state(), journal)
    assert all(address == kept.address for address, kept in after.sandboxes.items())
    assert State.from_dict(after.to_dict()) == after


@settings(deadline=None)
@given(journals())
def test_everything_that_was_begun_and_not_ended_is_on_record(journal: list[Entry]) -> None:
    """No orphan: the object that the last intent of an address was about is recorded, unless its end is known."""
    after = fold_all(state(), journal).sandboxes
    for address in {entry.address for entry in journal}:
        mine = [e for e in journal if e.address == address]
        means = (Operation.CREATE, Operation.UPDATE, Operation.ADOPT)
        meant = [
            i
            for i, e in enumerate(mine)
            if isinstance(e, Intent)
            and (e.operation in means or (e.imported and e.operation is Operation.DESTROY))
        ]
        if not meant:
            continue
        last, *since = mine[meant[-1] :]
        ended = any(
            isinstance(e, Outcome)
            and e.operation in (Operation.DESTROY, Operation.FORGET)
            and e.ok
            and e.sandbox_id == last.sandbox_id
            for e in since
        )
        if ended:
            assert address not in after
        else:
            assert after[address].sandbox_id == last.sandbox_id


@settings(deadline=None)
@given(journals())
def test_folding_never_touches_what_it_was_given(journal: list[Entry]) -> None:
    before = state(record())
    copy = before.to_dict()
    fold_all(before, journal)
    assert before.to_dict() == copy


def test_what_is_let_go_is_remembered_until_it_is_taken_over_again() -> None:
    gone = fold(state(record()), intent(Operation.RELEASE))
    assert gone.released == {("main", "a-1"): A}
    assert State.from_dict(gone.to_dict()) == gone
    assert fold(gone, intent(Operation.ADOPT)).released == {}
    assert fold(gone, intent(Operation.CREATE, "a-2")).released == {("main", "a-1"): A}
