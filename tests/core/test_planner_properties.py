"""Properties of planning, from any configuration, any state and any world."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.core.identity import sandbox_id
from reconciler.core.planner import make_plan
from reconciler.core.references import mark
from reconciler.errors import ObservationIncomplete, Refused
from reconciler.model.desired import Address, Desired, DesiredSandbox, Owner, fingerprint
from reconciler.model.observed import Observed, ObservedSandbox, Phase, SandboxInfo
from reconciler.model.state import State, Status
from tests.sim.world import Thing, World
from tests.support.build import desired, options, record, state, wanted
from tests.support.effort import effort

pytestmark = pytest.mark.no_cover

LINEAGE = "lineage-1"
ADDRESSES = ("a", "b", "c[0]", "c[1]", 'd["x"]')
SLOW = settings(max_examples=effort(125, 500), deadline=None, suppress_health_check=[HealthCheck.too_slow])

backends = st.sampled_from(["main", "other"])
images = st.sampled_from(["one", "two"])
tiers = st.sampled_from(["x", "y"])


@st.composite
def configurations(draw: st.DrawFn) -> Desired:
    chosen = draw(st.lists(st.sampled_from(ADDRESSES), unique=True))
    sandboxes: list[DesiredSandbox] = []
    for address in chosen:
        earlier = [s.address for s in sandboxes]
        needs = draw(st.lists(st.sampled_from(earlier), max_size=2, unique=True)) if earlier else []
        refers = needs[:1] if draw(st.booleans()) else []
        sandboxes.append(
            wanted(
                address,
                backend=draw(backends),
                image=draw(images),
                labels={"tier": draw(tiers)},
                environment={"PEER": mark(Address(refers[0]), "url")} if refers else {},
                depends_on=[n for n in needs if n not in refers],
                create_first=draw(st.booleans()),
                references=refers,
            )
        )
    return desired(*sandboxes)


def variant(draw: st.DrawFn, address: str) -> DesiredSandbox:
    return wanted(address, backend=draw(backends), image=draw(images), labels={"tier": draw(tiers)})


@st.composite
def states(draw: st.DrawFn) -> State | None:
    if draw(st.integers(0, 4)) == 0:
        return None
    records = [
        record(
            variant(draw, address),
            generation=draw(st.integers(1, 3)),
            status=draw(st.sampled_from(list(Status))),
            spec_hash=draw(st.sampled_from([None, None, ""])),
        )
        for address in draw(st.lists(st.sampled_from(ADDRESSES), unique=True))
    ]
    return replace(state(*records), lineage=LINEAGE)


@st.composite
def objects(draw: st.DrawFn) -> Mapping[str, Thing]:
    things: dict[str, Thing] = {}
    for number in range(draw(st.integers(0, 6))):
        address = Address(draw(st.sampled_from(ADDRESSES)))
        generation = draw(st.integers(1, 3))
        of = variant(draw, address)
        lineage = draw(st.sampled_from([LINEAGE, LINEAGE, LINEAGE, "lineage-2", ""]))
        owner = Owner(
            stack=draw(st.sampled_from(["research", "research", "theirs"])),
            lineage=lineage,
            address=address,
            generation=generation,
            spec_hash=fingerprint(of.spec.canonical()),
        )
        ours = (owner.stack, owner.lineage) == ("research", LINEAGE)
        identity = sandbox_id("research", address, generation) if ours else f"strange-{number}"
        things[identity] = Thing(
            backend=of.backend,
            info=SandboxInfo(
                sandbox_id=identity, sandbox_url=f"http://{identity}", container_id=f"c{number}"
            ),
            owner=owner if lineage else None,
            ready_at=0.0,
            phase=draw(
                st.sampled_from([Phase.STARTING, Phase.READY, Phase.FAILED, Phase.PAUSED, Phase.STOPPED])
            ),
        )
    return things


def listing(things: Mapping[str, Thing]) -> tuple[ObservedSandbox, ...]:
    return tuple(
        ObservedSandbox(info=t.info, backend=t.backend, phase=t.phase, owner=t.owner) for t in things.values()
    )


@SLOW
@given(configurations(), states(), objects())
def test_apply_after_plan_converges_and_the_next_plan_is_empty(
    config: Desired, known: State | None, things: Mapping[str, Thing]
) -> None:
    world = World(random.Random(0))
    world.things = dict(things)
    strangers = {i: t.owner for i, t in things.items() if i.startswith("strange")}
    nothing = not config.sandboxes  # which is refused unless all of it is to go
    try:
        after, _ = world.apply(config, known, destroy=nothing)
    except Refused:
        assert known is None  # two lineages and no state to say which one is ours
        return
    after, _ = world.apply(config, after, destroy=nothing)
    after, run = world.apply(config, after, destroy=nothing)
    assert run.plan.empty, run.plan.text()
    ours = [
        t
        for t in world.things.values()
        if t.owner and (t.owner.stack, t.owner.lineage) == ("research", after.lineage)
    ]
    assert sorted(t.owner.address for t in ours if t.owner) == sorted(config.sandboxes)
    assert sorted(after.sandboxes) == sorted(config.sandboxes)
    untouched = {i: t.owner for i, t in world.things.items() if i in strangers}
    if known is not None:
        assert untouched == strangers


@SLOW
@given(configurations(), states(), objects(), st.booleans())
def test_nothing_that_is_not_ours_is_ever_in_a_plan(
    config: Desired, known: State | None, things: Mapping[str, Thing], destroy: bool
) -> None:
    try:
        plan = make_plan(config, known, Observed(sandboxes=listing(things)), options(destroy=destroy))
    except Refused:
        return
    for step in plan.steps:
        if step.current is not None:
            owner = step.current.owner
            assert owner is not None
            assert (owner.stack, owner.lineage) == ("research", plan.lineage)
    keys = [step.key for step in plan.steps]
    assert len(set(keys)) == len(keys)
    assert all(need in keys for step in plan.steps for need in step.needs)


@SLOW
@given(configurations(), states(), objects(), st.booleans())
def test_an_incomplete_look_never_makes_a_plan(
    config: Desired, known: State | None, things: Mapping[str, Thing], destroy: bool
) -> None:
    look = Observed(sandboxes=listing(things), failures={"main": "half of it"})
    with pytest.raises(ObservationIncomplete):
        make_plan(config, known, look, options(destroy=destroy))


@SLOW
@given(configurations(), states(), objects(), st.randoms(use_true_random=False))
def test_the_order_of_anything_changes_nothing(
    config: Desired, known: State | None, things: Mapping[str, Thing], rng: random.Random
) -> None:
    def shuffled(mapping: Mapping[str, object]) -> dict[str, object]:
        items = list(mapping.items())
        rng.shuffle(items)
        return dict(items)

    other = replace(config, sandboxes=shuffled(config.sandboxes))  # type: ignore[arg-type]
    mixed = None if known is None else replace(known, sandboxes=shuffled(known.sandboxes))  # type: ignore[arg-type]
    listed = list(listing(things))
    rng.shuffle(listed)
    try:
        one = make_plan(config, known, Observed(sandboxes=listing(things)), options()).text()
    except Refused:
        return
    assert make_plan(other, mixed, Observed(sandboxes=tuple(listed)), options()).text() == one


@SLOW
@given(configurations(), states(), objects())
def test_needs_never_go_in_circles(config: Desired, known: State | None, things: Mapping[str, Thing]) -> None:
    try:
        plan = make_plan(config, known, Observed(sandboxes=listing(things)), options())
    except Refused:
        return
    needs = {step.key: set(step.needs) for step in plan.steps}
    while free := [key for key, waits in needs.items() if not waits]:
        for key in free:
            del needs[key]
        for waits in needs.values():
            waits.difference_update(free)
    assert needs == {}
