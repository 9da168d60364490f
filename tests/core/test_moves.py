"""What moves keeps its object: with a state or by its labels alone, where labels can be changed and where not."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.core.moves import moved_state, renamed
from reconciler.errors import Refused
from reconciler.model.desired import Address, Desired, DesiredSandbox, Lifecycle
from reconciler.model.lifecycle import Move, Removal
from reconciler.model.plan import Action, Reason
from reconciler.model.state import State
from tests.core.life_cycles import THOROUGH
from tests.sim.world import World
from tests.support.build import desired, record, state, wanted

CHAIN = ("a", "b", "c", "d")


def renaming(*names: str) -> tuple[Move, ...]:
    return tuple(Move(source=one, target=other) for one, other in itertools.pairwise(names))


def group(name: str, backend: str, size: int | None, image: str = "one") -> list[DesiredSandbox]:
    """One sandbox, or as many replicas."""
    addresses = [name] if size is None else [f"{name}[{i}]" for i in range(size)]
    return [wanted(address, backend=backend, image=image) for address in addresses]


def with_moves(
    sandboxes: Sequence[DesiredSandbox], moves: tuple[Move, ...], removed: tuple[Removal, ...] = ()
) -> Desired:
    return replace(desired(*sandboxes), moved=moves, removed=removed)


def objects(world: World) -> set[str | None]:
    return {thing.info.container_id for thing in world.things.values()}


def settled(world: World, config: Desired, known: State | None) -> State:
    """After as many runs as it takes, none of which may make or take down anything."""
    after = known
    for _ in range(3):
        after, run = world.apply(config, after)
        assert {step.action for step in run.plan.steps} <= {Action.UPDATE, Action.ADOPT}
        if run.plan.empty:
            return after
    raise AssertionError(run.plan.text())


@pytest.mark.no_cover
@THOROUGH
@given(
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from(["main", "other"]),
    st.none() | st.integers(1, 3),
    st.sampled_from(["recorded", "lineage", "nothing"]),
)
def test_what_moved_is_never_made_again(
    moves: int, done: int, backend: str, size: int | None, memory: str
) -> None:
    """Along any part of a chain, of which the first moves were made in a run of their own."""
    world = World(random.Random(0), now=1.0)
    known, _ = world.apply(desired(*group("a", backend, size)), None)
    born = objects(world)
    done = min(done, moves)
    entries = renaming(*CHAIN[: moves + 1])
    if done:
        known = settled(world, with_moves(group(CHAIN[done], backend, size), entries[:done]), known)
    last = with_moves(group(CHAIN[moves], backend, size), entries)
    remembered = {"recorded": known, "lineage": replace(known, sandboxes={}), "nothing": None}[memory]
    after = settled(world, last, remembered)
    assert objects(world) == born
    assert sorted(after.sandboxes) == sorted(last.sandboxes)
    assert world.apply(last, after)[1].plan.empty


@pytest.mark.parametrize("backend", ["main", "other"])
def test_the_second_plan_after_a_move_is_empty(backend: str) -> None:
    world = World(random.Random(0), now=1.0)
    known, _ = world.apply(desired(*group("a", backend, 2)), None)
    config = with_moves(group("b", backend, 2), renaming("a", "b"))
    known, run = world.apply(config, known)
    assert [(move.source, move.target) for move in run.plan.moves] == [("a[0]", "b[0]"), ("a[1]", "b[1]")]
    relabels = backend == "main"
    assert [step.reason for step in run.plan.steps] == ([Reason.MOVED] * 2 if relabels else [])
    known, run = world.apply(config, known)
    assert run.plan.empty
    assert {t.owner.address for t in world.things.values() if t.owner} == (
        {"b[0]", "b[1]"} if relabels else {"a[0]", "a[1]"}
    )


@pytest.mark.parametrize("backend", ["main", "other"])
@pytest.mark.parametrize("create_first", [False, True])
@pytest.mark.parametrize("crash", [None, *range(7)])
def test_what_moved_and_is_replaced_in_one_plan_ends_as_one(
    backend: str, create_first: bool, crash: int | None
) -> None:
    world = World(random.Random(0), now=1.0)
    known, _ = world.apply(desired(*group("a", backend, None)), None)
    rules = Lifecycle(create_first=create_first)
    config = with_moves([wanted("b", backend=backend, image="two", lifecycle=rules)], renaming("a", "b"))
    known, _ = world.apply(config, known, crash_after=crash)
    world.pass_time(world.now + 10)
    for _ in range(2):
        known, run = world.apply(config, known)
    known, run = world.apply(config, known)
    assert run.plan.empty
    [thing] = world.things.values()
    assert thing.owner is not None
    assert (thing.owner.address, thing.flat["image"]) == ("b", "two")
    assert sorted(known.sandboxes) == ["b"]


@pytest.mark.parametrize("backend", ["main", "other"])
def test_a_name_that_is_declared_anew_gets_an_id_of_its_own(backend: str) -> None:
    """After the move its old address is somebody else's, though the moved object has that id for ever."""
    world = World(random.Random(0), now=1.0)
    known, _ = world.apply(desired(*group("a", backend, None)), None)
    moved = {t.info.sandbox_id for t in world.things.values()}
    known = settled(world, with_moves(group("b", backend, None), renaming("a", "b")), known)
    both = desired(*group("a", backend, None), *group("b", backend, None))
    known, run = world.apply(both, known)
    assert [(step.action, step.address) for step in run.plan.steps] == [(Action.CREATE, "a")]
    known, run = world.apply(both, known)
    assert run.plan.empty
    assert len(world.things) == 2
    assert known.sandboxes[Address("b")].sandbox_id in moved
    assert known.sandboxes[Address("a")].sandbox_id not in moved


