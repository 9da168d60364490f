"""A saved plan on a real backend in memory: what still holds is done, what moved is told, what is new stays undone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from reconciler.config.documents import departure
from reconciler.core.plan_file import decode, encode
from reconciler.core.references import mark
from reconciler.core.saved import Held, hold
from reconciler.engine.workflow import ApplyReport
from reconciler.errors import PlanStale, Refused
from reconciler.model.desired import Address, Desired, DesiredSandbox, Resources, SecretRef
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.event import ApplyEnded, Planned, Remark, StepEnded
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Action, Moved, Plan, Reason, Rung, Step, Waves
from reconciler.model.saved import Inputs, SavedPlan
from tests.support.build import HERE, LINEAGE, desired, info, record, seen, state, wanted
from tests.support.running import WRITES, Stack

KEY = b"k" * 32


def through_a_file(plan: Plan, *, key: bytes | None = KEY, inputs: Inputs = Inputs()) -> SavedPlan:
    data = encode(SavedPlan(plan=plan, inputs=inputs, made_at=1.0, tool="test"), key=key)
    unverified = decode(data, place="p.json", shape=lambda document: departure("plan", document))
    return unverified.verified(key=KEY, stack=plan.stack)


def apply(stack: Stack, saved: SavedPlan) -> ApplyReport:
    stack.clear()
    return stack.apply(saved=saved, destroy=saved.plan.destroy)


def ended(report: ApplyReport) -> dict[str, str]:
    return {result.address: str(result.status) for result in report.results}


def why(report: ApplyReport, address: str) -> str:
    [found] = [result.error for result in report.results if result.address == address]
    return found


def fleet(*images: str, **more: str) -> Desired:
    named = {f"s[{i}]": image for i, image in enumerate(images)} | more
    return desired(*(wanted(address, image=image) for address, image in named.items()))


def changing() -> tuple[Stack, SavedPlan]:
    """Three that are there, and a plan to replace each of them."""
    stack = Stack(fleet("one", "one", "one"))
    stack.apply()
    stack.desired = fleet("two", "two", "two")
    return stack, through_a_file(stack.plan())


def id_of(stack: Stack, address: str) -> str:
    [found] = [s.info.sandbox_id for s in stack.memory.observe() if s.owner and s.owner.address == address]
    return found


def recreate(stack: Stack, address: str) -> None:
    """Somebody destroys it and makes it again, labels and all."""
    [there] = [s for s in stack.memory.observe() if s.owner and s.owner.address == address]
    stack.memory.destroy(there.info)
    spec = replace(stack.desired.sandboxes[Address(address)].spec, image="one", owner=there.owner)
    stack.memory.create(None, there.info.sandbox_id, None, spec=spec)


class TestWhatStillHolds:
    def test_all_of_it_is_done_and_nobody_is_asked_twice(self) -> None:
        stack, saved = changing()
        report = apply(stack, saved)
        assert ended(report) == {"s[0]": "done", "s[1]": "done", "s[2]": "done"}
        assert stack.plan().empty

    def test_a_plan_for_the_first_apply_holds_before_there_is_a_key(self) -> None:
        stack = Stack(fleet("one"))
        saved = through_a_file(stack.plan(), key=None)
        assert saved.forgeable
        assert ended(apply(stack, saved)) == {"s[0]": "done"}

    def test_a_plan_to_destroy_everything_does(self) -> None:
        stack = Stack(fleet("one", "one"))
        stack.apply()
        saved = through_a_file(stack.plan(destroy=True))
        assert ended(apply(stack, saved)) == {"s[0]": "done", "s[1]": "done"}
        assert stack.ids() == []

    def test_what_the_file_does_not_have_is_not_done(self) -> None:
        stack, saved = changing()
        stack.desired = fleet("two", "two", "two", new="one")
        report = apply(stack, saved)
        assert ended(report) == {"s[0]": "done", "s[1]": "done", "s[2]": "done"}
        remarks = [event.diagnostic for event in stack.events if isinstance(event, Remark)]
        assert [(remark.code, "(new)" in remark.summary) for remark in remarks] == [
            ("not-in-plan-file", True)
        ]
        assert [step.address for step in stack.plan().steps] == ["new"]

    def test_a_value_known_only_after_apply_is_filled_in(self) -> None:
        web = wanted("web", environment={"DB": mark(Address("db"), "url")}, references=["db"])
        stack = Stack(desired(wanted("db", image="one"), web))
        saved = through_a_file(stack.plan(), key=None)
        assert ended(apply(stack, saved)) == {"db": "done", "web": "done"}
        assert stack.plan().empty


def _killed(stack: Stack) -> None:
    stack.memory.kill(id_of(stack, "s[1]"))


def _removed(stack: Stack) -> None:
    stack.memory.remove(id_of(stack, "s[1]"))


def _recreated(stack: Stack) -> None:
    recreate(stack, "s[1]")


def _configured(stack: Stack) -> None:
    stack.desired = fleet("two", "three", "two")


def _more_configured(stack: Stack) -> None:
    changed = wanted("s[1]", image="three", labels={"a": "1", "b": "2", "c": "3"})
    stack.desired = replace(stack.desired, sandboxes={**stack.desired.sandboxes, Address("s[1]"): changed})


def _undeclared(stack: Stack) -> None:
    stack.desired = replace(fleet("two", "", "two"), sandboxes={
        address: one for address, one in fleet("two", "two", "two").sandboxes.items() if address != "s[1]"
    })  # fmt: skip


def _reverted(stack: Stack) -> None:
    stack.desired = fleet("two", "one", "two")


def _done(stack: Stack) -> None:
    then, stack.desired = stack.desired, fleet("one", "two", "one")
    stack.apply()
    stack.desired = then


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        pytest.param(_killed, "it is not running any more (exit code 137); repair would be due by now, not replace", id="it died"),
        pytest.param(_removed, "it is gone", id="it was removed"),
        pytest.param(_recreated, "it is another object now (", id="somebody made it again"),
        pytest.param(_configured, 'the configuration changed it since: image "two" → "three"', id="the configuration changed"),
        pytest.param(_more_configured, 'image "two" → "three", labels.a (not set) → "1", labels.b (not set) → "2" and 1 more', id="a lot of the configuration changed"),
        pytest.param(_undeclared, "it is no longer declared", id="it left the configuration"),
        pytest.param(_reverted, 'the configuration changed it since: image "two" → "one"', id="the configuration went back"),
        pytest.param(_done, "it is as planned already", id="another run did it"),
    ],
)  # fmt: skip
def test_what_moved_is_left_alone_and_told_and_the_rest_is_done(
    happens: Callable[[Stack], None], told: str
) -> None:
    stack, saved = changing()
    happens(stack)
    before = {
        seen.info.container_id
        for seen in stack.memory.observe()
        if seen.owner and seen.owner.address == "s[1]"
    }
    report = apply(stack, saved)
    assert ended(report) == {"s[0]": "done", "s[1]": "stale", "s[2]": "done"}
    assert told in why(report, "s[1]")
    after = {
        seen.info.container_id
        for seen in stack.memory.observe()
        if seen.owner and seen.owner.address == "s[1]"
    }
    assert after == before
    assert [result.address for result in report.results] == ["s[0]", "s[1]", "s[2]"]


def test_the_same_file_twice_is_refused_as_done_already() -> None:
    stack, saved = changing()
    apply(stack, saved)
    report = apply(stack, saved)
    assert {result.error for result in report.results} == {"it is as planned already"}
    assert {str(result.status) for result in report.results} == {"stale"}
    assert stack.backend.count(*WRITES) == 0


def test_the_events_tell_the_plan_of_the_file_and_an_end_for_each_of_its_steps() -> None:
    stack, saved = changing()
    _removed(stack)
    apply(stack, saved)
    [planned] = [event.plan for event in stack.events if isinstance(event, Planned)]
    assert [step.address for step in planned.steps] == ["s[0]", "s[1]", "s[2]"]
    ends = [event.result for event in stack.events if isinstance(event, StepEnded)]
    assert sorted((end.address, str(end.status)) for end in ends) == [
        ("s[0]", "done"), ("s[1]", "stale"), ("s[2]", "done"),
    ]  # fmt: skip
    [last] = [event for event in stack.events if isinstance(event, ApplyEnded)]
    assert len(last.results) == 3


class TestOtherKindsOfMoved:
    def test_one_to_be_created_is_there_by_now(self) -> None:
        stack = Stack(fleet("one"))
        stack.apply()
        stack.desired = fleet("one", a="one", b="one")
        saved = through_a_file(stack.plan())
        stack.apply()
        assert why(apply(stack, saved), "a") == "it is as planned already"

    def test_one_to_be_created_is_no_longer_declared(self) -> None:
        stack = Stack(fleet("one"))
        stack.apply()
        stack.desired = fleet("one", a="one")
        saved = through_a_file(stack.plan())
        stack.desired = fleet("one")
        report = apply(stack, saved)
        assert why(report, "a") == "it is no longer declared"
        assert stack.backend.count(*WRITES) == 0

    def test_one_to_be_destroyed_is_declared_again(self) -> None:
        stack = Stack(fleet("one", "one"))
        stack.apply()
        stack.desired = fleet("one")
        saved = through_a_file(stack.plan())
        stack.desired = fleet("one", "one")
        assert why(apply(stack, saved), "s[1]") == "it is declared by now"
        stack.desired = fleet("one", "two")
        assert why(apply(stack, saved), "s[1]") == "it is declared by now"
        assert len(stack.ids()) == 2

    def test_one_to_be_destroyed_is_gone_already(self) -> None:
        stack = Stack(fleet("one", "one"))
        stack.apply()
        stack.desired = fleet("one")
        saved = through_a_file(stack.plan())
        stack.apply()
        assert why(apply(stack, saved), "s[1]") == "it is gone already"

    def test_a_record_to_be_forgotten_is_gone_already(self) -> None:
        stack = Stack(fleet("one", "one"))
        stack.apply()
        stack.desired = fleet("one")
        stack.memory.remove(id_of(stack, "s[1]"))
        saved = through_a_file(stack.plan())
        stack.apply()
        assert why(apply(stack, saved), "s[1]") == "its record is gone already"

    def test_what_broke_runs_again(self) -> None:
        stack = Stack(fleet("one"))
        stack.apply()
        stack.memory.kill(id_of(stack, "s[0]"))
        saved = through_a_file(stack.plan())
        with stack.memory._existing(id_of(stack, "s[0]")) as thing:
            thing.phase = thing.detail = ""
        report = apply(stack, saved)
        assert why(report, "s[0]") == "it runs again"
        assert stack.backend.count(*WRITES) == 0

    def test_drift_that_somebody_put_back_is_as_planned(self) -> None:
        stack = Stack(desired(wanted("a", resources=Resources(memory=100))))
        stack.apply()
        stack.memory.alter(id_of(stack, "a"), "resources.memory", 5)
        saved = through_a_file(stack.plan())
        stack.memory.alter(id_of(stack, "a"), "resources.memory", 100)
        assert why(apply(stack, saved), "a") == "it is as planned already"

    def test_what_a_reference_yields_moved(self) -> None:
        web = wanted("web", environment={"DB": mark(Address("db"), "url")}, references=["db"])
        both = desired(wanted("db", image="one"), web)
        stack = Stack(desired(wanted("other")))
        stack.apply()
        stack.desired = replace(both, sandboxes={**both.sandboxes, **stack.desired.sandboxes})
        saved = through_a_file(stack.plan())
        then, stack.desired = stack.desired, desired(wanted("other"), wanted("db", image="one"))
        stack.apply()
        stack.desired = then
        report = apply(stack, saved)
        assert ended(report) == {"db": "stale", "web": "stale"}
        assert why(report, "web") == "what environment.DB refers to is known by now, or not any more"


class TestWhatNeedsIt:
    def test_a_step_that_needs_a_stale_one_is_skipped_and_says_so(self) -> None:
        def three(image: str) -> Desired:
            return desired(
                wanted("db", image=image),
                wanted("web", image=image, depends_on=["db"]),
                wanted("front", image=image, depends_on=["web"]),
                wanted("other", image=image),
            )

        stack = Stack(three("one"))
        stack.apply()
        stack.desired = three("two")
        saved = through_a_file(stack.plan())
        stack.memory.kill(id_of(stack, "db"))
        report = apply(stack, saved)
        assert ended(report) == {"db": "stale", "web": "skipped", "front": "skipped", "other": "done"}
        assert why(report, "web") == "db it needs: stale"
        assert why(report, "front") == "web it needs: skipped"

    def test_a_step_that_needs_what_the_file_does_not_have_is_skipped(self) -> None:
        def two(image: str) -> Desired:
            return desired(wanted("db", image="one"), wanted("web", image=image, depends_on=["db"]))

        stack = Stack(two("one"))
        stack.apply()
        stack.desired = two("two")
        saved = through_a_file(stack.plan())
        stack.memory.kill(id_of(stack, "db"))
        report = apply(stack, saved)
        assert ended(report) == {"web": "skipped"}
        assert why(report, "web") == "db it needs is to be changed by now, which the plan does not have"
        assert stack.backend.count(*WRITES) == 0


# --- the whole of it -------------------------------------------------------------------------------------------


class TestTheWhole:
    def test_a_state_that_appeared_since(self) -> None:
        stack = Stack(fleet("one"))
        saved = through_a_file(stack.plan(), key=None)
        stack.apply()
        with pytest.raises(PlanStale, match="before there was a state, and there is one by now"):
            apply(stack, saved)

    def test_a_state_that_is_gone(self) -> None:
        stack, saved = changing()
        stack.store = type(stack.store)(stack.desired.stack, stack.log)
        with pytest.raises(PlanStale, match="there is no state now"):
            apply(stack, saved)
        assert stack.backend.count(*WRITES) == 0

    def test_another_lineage(self) -> None:
        stack, saved = changing()
        other = replace(saved, plan=replace(saved.plan, lineage="another"))
        with pytest.raises(PlanStale, match="a state of lineage another"):
            apply(stack, other)

    def test_a_plain_code_is_not_believed_once_there_are_key_and_state(self) -> None:
        stack, _ = changing()
        saved = through_a_file(stack.plan(), key=None)
        with pytest.raises(PlanStale, match="before the stack had a key"):
            apply(stack, saved)

    def test_without_any_key_the_serial_must_be_the_one_planned_on(self) -> None:
        stack, _ = changing()
        saved = replace(through_a_file(stack.plan(), key=None), forgeable=False)
        moved = replace(saved, plan=replace(saved.plan, serial=saved.plan.serial + 1))
        with pytest.raises(PlanStale, match="no key vouches for it"):
            apply(stack, moved)
        assert set(ended(apply(stack, saved)).values()) == {"done"}

    def test_a_plan_that_was_refused_stays_refused(self) -> None:
        stack, saved = changing()
        no = Diagnostic(severity=Severity.ERROR, code="policy", summary="it destroys too much", fix="do less")
        with pytest.raises(Refused, match="was refused when it was made: it destroys too much"):
            apply(stack, replace(saved, plan=replace(saved.plan, refusals=(no,))))
        assert stack.backend.count(*WRITES) == 0


# --- decided on plans alone: what the planner of this test's time does not make ---------------------------------

A, B, C = Address("s[0]"), Address("s[1]"), Address("s[2]")
ONE = {address: wanted(address, image="one") for address in (A, B, C)}


def a_step(of: DesiredSandbox, **more: object) -> Step:
    base = Step(
        action=Action.REPLACE,
        address=of.address,
        backend="main",
        reason=Reason.CONFIG_CHANGED,
        sandbox_id=info(of.address, 2).sandbox_id,
        generation=2,
        desired=of,
        current=seen(of),
        spec={"image": "two", "secrets.T": "hmac-sha256:1"},
    )
    return replace(base, **more)  # type: ignore[arg-type]


def a_plan(*steps: Step, **more: object) -> Plan:
    return replace(Plan(stack="research", lineage=LINEAGE, serial=7, steps=steps), **more)  # type: ignore[arg-type]


def held(then: Plan, now: Plan, *, was: Inputs = Inputs(), inputs: Inputs = Inputs()) -> Held:
    return hold(
        through_a_file(then, inputs=was),
        now,
        state=state(*(record(one) for one in ONE.values())),
        desired=desired(*ONE.values()),
        inputs=inputs,
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param({"current": None}, "it is gone", id="nothing is there any more"),
        pytest.param({"current": seen(ONE[A], label="x")}, "its labels changed", id="its labels changed"),
        pytest.param({"backend": "other"}, "it is on another backend now (main → other)", id="another backend"),
        pytest.param({"sandbox_id": "z", "generation": 3}, "it would become z by now", id="another generation"),
        pytest.param({"create_first": True}, "the new one would come before the old one goes by now", id="the order"),
        pytest.param({"rungs": (Rung.RESTART,)}, "repaired in another way by now (restart, replace)", id="the rungs"),
        pytest.param({"spec": {"image": "two", "secrets.T": "hmac-sha256:2"}}, "the secret T changed", id="a secret"),
        pytest.param({"spec": {"image": True, "secrets.T": "hmac-sha256:1"}}, 'image "two" → true', id="a type"),
        pytest.param({"action": Action.FORGET, "reason": Reason.LET_GO}, "it is no longer declared", id="let go"),
    ],
)  # fmt: skip
def test_each_kind_of_difference_is_stale(change: dict[str, object], told: str) -> None:
    found = held(a_plan(a_step(ONE[A])), a_plan(a_step(ONE[A], **change)))
    assert found.refused[A].status is StepStatus.STALE
    assert told in found.refused[A].error
    assert found.plan.steps == ()


def test_one_that_is_there_by_now_and_was_not() -> None:
    new = a_step(ONE[A], action=Action.CREATE, current=None)
    found = held(a_plan(new), a_plan(a_step(ONE[A], action=Action.ADOPT)))
    assert found.refused[A].error == f"there is one by now ({info(A).container_id})"


def test_a_secret_whose_digest_could_not_be_made_yet_says_nothing() -> None:
    then = a_step(ONE[A], spec={"image": "two", "secrets.T": ""})
    assert held(a_plan(then), a_plan(a_step(ONE[A]))).refused == {}


def test_what_is_not_selected_any_more_is_told() -> None:
    found = held(a_plan(a_step(ONE[A])), a_plan(left_out=(A,)))
    assert found.refused[A].error == "it is not among what was selected any more"


def test_a_changed_variable_is_named_as_the_cause() -> None:
    changed = a_step(ONE[A], spec={"image": "three", "secrets.T": "hmac-sha256:1"})
    found = held(
        a_plan(a_step(ONE[A])),
        a_plan(changed),
        was=Inputs(configuration="a" * 64, variables={"image": f"sha256:{'1' * 32}", "key": ""}),
        inputs=Inputs(
            configuration="b" * 64, variables={"image": f"sha256:{'2' * 32}", "key": "x", "new": "y"}
        ),
    )
    assert found.refused[A].error == (
        'the configuration changed it since: image "two" → "three" (variable image changed, variable new is new)'
    )
    assert [remark.summary for remark in found.remarks] == [
        "since the plan was made the configuration's files changed, the variable image changed, the variable new is new"
    ]


@pytest.mark.parametrize("missing", ["then", "now"])
def test_moves_must_be_the_same_set(missing: str) -> None:
    move = (Moved(source=A, target=B, position=HERE),)
    then, now = (a_plan(moves=move), a_plan()) if missing == "now" else (a_plan(), a_plan(moves=move))
    with pytest.raises(PlanStale, match=r"s\[0\] → s\[1\] is (new|not to be done any more)"):
        held(then, now)
    assert held(a_plan(moves=move), a_plan(moves=move)).plan.moves == move


def test_later_waves_do_not_run_when_an_earlier_one_is_not_whole() -> None:
    steps = [a_step(ONE[one], wave=wave) for one, wave in ((A, 1), (B, 2), (C, 3))]
    rollout = Waves(group="s", waves=((A,), (B,), (C,)), size=3, at_once=1, canary=True)
    then = a_plan(*steps, rollouts=(rollout,))
    repacked = [replace(step, wave=1) for step in steps]
    at_once = replace(rollout, waves=((A, B, C),), at_once=3, canary=False)
    found = held(then, a_plan(*repacked, rollouts=(at_once,)))
    assert found.refused == {}
    assert [step.wave for step in found.plan.steps] == [1, 2, 3], "they run in the waves that were approved"
    assert found.plan.rollouts == (rollout,)
    found = held(then, a_plan(repacked[0], replace(repacked[1], current=None), repacked[2]))
    assert {key: str(result.status) for key, result in found.refused.items()} == {B: "stale", C: "skipped"}
    assert found.refused[C].error == "an earlier wave of its rollout is not complete"
    assert [wave for rollout in found.plan.rollouts for wave in rollout.waves] == [(A,)]


def test_a_rollout_waits_when_more_of_its_group_is_away_than_the_file_reckoned_with() -> None:
    steps = [a_step(ONE[one], wave=1) for one in (A, B)]
    rollout = Waves(group="s", waves=((A, B),), size=3, at_once=2)
    gone = replace(a_step(ONE[C]), action=Action.CREATE, reason=Reason.MISSING, current=None)
    found = held(a_plan(*steps, rollouts=(rollout,)), a_plan(*steps, gone, rollouts=(rollout,)))
    assert {key: str(result.status) for key, result in found.refused.items()} == {A: "skipped", B: "skipped"}
    assert "s[2] of its rollout is away by now" in found.refused[A].error
    assert found.plan.steps == ()


def test_what_was_done_already_holds_up_nothing_that_comes_after() -> None:
    """The same file goes on where an interrupted run of it stopped."""
    steps = [a_step(ONE[one], wave=wave, spec=ONE[one].spec.canonical()) for one, wave in ((A, 1), (B, 2))]
    rollout = Waves(group="s", waves=((A,), (B,)), size=2, at_once=1)
    then = a_plan(*steps, rollouts=(rollout,))
    now = a_plan(steps[1], unchanged=(A,), rollouts=(replace(rollout, waves=((B,),)),))
    found = held(then, now)
    assert {key: result.error for key, result in found.refused.items()} == {A: "it is as planned already"}
    assert [step.key for step in found.plan.steps] == [B]


def test_what_stands_against_a_step_that_is_not_in_the_file_does_not_stand_against_the_file() -> None:
    guarded = replace(a_step(ONE[B]), protected=True)
    told = Diagnostic(severity=Severity.ERROR, code="protected", summary="s[1] is protected")
    found = held(a_plan(a_step(ONE[A])), a_plan(a_step(ONE[A]), guarded, refusals=(told,)))
    assert found.plan.refusals == ()
    found = held(a_plan(guarded), a_plan(guarded, refusals=(told,)))
    assert [refusal.code for refusal in found.plan.refusals] == ["protected"]


def test_of_a_secret_that_changed_the_name_is_told_and_nothing_else() -> None:
    ref = SecretRef(source="env T", kind="env", target=("T",), digest="hmac-sha256:9")
    one = wanted("s[0]", image="two", secrets={"T": ref})
    found = hold(
        through_a_file(a_plan(a_step(ONE[A]))),
        a_plan(unchanged=(A,)),
        state=state(record(one)),
        desired=desired(one),
        inputs=Inputs(),
    )
    assert found.refused[A].error == "the secret T changed"
