"""Protection, age, triggers and ignored fields: whatever the configuration, the state and the world."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.core.calls import Answer, Call, CallKind
from reconciler.core.ledger import Ledger
from reconciler.core.order import with_dependents
from reconciler.core.planner import make_plan
from reconciler.core.references import mark
from reconciler.errors import NotFound, Refused
from reconciler.model.desired import Address, Desired, Lifecycle, fingerprint
from reconciler.model.lifecycle import Policy
from reconciler.model.observed import Observed, Phase
from reconciler.model.plan import UNKNOWN_VALUE, Action, Plan, Reason, Selection
from reconciler.model.state import State
from tests.core.life_cycles import NOW, THOROUGH, life_cycles, pasts, worlds
from tests.sim.world import CALM, Chaos, Run, Thing, World
from tests.support.build import ABLE, desired, options, seen, wanted

GUARDED = Lifecycle(prevent_destroy=True)


def ours(things: Mapping[str, Thing]) -> dict[Address, str]:
    """The ids of our objects by address, of those that have no others beside them."""
    found: dict[Address, list[str]] = {}
    for identity, thing in things.items():
        if thing.owner and (thing.owner.stack, thing.owner.lineage) == ("research", "lineage-1"):
            found.setdefault(thing.owner.address, []).append(identity)
    return {address: ids[0] for address, ids in found.items() if len(ids) == 1}


def protected(config: Desired, known: State | None, things: Mapping[str, Thing]) -> set[str]:
    """The ids of what is protected: by the configuration, else by what was recorded, else by its labels."""
    found = set()
    for address, identity in ours(things).items():
        record = known.sandboxes.get(address) if known else None
        owner = things[identity].owner
        if address in config.sandboxes:
            is_so = config.sandboxes[address].lifecycle.prevent_destroy
        elif record is not None and record.sandbox_id == identity:
            is_so = record.protected
        else:
            is_so = owner is not None and owner.protected
        found |= {identity} if is_so else set()
    return found


@pytest.mark.no_cover
@THOROUGH
@given(
    life_cycles(),
    pasts(),
    worlds(),
    st.sampled_from([(), ("*",), ("c",)]),
    st.booleans(),
    st.sampled_from([CALM, Chaos(never_ready=0.5), Chaos(permanent=0.5), Chaos(transient=0.3, wakes=0.5)]),
)
def test_what_is_protected_outlives_every_run(
    config: Desired,
    known: State | None,
    things: Mapping[str, Thing],
    asked: tuple[str, ...],
    destroy: bool,
    chaos: Chaos,
) -> None:
    world = World(random.Random(0), chaos=chaos, now=NOW, things=dict(things))
    stay = protected(config, known, things)
    with contextlib.suppress(Refused, NotFound):
        world.apply(config, known, selection=Selection(replace=asked, destroy=destroy))
    assert stay <= world.things.keys()
    for identity in stay:
        assert world.things[identity].info.container_id == things[identity].info.container_id


@pytest.mark.no_cover
@THOROUGH
@given(life_cycles(), pasts(), worlds())
def test_a_second_apply_is_empty_whatever_the_rules(
    config: Desired, known: State | None, things: Mapping[str, Thing]
) -> None:
    assume(config.sandboxes)
    free = {
        a: replace(s, lifecycle=replace(s.lifecycle, prevent_destroy=False))
        for a, s in config.sandboxes.items()
    }
    world = World(random.Random(0), now=NOW, things=dict(things))
    try:
        after, first = world.apply(config, known)
        if first.refused:  # what is protected has to go for it: lift that, as the refusal says
            config = replace(config, sandboxes=free)
            after, first = world.apply(config, known)
    except Refused:
        return
    if first.refused:
        return  # a protected one is declared no more
    after, _ = world.apply(config, after)  # the first may have kept what it could not know to be broken
    after, run = world.apply(config, after)
    # what is broken and protected fails for as long as it is; what needs it waits, and so do the waves after its own
    broken = [step.key for step in run.plan.steps if step.protected and step.action is Action.REPAIR]
    assert _held_up(broken, run.plan) == {step.key for step in run.plan.steps}, run.plan.text()


def _held_up(keys: Iterable[str], plan: Plan) -> set[str]:
    held = with_dependents(set(keys), plan.steps)
    for rollout in plan.rollouts:
        first = next(
            (i for i, wave in enumerate(rollout.waves) if held.intersection(wave)), len(rollout.waves)
        )
        held.update(*rollout.waves[first + 1 :])
    return held if held == set(keys) else _held_up(held, plan)


def a_world(*chaos: Chaos) -> World:
    return World(random.Random(0), chaos=chaos[0] if chaos else CALM, now=1.0)


def lost(state: State) -> State:
    """The same lineage, but nothing of what was recorded."""
    return replace(state, sandboxes={})


BESIDE = wanted("beside")


def test_protection_outlives_the_declaration_and_the_record() -> None:
    world = a_world()
    state, _ = world.apply(desired(BESIDE, wanted("a", lifecycle=GUARDED)), None)
    for known in (state, lost(state)):
        _, run = world.apply(desired(BESIDE), known)
        assert run.refused
        assert "prevent_destroy" in run.plan.refusals[0].summary
    _, run = world.apply(desired(BESIDE), None, destroy=True)
    assert run.refused


def test_protection_is_set_and_lifted_without_touching_anything_else() -> None:
    world = a_world()
    plain = desired(BESIDE, wanted("a", lifecycle=Lifecycle(prevent_destroy=False)))
    guarded = desired(BESIDE, wanted("a", lifecycle=GUARDED))
    state, _ = world.apply(plain, None)
    born = {t.info.container_id for t in world.things.values()}
    for config in (guarded, plain):
        state, run = world.apply(config, state)
        assert [(s.action, s.changes[0].path) for s in run.plan.steps] == [
            (Action.UPDATE, "lifecycle.prevent_destroy")
        ]
        state, run = world.apply(config, state)
        assert run.plan.empty
    assert {t.info.container_id for t in world.things.values()} == born
    state, run = world.apply(desired(BESIDE), state)
    assert not run.refused
    assert [t.owner.address for t in world.things.values() if t.owner] == ["beside"]


@pytest.mark.parametrize(
    ("change", "selection"),
    [
        pytest.param({"image": "two"}, {}, id="a field that is fixed"),
        pytest.param({"backend": "other"}, {}, id="another backend"),
        pytest.param({}, {"replace": ("a",)}, id="its replacement is asked for"),
        pytest.param({}, {"destroy": True}, id="everything is to be destroyed"),
    ],
)
def test_nothing_takes_down_what_is_protected(
    change: dict[str, object], selection: dict[str, object]
) -> None:
    world = a_world()
    fields = {"image": "one", "lifecycle": GUARDED}
    state, _ = world.apply(desired(BESIDE, wanted("a", **fields)), None)  # type: ignore[arg-type]
    before = dict(world.things)
    world.pass_time(world.now + 10)
    changed = desired(BESIDE, wanted("a", **{**fields, **change}))  # type: ignore[arg-type]
    _, run = world.apply(changed, state, selection=Selection(**selection))  # type: ignore[arg-type]
    assert run.refused
    assert [refusal.code for refusal in run.plan.refusals] == ["protected"]
    assert world.things == before


@pytest.mark.parametrize(
    ("rules", "selection"),
    [
        pytest.param({"max_lifetime": 5.0}, {}, id="it is too old"),
        pytest.param(
            {"replace_triggered_by": (Address("beside"),)},
            {"replace": ("beside",)},
            id="what it follows is replaced",
        ),
    ],
)
def test_what_is_protected_is_kept_where_nobody_asked_for_a_change(
    rules: dict[str, object], selection: dict[str, object]
) -> None:
    """It stands in the way of nothing else: the clock and other sandboxes are no reason to refuse a whole plan."""
    world = a_world()
    guarded = Lifecycle(prevent_destroy=True, **rules)  # type: ignore[arg-type]
    needs = guarded.replace_triggered_by
    config = desired(BESIDE, wanted("a", lifecycle=guarded, depends_on=needs))
    state, _ = world.apply(config, None)
    before = {
        identity for identity, thing in world.things.items() if thing.owner and thing.owner.address == "a"
    }
    world.pass_time(world.now + 10)
    _, run = world.apply(config, state, selection=Selection(**selection))  # type: ignore[arg-type]
    assert not run.refused
    assert [remark.code for remark in run.plan.diagnostics] == ["protected-kept"]
    assert before <= world.things.keys()


@pytest.mark.parametrize("line", [None, True], ids=["without the line", "with the line"])
def test_only_the_word_false_lifts_a_protection(line: bool | None) -> None:
    """Guards against a line that got lost in a merge taking the protection with it."""
    world = a_world()
    state, _ = world.apply(desired(wanted("a", image="one", lifecycle=GUARDED)), None)
    changed = wanted("a", image="two", lifecycle=Lifecycle(prevent_destroy=line))
    _, run = world.apply(desired(changed), state)
    assert run.refused
    lifted = wanted("a", image="two", lifecycle=Lifecycle(prevent_destroy=False))
    _, run = world.apply(desired(lifted), state)
    assert not run.refused


def test_a_label_of_policy_protects_what_lost_it_or_is_declared_no_more() -> None:
    world = a_world()
    rule = Policy(protected=("label:tier=critical",))
    critical = wanted("db", image="one", labels={"tier": "critical"})
    state, _ = world.apply(replace(desired(BESIDE, critical), policy=rule), None)
    for config in (desired(BESIDE), desired(BESIDE, wanted("db", image="two"))):
        _, run = world.apply(replace(config, policy=rule), state)
        assert [refusal.code for refusal in run.plan.refusals] == ["protected"]


def test_what_is_broken_and_protected_is_restarted_and_never_replaced() -> None:
    world = a_world()
    config = desired(wanted("a", lifecycle=GUARDED))
    state, _ = world.apply(config, None)
    [identity] = world.things
    world.things[identity].phase = Phase.FAILED
    world.chaos = Chaos(never_ready=1.0)
    state, run = world.apply(config, state)
    assert [str(r.status) for r in run.results] == ["failed"]
    assert "protected" in run.results[0].error
    world.chaos = CALM
    state, run = world.apply(config, state)
    assert [str(r.status) for r in run.results] == ["done"]
    state, run = world.apply(config, state)
    assert run.plan.empty
    assert list(world.things) == [identity]


def test_what_may_serve_beside_a_broken_and_protected_one_stays() -> None:
    """Guards against destroying what was left over, and runs, where what counts is dead and must not be replaced."""
    old = wanted("a", image="one")
    new = wanted("a", image="two", lifecycle=GUARDED)
    live = (seen(old), seen(new, generation=2, phase=Phase.FAILED))
    plan = make_plan(desired(new), None, Observed(sandboxes=live), options())
    [step] = plan.steps
    assert (step.action, step.protected, step.rungs) == (Action.REPAIR, True, ())
    assert step.passed_over[-1] == "not replaced: it is protected"


def test_what_was_not_known_when_it_was_planned_is_known_when_it_is_restarted() -> None:
    """Guards against restarting, and recording, what an ignored reference was taken for before there was anything."""
    rules = Lifecycle(ignore_changes=("environment",))
    app = wanted("app", environment={"PEER": mark(Address("db"), "url")}, references=["db"], lifecycle=rules)
    able = replace(ABLE, restarts=True)
    live = (seen(app, phase=Phase.FAILED, label="made by others"),)
    live = (
        replace(
            live[0], owner=replace(live[0].owner, spec_hash=fingerprint({"environment.PEER": UNKNOWN_VALUE}))
        ),
    )
    plan = make_plan(desired(app, wanted("db")), None, Observed(sandboxes=live), options(capabilities=able))
    ledger = Ledger(plan, {"main": able})
    create, repair = sorted(plan.steps, key=lambda step: step.action)
    made = Call(id=1, kind=CallKind.CREATE, step=create, backend="main", timeout=1.0)
    list(ledger.outcomes(made, Answer(info=seen(wanted("db")).info), 1.0))
    restart = Call(id=2, kind=CallKind.RESTART, step=repair, backend="main", timeout=1.0, info=live[0].info)
    url = seen(wanted("db")).info.sandbox_url
    assert ledger.spec_of(restart).environment == {"PEER": url}
    [intent] = ledger.intents([restart], 2.0)
    assert intent.spec == {"environment.PEER": url}


# -- triggers --------------------------------------------------------------------------------------------------------


def following(image: str) -> Desired:
    rules = Lifecycle(replace_triggered_by=(Address("db"),))
    return desired(wanted("app", depends_on=["db"], lifecycle=rules), wanted("db", image=image))


@pytest.mark.no_cover
@pytest.mark.parametrize("crash", range(12))
def test_a_run_that_was_killed_anywhere_does_not_lose_a_trigger(crash: int) -> None:
    world = a_world()
    state, _ = world.apply(following("one"), None)
    app = next(t.info.container_id for t in world.things.values() if t.owner and t.owner.address == "app")
    state, _ = world.apply(following("two"), state, crash_after=crash)
    world.pass_time(world.now + 10)
    state, _ = world.apply(following("two"), state)
    state, run = world.apply(following("two"), state)
    assert run.plan.empty, run.plan.text()
    assert app not in {t.info.container_id for t in world.things.values()}
    assert len(world.things) == 2


@pytest.mark.parametrize("crash", [None, *range(10)])
def test_another_specification_is_enough_to_trigger(crash: int | None) -> None:
    """Also when it changes in place, and when the run is killed between that and what follows it."""

    def config(tier: str) -> Desired:
        rules = Lifecycle(replace_triggered_by=(Address("db"),))
        app = wanted("app", depends_on=["db"], lifecycle=rules)
        return desired(app, wanted("db", labels={"tier": tier}))

    world = a_world()
    state, _ = world.apply(config("x"), None)
    before = {t.owner.address: t.info.container_id for t in world.things.values() if t.owner}
    state, run = world.apply(config("y"), state, crash_after=crash)
    assert [(s.address, s.action) for s in run.plan.steps] == [
        ("app", Action.REPLACE),
        ("db", Action.UPDATE),
    ]
    for _ in range(2):
        world.pass_time(world.now + 10)
        state, run = world.apply(config("y"), state)
    assert run.plan.empty, run.plan.text()
    after = {t.owner.address: t.info.container_id for t in world.things.values() if t.owner}
    assert after["db"] == before["db"]
    assert after["app"] != before["app"]


def test_what_changed_outside_and_is_put_back_triggers_nothing() -> None:
    rules = Lifecycle(replace_triggered_by=(Address("db"),))
    db = wanted("db", backend="other", labels={"tier": "x"})
    config = desired(wanted("app", depends_on=["db"], lifecycle=rules), db)
    world = a_world()
    state, _ = world.apply(config, None)
    thing = next(t for t in world.things.values() if t.owner and t.owner.address == "db")
    thing.flat = {**thing.flat, "labels.tier": "changed"}
    state, run = world.apply(config, state)
    assert [(s.address, s.reason) for s in run.plan.steps] == [("db", Reason.DRIFTED)]
    assert world.apply(config, state)[1].plan.empty


def test_what_is_restarted_triggers_nothing() -> None:
    world = a_world()
    state, _ = world.apply(following("one"), None)
    db = next(t for t in world.things.values() if t.owner and t.owner.address == "db")
    db.phase = Phase.FAILED
    state, run = world.apply(following("one"), state)
    assert [(s.address, s.reason) for s in run.plan.steps] == [("db", Reason.DEAD)]
    state, run = world.apply(following("one"), state)
    assert run.plan.empty


def test_a_trigger_that_is_declared_later_is_recorded_and_replaces_nothing() -> None:
    world = a_world()
    before = desired(wanted("app", depends_on=["db"]), wanted("db", image="one"))
    state, _ = world.apply(before, None)
    state, run = world.apply(following("one"), state)
    assert [(s.action, s.address) for s in run.plan.steps] == [(Action.UPDATE, "app")]
    state, run = world.apply(following("one"), state)
    assert run.plan.empty
    db = next(i for i, t in world.things.items() if t.owner and t.owner.address == "db")
    world.things[db] = replace(
        world.things[db], info=replace(world.things[db].info, container_id="made by others")
    )
    _, run = world.apply(following("one"), state)
    assert [(s.reason, s.address) for s in run.plan.steps] == [(Reason.TRIGGERED, "app")]


# -- age -------------------------------------------------------------------------------------------------------------


def test_what_is_too_old_is_replaced_once() -> None:
    world = a_world()
    config = desired(wanted("a", lifecycle=Lifecycle(max_lifetime=60.0, create_first=True)))
    state, _ = world.apply(config, None)
    _, plan = world.plan(config, state)
    assert plan.empty
    assert 50 < plan.expiring[Address("a")] < 60
    world.pass_time(world.now + 60)
    state, run = world.apply(config, state)
    assert [(s.action, s.reason, s.create_first) for s in run.plan.steps] == [
        (Action.REPLACE, Reason.EXPIRED, True)
    ]
    state, run = world.apply(config, state)
    assert run.plan.empty


# -- ignored fields --------------------------------------------------------------------------------------------------


def lenient(tier: str, image: str = "one", backend: str = "other", index: str = "1") -> Desired:
    rules = Lifecycle(ignore_changes=("labels.tier",))
    labels = {"tier": tier, "index": index}
    return desired(wanted("a", image=image, labels=labels, lifecycle=rules, backend=backend))


@pytest.mark.parametrize("backend", ["main", "other"])
def test_an_ignored_field_stays_until_a_new_object_is_made(backend: str) -> None:
    world = a_world()
    state, _ = world.apply(lenient("x", backend=backend), None)
    state, run = world.apply(lenient("y", backend=backend), state)
    assert run.plan.empty
    state, run = world.apply(lenient("y", backend=backend, index="2"), state)
    assert [change.path for change in run.plan.steps[0].changes] == ["labels.index"]
    [thing] = world.things.values()
    assert thing.flat == {"image": "one", "labels.index": "2", "labels.tier": "x"}
    state, run = world.apply(lenient("y", backend=backend, index="2"), state)
    assert run.plan.empty
    state, run = world.apply(lenient("y", "two", backend=backend, index="2"), state)
    [thing] = world.things.values()
    assert thing.flat == {"image": "two", "labels.index": "2", "labels.tier": "y"}
    state, run = world.apply(lenient("y", "two", backend=backend, index="2"), state)
    assert run.plan.empty


def test_what_changed_outside_in_an_ignored_field_outlives_an_update_of_another() -> None:
    world = a_world()
    state, _ = world.apply(lenient("x"), None)
    [thing] = world.things.values()
    thing.flat = {**thing.flat, "labels.tier": "set by others"}
    state, run = world.apply(lenient("x"), state)
    assert run.plan.empty
    state, run = world.apply(lenient("x", index="2"), state)
    assert [change.path for change in run.plan.steps[0].changes] == ["labels.index"]
    assert thing.flat == {"image": "one", "labels.index": "2", "labels.tier": "set by others"}
    state, run = world.apply(lenient("x", index="2"), state)
    assert run.plan.empty


@pytest.mark.parametrize("backend", ["main", "other"])
@pytest.mark.parametrize("crash", range(6))
def test_an_update_that_was_killed_half_way_leaves_the_ignored_field(crash: int, backend: str) -> None:
    world = a_world()
    state, _ = world.apply(lenient("x", backend=backend), None)
    changed = lenient("y", backend=backend, index="2")
    state, _ = world.apply(changed, state, crash_after=crash)
    world.pass_time(world.now + 10)
    state, _ = world.apply(changed, state)
    state, run = world.apply(changed, state)
    assert run.plan.empty
    [thing] = world.things.values()
    assert thing.flat == {"image": "one", "labels.index": "2", "labels.tier": "x"}


# -- restarts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chaos", [CALM, Chaos(never_ready=1.0)], ids=["it answers", "it does not"])
@pytest.mark.parametrize("crash", range(8))
def test_a_run_that_was_killed_around_a_restart_converges(crash: int, chaos: Chaos) -> None:
    world = a_world()
    config = lenient("x", backend="main")
    state, _ = world.apply(config, None)
    state, _ = world.apply(lenient("y", backend="main"), state)  # what it is declared as is not what it is
    next(iter(world.things.values())).phase = Phase.FAILED
    world.chaos = chaos
    state, _ = world.apply(lenient("y", backend="main"), state, crash_after=crash)
    world.chaos = CALM
    world.pass_time(world.now + 10)
    runs: list[Run] = []
    for _ in range(3):
        state, run = world.apply(lenient("y", backend="main"), state)
        runs.append(run)
    assert runs[-1].plan.empty, runs[-1].plan.text()
    [thing] = world.things.values()
    assert state.sandboxes[Address("a")].spec == thing.flat