def test_two_records_for_one_address_are_refused() -> None:
    known = state(record(wanted("a")), record(wanted("b")))
    with pytest.raises(Refused, match="a cannot move to b: both are recorded"):
        moved_state(known, renaming("a", "b"))


def test_what_names_the_moved_one_follows_it() -> None:
    follower = replace(record(wanted("app", depends_on=["a"])), triggers={Address("a"): "c1"})
    after, moves = moved_state(state(record(wanted("a")), follower), renaming("a", "b", "c"))
    assert after is not None
    assert [(move.source, move.target) for move in moves] == [("a", "c")]
    assert after.sandboxes[Address("app")].depends_on == ("c",)
    assert after.sandboxes[Address("app")].triggers == {"c": "c1"}


@pytest.mark.parametrize(
    ("address", "moves", "expected"),
    [
        pytest.param("a", renaming("a", "b"), "b", id="one"),
        pytest.param("a[0]", renaming("a", "b"), "b[0]", id="one of a group keeps its key"),
        pytest.param('a["eu"]', renaming("a", "b", "c"), 'c["eu"]', id="along a chain"),
        pytest.param("a", renaming("a", "b[0]"), "b[0]", id="one becomes the first of several"),
        pytest.param("a[0]", renaming("a", "b[0]"), "a[0]", id="several do not become one of several"),
        pytest.param("ab", renaming("a", "b"), "ab", id="no other name"),
    ],
)
def test_where_an_address_went(address: str, moves: tuple[Move, ...], expected: str) -> None:
    assert renamed(Address(address), moves) == expected


# -- what is let go --------------------------------------------------------------------------------------------------

BESIDE = wanted("beside")


def let_go(*sandboxes: DesiredSandbox) -> Desired:
    return with_moves([BESIDE, *sandboxes], (), (Removal(source="a", destroy=False),))


@pytest.mark.parametrize("backend", ["main", "other"])
@pytest.mark.parametrize("size", [None, 2])
def test_what_was_let_go_is_never_touched_again(backend: str, size: int | None) -> None:
    world = World(random.Random(0), now=1.0)
    known, _ = world.apply(desired(BESIDE, *group("a", backend, size)), None)
    free = {i: replace(t) for i, t in world.things.items() if t.owner and t.owner.address.startswith("a")}
    known, run = world.apply(let_go(), known)
    assert {(step.action, step.reason) for step in run.plan.steps} == {(Action.FORGET, Reason.LET_GO)}
    anew = group("a", backend, size, image="two")
    for config in (let_go(), desired(BESIDE), desired(BESIDE, *anew), desired(BESIDE)):
        known, run = world.apply(config, known)
        assert not run.refused
        assert {i: world.things[i] for i in free} == free
        assert world.apply(config, known)[1].plan.empty
    known, _ = world.apply(desired(BESIDE), known, destroy=True)
    assert world.things == free


def test_an_id_that_was_let_go_is_not_used_again_even_when_its_object_is_gone() -> None:
    world = World(random.Random(0), now=1.0)
    known, _ = world.apply(desired(BESIDE, wanted("a")), None)
    [free] = [i for i, t in world.things.items() if t.owner and t.owner.address == "a"]
    known, _ = world.apply(let_go(), known)
    del world.things[free]
    for _ in range(3):
        known, _ = world.apply(desired(BESIDE, wanted("a")), known)
        known, _ = world.apply(desired(BESIDE), known)
    assert free not in world.things
    known, _ = world.apply(desired(BESIDE, wanted("a")), known)
    assert known.sandboxes[Address("a")].sandbox_id != free


@pytest.mark.parametrize("crash", range(4))
def test_a_run_that_was_killed_while_it_let_go_destroys_nothing(crash: int) -> None:
    world = World(random.Random(0), now=1.0)
    known, _ = world.apply(desired(BESIDE, wanted("a"), wanted("b")), None)
    known, _ = world.apply(let_go(wanted("b", image="two")), known, crash_after=crash)
    world.pass_time(world.now + 10)
    known, _ = world.apply(let_go(wanted("b", image="two")), known)
    known, run = world.apply(let_go(wanted("b", image="two")), known)
    assert run.plan.empty
    assert len(world.things) == 3
