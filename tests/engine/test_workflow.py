"""plan, apply and destroy on a real backend in memory: the promises of the product, one by one."""

from __future__ import annotations

import contextlib

import pytest
from msgspec.structs import replace

from reconciler.core.references import mark
from reconciler.engine.explain import why
from reconciler.engine.inspect import status
from reconciler.engine.stop import StopRequest
from reconciler.engine.survey import validate
from reconciler.engine.workflow import outputs
from reconciler.errors import (
    ConfigError,
    LockHeld,
    NoSpace,
    NotFound,
    ObservationIncomplete,
    Permanent,
    ReconcilerError,
    Refused,
    StoreError,
    Transient,
    Unavailable,
)
from reconciler.model.desired import Address, Output, Port, Resources, Secret, SecretRef
from reconciler.model.event import ApplyEnded, Planned, StepEnded, StepStarted
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Action, Reason
from tests.support.build import HERE, desired, wanted
from tests.support.running import WRITES, Stack


def three() -> Stack:
    return Stack(desired(*(wanted(f"s[{i}]", image="one") for i in range(3))))


def statuses(report: object) -> list[str]:
    return [str(result.status) for result in report.results]  # type: ignore[attr-defined]


class TestPlan:
    def test_it_changes_nothing_and_asks_one_listing(self) -> None:
        stack = three()
        assert stack.plan().count(Action.CREATE) == 3
        assert stack.backend.calls == ["observe"]
        assert stack.log == ["observe"]
        assert stack.store.read() is None

    def test_a_listing_that_fails_plans_nothing(self) -> None:
        stack = three()
        stack.apply()
        stack.backend.fault = lambda verb, n: Unavailable("engine down") if verb == "observe" else None
        with pytest.raises(ObservationIncomplete, match="engine down"):
            stack.plan()
        with pytest.raises(ObservationIncomplete):
            stack.apply()
        assert len(stack.ids()) == 3

    def test_any_exception_of_a_backend_is_a_failed_listing(self) -> None:
        stack = three()
        stack.backend.fault = lambda verb, n: ZeroDivisionError("oops") if verb == "observe" else None
        with pytest.raises(ObservationIncomplete, match="ZeroDivisionError: oops"):
            stack.plan()


