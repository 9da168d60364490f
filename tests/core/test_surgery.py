"""Edits of the records: a row per refusal, and what must hold whatever is recorded."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.core.surgery import chosen, forget, move, moves
from reconciler.errors import NotFound, ReconcilerError, Refused
from reconciler.model.desired import Address
from reconciler.model.state import SandboxRecord, State, Status

NAMES = ("a", "b", "team-a", "a[0]", "a[1]", "a[10]", 'b["eu"]', 'b["us"]')
TARGETS = ("c", "c[0]", 'c["eu"]', "a[2]", "b[0]")


def record(address: str, **fields: object) -> SandboxRecord:
    made = SandboxRecord(
        address=Address(address),
        sandbox_id=f"id-{address}",
        backend="main",
        generation=1,
        status=Status.READY,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def state(*records: SandboxRecord) -> State:
    return State(stack="s", lineage="l", serial=7, sandboxes={r.address: r for r in records})


def recorded(*addresses: str) -> State:
    return state(*(record(address) for address in addresses))


@st.composite
def states(draw: st.DrawFn) -> State:
    """Records that may depend on each other and on what is not recorded any more."""
    addresses = draw(st.lists(st.sampled_from(NAMES), unique=True))
    others = st.sampled_from([*addresses, "gone"])
    return state(
        *(
            record(
                address,
                depends_on=tuple(draw(st.lists(others, max_size=3, unique=True))),
                triggers=draw(st.dictionaries(others, st.sampled_from(["x", "y"]), max_size=2)),
                status=draw(st.sampled_from(list(Status))),
                protected=draw(st.booleans()),
                spec=draw(st.sampled_from([{}, {"labels.team": "search"}])),
            )
            for address in addresses
        )
    )


class TestMove:
    def test_an_address_goes_to_another_with_all_that_is_recorded_of_it(self) -> None:
        before = recorded("a", "b")
        after = move(before, "a", "c[0]")
        assert after.sandboxes == {
            "c[0]": replace(before.sandboxes[Address("a")], address=Address("c[0]")),
            "b": before.sandboxes[Address("b")],
        }
        assert replace(after, sandboxes=before.sandboxes) == before

    def test_a_group_goes_to_a_group_and_each_keeps_its_key(self) -> None:
        before = recorded("a[0]", "a[10]", "a[2]", 'a["eu"]', "ab[0]", "b")
        assert list(moves(before, "a", "c").items()) == [
            ('a["eu"]', 'c["eu"]'),
            ("a[0]", "c[0]"),
            ("a[2]", "c[2]"),
            ("a[10]", "c[10]"),
        ]
        assert set(move(before, "a", "c").sandboxes) == {"c[0]", "c[10]", "c[2]", 'c["eu"]', "ab[0]", "b"}

    def test_a_name_that_is_an_address_itself_means_that_alone(self) -> None:
        assert set(move(recorded("a", "a[0]"), "a", "c").sandboxes) == {"c", "a[0]"}

    def test_others_depend_on_it_under_its_new_address(self) -> None:
        other = record("b", depends_on=("x", "a"), triggers={"a": "id-a/1", "x": "id-x/1"})
        moved = move(state(record("a"), other), "a", "c").sandboxes[Address("b")]
        assert moved.depends_on == ("x", "c")
        assert moved.triggers == {"c": "id-a/1", "x": "id-x/1"}

    def test_what_was_recorded_under_a_name_that_can_be_none_gets_away_from_there(self) -> None:
        assert set(move(recorded("a\x1b[2J"), "a\x1b[2J", "a").sandboxes) == {"a"}

    @pytest.mark.parametrize(
        ("source", "target", "error", "says", "hint"),
        [
            pytest.param("x", "c", NotFound, "nothing is recorded as x", "there is: a[0]", id="what is not recorded"),
            pytest.param("a[2]", "c", NotFound, "nothing is recorded as a[2]", "did you mean", id="a key that there is not"),
            pytest.param("b", "a[0]", Refused, "a[0] is recorded already", "state rm", id="onto another"),
            pytest.param("a", "d", Refused, "d[0], d[1] are recorded already", "state rm", id="a group onto another's keys"),
            pytest.param("b", "b", ReconcilerError, "to itself", "another", id="to itself"),
            pytest.param("a", "c[0]", ReconcilerError, "a is a group of 2", "state mv 'a[0]' 'c[0]'", id="a group to one address"),
            pytest.param("b", "", ReconcilerError, "'' can be no address", "quote them", id="to nothing"),
            pytest.param("b", "c[", ReconcilerError, "can be no address", "quote them", id="an open bracket"),
            pytest.param("b", "c[eu]", ReconcilerError, "can be no address", "quote them", id="a key without quotes, as a shell leaves it"),
            pytest.param("b", "c[07]", ReconcilerError, "can be no address", "quote them", id="a number that starts with nought"),
            pytest.param("b", 'c["a*"]', ReconcilerError, "can be no address", "quote them", id="a glob as a target"),
            pytest.param("b", "c\n", ReconcilerError, r"'c\n' can be no address", "quote them", id="a line break at the end"),
            pytest.param("b", "c\x1b[2J", ReconcilerError, r"'c\x1b[2J' can be no address", "quote them", id="an escape sequence"),
            pytest.param("../b", "c", ReconcilerError, "can be no address", "quote them", id="a path"),
        ],
    )  # fmt: skip
    def test_it_refuses(self, source: str, target: str, error: type, says: str, hint: str) -> None:
        with pytest.raises(ReconcilerError) as refused:
            move(recorded("a[0]", "a[1]", "b", "d[0]", "d[1]"), source, target)
        assert type(refused.value) is error
        assert says in refused.value.message
        assert hint in refused.value.hint

    @given(states(), st.sampled_from([*NAMES]), st.sampled_from([*NAMES, *TARGETS]))
    def test_there_and_back_is_where_it_was(self, before: State, source: str, target: str) -> None:
        try:
            renamed = moves(before, source, target)
        except ReconcilerError:
            return
        assume(target not in before.sandboxes)  # on the way back its name would mean that one alone
        # A target that groups others already would take them along on the way back.
        assume(not any(a.startswith(target + "[") for a in before.sandboxes) or source in before.sandboxes)
        there = move(before, source, target)
        assert (there.lineage, there.serial, there.released) == (
            before.lineage,
            before.serial,
            before.released,
        )
        assert len(there.sandboxes) == len(before.sandboxes)
        assert {r.sandbox_id for r in there.sandboxes.values()} == {
            r.sandbox_id for r in before.sandboxes.values()
        }
        assert not renamed.keys() & there.sandboxes.keys()
        assert not any(renamed.keys() & {*r.depends_on, *r.triggers} for r in there.sandboxes.values())
        assert all(address == r.address for address, r in there.sandboxes.items())
        assert move(there, target, source) == before


class TestForget:
    def test_its_object_is_noted_as_released(self) -> None:
        after = forget(recorded("a", "b"), ["a"])
        assert set(after.sandboxes) == {"b"}
        assert after.released == {("main", "id-a"): "a"}

    def test_what_was_released_before_stays_so(self) -> None:
        after = forget(forget(recorded("a", "b"), ["a"]), ["b"])
        assert after.released == {("main", "id-a"): "a", ("main", "id-b"): "b"}

    @pytest.mark.parametrize(
        ("patterns", "expected"),
        [
            (["a"], ["a[0]", "a[2]", "a[10]"]),
            (["a[2]"], ["a[2]"]),
            (["a*"], ["a[0]", "a[2]", "a[10]", "ab"]),
            (['region["e?"]'], ['region["eu"]']),
            (["ab", "a[0]", "ab"], ["a[0]", "ab"]),
            (["label:team=search"], ['region["eu"]']),
        ],
        ids=" ".join,
    )
    def test_it_takes(self, patterns: list[str], expected: list[str]) -> None:
        eu = record('region["eu"]', spec={"labels.team": "search"})
        assert (
            list(chosen(state(*recorded("a[10]", "a[2]", "a[0]", "ab").sandboxes.values(), eu), patterns))
            == expected
        )

    @pytest.mark.parametrize("patterns", [["x"], ["a", "x"], ["x*"], ["label:team=none"], [""], ["a["]])
    def test_a_pattern_that_means_nothing_stops_all_of_it(self, patterns: list[str]) -> None:
        with pytest.raises(NotFound, match="nothing is recorded as"):
            forget(recorded("a", "b"), patterns)

    @given(states(), st.data())
    def test_nothing_of_the_address_remains_and_its_object_is_released(
        self, before: State, data: st.DataObject
    ) -> None:
        assume(before.sandboxes)
        address = data.draw(st.sampled_from(sorted(before.sandboxes)))
        gone = chosen(before, [address])
        after = forget(before, [address])
        assert address in gone
        assert after.lineage == before.lineage
        assert after.sandboxes.keys() == before.sandboxes.keys() - set(gone)
        assert set(after.released) == {("main", before.sandboxes[a].sandbox_id) for a in gone}
        for kept in after.sandboxes.values():
            assert not set(gone) & {*kept.depends_on, *kept.triggers}
            was = before.sandboxes[kept.address]
            assert replace(kept, depends_on=was.depends_on, triggers=was.triggers) == was