class TestApply:
    def test_it_converges_and_the_second_is_empty_in_one_call(self) -> None:
        stack = three()
        report = stack.apply()
        assert statuses(report) == ["done"] * 3
        stack.clear()
        again = stack.apply()
        assert again.plan.empty
        assert stack.log == ["observe"]

    def test_every_create_is_journalled_before_it_happens(self) -> None:
        stack = three()
        stack.apply(parallelism=1)
        log = [line for line in stack.log if line == "create" or line.startswith("journal intent")]
        seen = 0
        for line in log:
            seen += 1 if line.startswith("journal") else -1
            assert seen >= 0

    def test_the_lineage_is_durable_before_the_first_effect(self) -> None:
        stack = three()
        stack.apply()
        assert stack.log.index("snapshot") < stack.log.index("create")

    def test_the_state_is_written_a_constant_number_of_times(self) -> None:
        stack = Stack(desired(*(wanted(f"s[{i}]") for i in range(60))))
        stack.apply()
        assert stack.log.count("snapshot") == 2

    def test_declined_does_nothing(self) -> None:
        stack = three()
        report = stack.apply(yes=False)
        assert report.declined
        assert stack.backend.count(*WRITES) == 0
        assert stack.store.read() is None

    def test_a_killed_sandbox_is_seen_and_put_back(self) -> None:
        stack = three()
        stack.apply()
        stack.memory.kill(stack.ids()[0])
        [step] = stack.plan().steps
        assert (step.action, step.reason, step.detail) == (Action.REPAIR, Reason.DEAD, "exit code 137")
        assert statuses(stack.apply()) == ["done"]
        assert stack.plan().empty

    def test_a_removed_sandbox_is_created_again_under_its_own_id(self) -> None:
        stack = three()
        stack.apply()
        before = stack.ids()
        stack.memory.remove(before[1])
        stack.apply()
        assert stack.ids() == before

    def test_drift_of_a_live_field_is_put_back_in_place(self) -> None:
        stack = Stack(desired(wanted("a", resources=Resources(memory=100))))
        stack.apply()
        stack.memory.alter(stack.ids()[0], "resources.memory", 5)
        [step] = stack.plan().steps
        assert (step.action, step.reason) == (Action.UPDATE, Reason.DRIFTED)
        before = stack.ids()
        stack.apply()
        assert stack.ids() == before
        assert stack.plan().empty

    def test_a_change_replaces_one_and_leaves_the_others(self) -> None:
        stack = three()
        stack.apply()
        changed = {**stack.desired.sandboxes, Address("s[1]"): wanted("s[1]", image="two")}
        stack.desired = replace(stack.desired, sandboxes=changed)
        before = set(stack.ids())
        report = stack.apply()
        assert [step.action for step in report.plan.steps] == [Action.REPLACE]
        assert len(before & set(stack.ids())) == 2
        assert stack.plan().empty

    def test_shrinking_destroys_what_is_too_much(self) -> None:
        stack = three()
        stack.apply()
        stack.desired = desired(wanted("s[0]", image="one"))
        assert [step.address for step in stack.apply().plan.steps] == ["s[1]", "s[2]"]
        assert len(stack.ids()) == 1

    def test_destroy_leaves_nothing(self) -> None:
        stack = three()
        stack.apply()
        stack.apply(destroy=True)
        assert stack.ids() == []
        state = stack.store.read()
        assert state is not None
        assert state.sandboxes == {}

    def test_without_a_state_live_ones_are_adopted_not_made_again(self) -> None:
        stack = three()
        stack.apply()
        before = stack.ids()
        stack.store = type(stack.store)(stack.desired.stack, stack.log)
        report = stack.apply()
        assert {step.action for step in report.plan.steps} == {Action.ADOPT}
        assert any(d.code == "state-missing" for d in report.plan.diagnostics)
        assert stack.ids() == before
        assert stack.plan().empty

    def test_without_a_state_live_ones_are_never_destroyed_or_changed(self) -> None:
        stack = three()
        stack.apply()
        before = stack.ids()
        stack.store = type(stack.store)(stack.desired.stack, stack.log)
        stack.desired = desired(wanted("s[0]", image="two"))
        with pytest.raises(Refused, match="there is no state"):
            stack.apply()
        with pytest.raises(Refused):
            stack.apply(destroy=True)
        assert stack.ids() == before

    def test_looking_in_another_place_is_not_absence(self) -> None:
        stack = three()
        stack.memory.place = lambda: "/one"  # type: ignore[method-assign]
        stack.apply()
        stack.memory.place = lambda: "/two"  # type: ignore[method-assign]
        with pytest.raises(Refused, match="/two, but the state's are in /one"):
            stack.plan()


class TestFailure:
    def test_the_others_go_on(self) -> None:
        stack = three()
        stack.backend.fault = lambda verb, n: Permanent("no room") if (verb, n) == ("create", 1) else None
        report = stack.apply(parallelism=1)
        assert statuses(report) == ["failed", "done", "done"]
        assert report.results[0].error == "no room"
        stack.backend.fault = lambda verb, n: None
        assert statuses(stack.apply()) == ["done"]
        assert stack.plan().empty

    def test_dependents_are_skipped(self) -> None:
        stack = Stack(desired(wanted("a", depends_on=["b"]), wanted("b"), wanted("c")))
        stack.backend.fault = lambda verb, n: Permanent("no") if (verb, n) == ("create", 1) else None
        report = stack.apply(parallelism=1)
        assert {r.address: str(r.status) for r in report.results} == {
            "a": "skipped",
            "b": "failed",
            "c": "done",
        }

    def test_fail_fast_starts_nothing_more(self) -> None:
        stack = three()
        stack.backend.fault = lambda verb, n: Permanent("no") if (verb, n) == ("create", 1) else None
        report = stack.apply(parallelism=1, fail_fast=True)
        assert statuses(report) == ["failed", "not started", "not started"]

    def test_a_transient_error_is_tried_again(self) -> None:
        stack = three()
        stack.backend.fault = lambda verb, n: (
            Transient("busy", retry_after=0.0) if (verb, n) == ("create", 1) else None
        )
        assert statuses(stack.apply()) == ["done"] * 3

    def test_a_create_that_worked_but_said_otherwise_makes_no_second_one(self) -> None:
        stack = three()
        stack.backend.fault = lambda verb, n: (
            (Transient("timeout", retry_after=0.0), True) if (verb, n) == ("create", 1) else None
        )
        assert statuses(stack.apply()) == ["done"] * 3
        assert len(stack.ids()) == 3

    @pytest.mark.parametrize("verb", ["create", "look", "destroy", "update"])
    @pytest.mark.parametrize("nth", [1, 2, 3])
    @pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
    def test_whichever_call_fails_the_next_run_converges(self, verb: str, nth: int, after: bool) -> None:
        stack = Stack(
            desired(
                wanted("keep", resources=Resources(memory=1)), wanted("go"), wanted("change", image="one")
            )
        )
        stack.apply()
        stack.clear()
        stack.desired = desired(
            wanted("keep", resources=Resources(memory=2)), wanted("change", image="two"), wanted("new")
        )
        stack.backend.fault = lambda v, n: (Permanent("broken"), after) if (v, n) == (verb, nth) else None
        stack.apply()
        stack.backend.fault = lambda v, n: None
        for _ in range(2):
            stack.apply()
        assert stack.plan().empty
        assert sorted(s.owner.address for s in stack.memory.observe() if s.owner) == ["change", "keep", "new"]

    @pytest.mark.parametrize("nth", range(1, 9))
    def test_a_journal_that_cannot_be_written_stops_the_run_and_loses_nothing(self, nth: int) -> None:
        stack = three()
        count = 0
        append = stack.store.append

        def failing(lease: object, entries: object) -> None:
            nonlocal count
            count += 1
            if count == nth:
                raise StoreError("disk full")
            append(lease, entries)  # type: ignore[arg-type]

        stack.store.append = failing  # type: ignore[method-assign]
        with contextlib.suppress(StoreError):
            stack.apply(parallelism=1)
        stack.store.append = append  # type: ignore[method-assign]
        stack.apply()
        assert stack.plan().empty
        assert len(stack.ids()) == 3

    def test_a_snapshot_that_cannot_be_written_is_told_after_what_was_done(self) -> None:
        stack = three()
        write = stack.store.write

        def failing(lease: object, state: object) -> object:
            if stack.ids():
                raise StoreError("disk full")
            return write(lease, state)  # type: ignore[arg-type]

        stack.store.write = failing  # type: ignore[method-assign,assignment]
        with pytest.raises(StoreError, match="disk full"):
            stack.apply()
        ended = [event for event in stack.events if isinstance(event, ApplyEnded)]
        assert [str(result.status) for result in ended[0].results] == ["done"] * 3
        stack.store.write = write  # type: ignore[method-assign]
        assert stack.apply().plan.empty

    def test_a_machine_error_of_a_backend_is_told_as_such(self) -> None:
        stack = three()
        stack.backend.fault = lambda verb, n: (
            OSError(28, "No space left on device", "/root/x") if (verb, n) == ("create", 1) else None
        )
        [failed, *_] = stack.apply(parallelism=1).results
        assert failed.error == "/root/x: No space left on device"
        assert "bug" not in failed.hint
        assert [step.reason for step in stack.plan().steps] == [Reason.FAILED_BEFORE]

    @pytest.mark.parametrize("error", [NoSpace("its disk is full"), OSError(28, "No space left", "/root/x")])
    def test_a_restart_without_space_costs_no_sandbox_what_it_holds(self, error: Exception) -> None:
        stack = three()
        stack.apply()
        before = stack.ids()
        stack.memory.kill(next(iter(before)), "exit code 1")
        stack.backend.fault = lambda verb, n: error if (verb, n) == ("restart", 1) else None
        assert statuses(stack.apply()) == ["failed"]
        assert stack.ids() == before
        assert statuses(stack.apply()) == ["done"]
        assert stack.ids() == before

    def test_an_update_that_failed_is_made_again_and_replaces_nothing(self) -> None:
        stack = three()
        stack.apply()
        before = stack.ids()
        stack.desired = desired(
            *(wanted(f"s[{i}]", image="one", resources=Resources(memory=7)) for i in range(3))
        )
        stack.backend.fault = lambda verb, n: (
            NoSpace("its disk is full") if (verb, n) == ("update", 1) else None
        )
        assert sorted(statuses(stack.apply())) == ["done", "done", "failed"]
        assert [step.action for step in stack.plan().steps] == [Action.UPDATE]
        assert statuses(stack.apply()) == ["done"]
        assert stack.ids() == before

    def test_a_backend_bug_is_one_failed_step_not_a_crash(self) -> None:
        stack = three()
        stack.backend.fault = lambda verb, n: KeyError("x") if (verb, n) == ("create", 2) else None
        report = stack.apply(parallelism=1)
        assert statuses(report) == ["done", "failed", "done"]
        assert "KeyError" in report.results[1].error

    def test_an_object_that_moved_after_the_plan_is_refused(self) -> None:
        stack = three()
        stack.apply()
        stack.desired = desired(*(wanted(f"s[{i}]", image="two") for i in range(3)))
        victim = stack.ids()[0]
        owner = next(s.owner for s in stack.memory.observe() if s.info.sandbox_id == victim)

        def vandalise(plan: object) -> bool:
            stack.memory.remove(victim)
            from reconciler.model.desired import SandboxSpec

            stack.memory.create(None, victim, spec=SandboxSpec(owner=owner))
            return True

        from reconciler.engine.workflow import ApplyOptions, apply

        report = apply(stack.context(), ApplyOptions(), confirm=vandalise, stop=StopRequest())
        assert statuses(report) == ["stale", "done", "done"]
        assert victim in stack.ids()

    def test_a_sandbox_that_never_answers_is_tainted_with_its_log(self) -> None:
        from reconciler.model.desired import Readiness

        stack = Stack(desired(wanted("a", readiness=Readiness(timeout=0.2))))
        stack.memory._ready_seconds = 1e9
        [result] = stack.apply().results
        assert result.status is StepStatus.FAILED
        assert "not ready after 0.2s" in result.error
        assert any("created" in line for line in result.log_tail)
        [step] = stack.plan().steps
        assert (step.action, step.reason) == (Action.REPAIR, Reason.TAINTED)

    def test_a_sandbox_that_dies_is_not_waited_for(self) -> None:
        from reconciler.model.desired import Readiness

        stack = Stack(desired(wanted("a", readiness=Readiness(timeout=600))))
        stack.memory._ready_seconds = 1e9
        stack.backend.fault = lambda verb, n: (
            stack.memory.kill(stack.ids()[0]) if (verb, n) == ("probe", 3) else None  # type: ignore[func-returns-value]
        )
        [result] = stack.apply().results
        assert result.error == "it stopped before it was ready: exit code 137"
        assert result.seconds < 60


class TestStop:
    def test_a_stop_drains_saves_and_the_next_run_converges(self) -> None:
        stack = Stack(desired(*(wanted(f"s[{i}]") for i in range(6))))
        stop = StopRequest()
        stack.backend.fault = lambda verb, n: stop.request() if (verb, n) == ("create", 2) else None  # type: ignore[func-returns-value]
        report = stack.apply(parallelism=1, stop=stop)
        assert report.interrupted
        assert "not started" in statuses(report)
        state = stack.store.read()
        assert state is not None
        assert len(state.sandboxes) == len(stack.ids())
        stack.backend.fault = lambda verb, n: None
        stack.apply()
        assert stack.plan().empty
        assert len(stack.ids()) == 6

    def test_a_stop_before_the_start_does_nothing(self) -> None:
        stack = three()
        stop = StopRequest()
        stop.request()
        assert statuses(stack.apply(stop=stop)) == ["not started"] * 3 or len(stack.ids()) <= 3


def test_the_lock_is_held_while_asking_and_given_back() -> None:
    stack = three()
    from reconciler.engine.workflow import ApplyOptions, apply

    def ask(_: object) -> bool:
        with pytest.raises(LockHeld):
            stack.apply()
        return True

    apply(stack.context(), ApplyOptions(), confirm=ask, stop=StopRequest())
    assert stack.store.lock_info() is None


class TestReferences:
    def stack(self) -> Stack:
        db = wanted("db", ports=(Port(name="sql", container=5432),))
        app = wanted(
            "app",
            environment={"URL": mark(Address("db"), "url"), "PORT": mark(Address("db"), "ports.sql")},
            references=["db"],
        )
        output = Output(name="db", value=f"at {mark(Address('db'), 'url')}", position=HERE)
        hidden = Output(name="hidden", value="s3cret", position=HERE, sensitive=True)
        return Stack(desired(db, app, outputs=[output, hidden]))

    def test_values_are_filled_in_before_the_create(self) -> None:
        stack = self.stack()
        report = stack.apply()
        assert statuses(report) == ["done", "done"]
        live = {s.owner.address: s for s in stack.memory.observe() if s.owner}
        attributes = live[Address("app")].attributes
        assert attributes is not None
        assert attributes["environment.URL"] == live[Address("db")].info.sandbox_url
        assert attributes["environment.PORT"] == str(live[Address("db")].info.ports["sql"])
        assert stack.plan().empty

    def test_outputs_are_resolved_and_sensitive_ones_neither_shown_nor_stored(self) -> None:
        stack = self.stack()
        shown = dict(stack.apply().outputs)
        assert shown["db"].startswith("at memory://db-")
        assert shown["hidden"] == "•••"
        state = stack.store.read()
        assert state is not None
        assert "hidden" not in state.outputs
        assert outputs(stack.context())["hidden"] == ("s3cret", True)

    def test_replacing_the_one_referred_to_replaces_the_one_that_refers(self) -> None:
        stack = self.stack()
        stack.apply()
        stack.desired = replace(
            stack.desired,
            sandboxes={
                **stack.desired.sandboxes,
                Address("db"): wanted("db", image="two", ports=(Port(name="sql", container=5432),)),
            },
        )
        assert {s.address: s.action for s in stack.apply().plan.steps} == {"db": "replace", "app": "replace"}
        assert stack.plan().empty


def test_a_secret_in_an_error_is_masked() -> None:
    ref = SecretRef(source="env T", kind="env", target=("T",), digest="d", value=Secret("hunter2hunter2"))
    stack = Stack(desired(wanted("a", secrets={"T": ref})))
    stack.backend.fault = lambda verb, n: Permanent("bad token hunter2hunter2!") if verb == "create" else None
    [result] = stack.apply().results
    assert result.error == "bad token •••!"
    assert all("hunter2" not in repr(event) for event in stack.events)


def test_events_tell_the_story_in_order() -> None:
    stack = three()
    stack.apply()
    kinds = [type(event) for event in stack.events]
    assert kinds[0] is Planned
    assert kinds[-1] is ApplyEnded
    assert kinds.count(StepStarted) == kinds.count(StepEnded) == 3


def test_status_probes_what_is_there_and_shows_what_is_not() -> None:
    stack = three()
    stack.apply()
    stack.memory.remove(stack.ids()[0])
    stack.memory.kill(stack.ids()[0])
    rows = status(stack.context())
    assert [(row.address, str(row.phase), row.ready) for row in rows] == [
        ("s[0]", "None", None),
        ("s[1]", "failed", None),
        ("s[2]", "ready", True),
    ]
    assert [row.address for row in status(stack.context(), ["s[2]"])] == ["s[2]"]
    with pytest.raises(ReconcilerError, match="nothing matches"):
        status(stack.context(), ["zzz"])


def test_why_tells_from_the_line_to_the_action() -> None:
    stack = three()
    stack.apply()
    stack.memory.kill(stack.ids()[0])
    told = why(stack.context(), "s[0]")
    assert (told.action, told.reason) == ("repair", "dead")
    text = "\n".join(line for section in told.sections for line in section.lines)
    for part in ("sandboxes.yaml:3", "image = one", "ready, generation 1", "failed at", "exit code 137"):
        assert part in text
    with pytest.raises(NotFound):
        why(stack.context(), "nobody")


def test_a_refused_field_stops_the_plan_before_any_call() -> None:
    from reconciler.model.capabilities import Capabilities, Support

    stack = three()
    stack.memory.capabilities = Capabilities(fields={"image": Support.REFUSED})  # type: ignore[misc]
    assert [d.code for d in validate(stack.context())] == ["unsupported"]
    with pytest.raises(ConfigError):
        stack.plan()
    assert stack.backend.calls == []


def test_what_a_backend_has_to_say_is_in_the_plan_once() -> None:
    stack = three()
    stack.memory.notes = lambda: ("no security boundary",)  # type: ignore[method-assign]
    assert [d.summary for d in stack.plan().diagnostics] == ["backend 'main': no security boundary"]
