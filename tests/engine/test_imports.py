"""Taking over on a real backend in memory: by the YAML and by the command, killed anywhere, and never a stranger."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.core.identity import sandbox_id
from reconciler.engine.explain import why
from reconciler.engine.importing import ImportReport, import_sandbox
from reconciler.engine.inspect import locate, status
from reconciler.errors import (
    LockHeld,
    NotFound,
    ObservationIncomplete,
    Permanent,
    Refused,
    StoreError,
    Unavailable,
)
from reconciler.model.desired import Address, DesiredSandbox, Import, Owner, ProbeKind, Readiness, Resources
from reconciler.model.outcome import Intent, Operation, StepStatus
from reconciler.model.plan import Action, Reason
from reconciler.model.state import SandboxRecord, Status
from tests.support.build import HERE, LINEAGE, STACK, desired, spec, wanted
from tests.support.running import WRITES, Stack

ID = "deer-flow-sandbox-ab12cd34"
A = Address("a")


def stack_of(*config: DesiredSandbox, imports: bool = True, made: str = "one", **fields: Any) -> Stack:
    """A stack beside which another system has started one sandbox from the image `made`."""
    entries = {A: Import(id=ID, position=HERE)} if imports else {}
    stack = Stack(replace(desired(*(config or (wanted("a", image="one"),))), imports=entries))
    stack.memory.create(None, ID, spec=spec(image=made, **fields))
    return stack


def recorded(stack: Stack) -> SandboxRecord:
    state = stack.store.read()
    assert state is not None
    return state.sandboxes[A]


def instance(stack: Stack, sandbox_id: str) -> str | None:
    seen = stack.memory.look(sandbox_id)
    return None if seen is None else seen.info.container_id


class TestByTheFile:
    def test_it_is_recorded_as_it_is_and_the_second_apply_is_empty(self) -> None:
        stack = stack_of()
        before = instance(stack, ID)
        report = stack.apply()
        assert [result.status for result in report.results] == [StepStatus.DONE]
        assert stack.backend.count(*WRITES) == 0
        record = recorded(stack)
        assert (record.sandbox_id, record.status, record.imported) == (ID, Status.READY, True)
        assert record.info is not None
        assert instance(stack, ID) == before == record.info.container_id
        stack.clear()
        assert stack.apply().plan.empty
        assert stack.backend.calls == ["observe", "look_closely"]  # no listing by label shows it

    def test_the_entry_may_stay_or_go(self) -> None:
        stack = stack_of()
        stack.apply()
        stack.desired = replace(stack.desired, imports={})
        assert stack.plan().empty

    def test_what_differs_in_place_is_changed_in_place(self) -> None:
        of = wanted("a", image="one", resources=Resources(memory=9))
        stack = stack_of(of, resources=Resources(memory=5))
        before = instance(stack, ID)
        assert [step.action for step in stack.apply().plan.steps] == [Action.UPDATE]
        record = recorded(stack)
        assert (record.sandbox_id, record.imported, record.spec["resources.memory"]) == (ID, True, 9)
        assert instance(stack, ID) == before
        assert stack.plan().empty

    def test_what_cannot_is_replaced_by_one_of_our_own(self) -> None:
        stack = stack_of(made="two")
        assert [step.action for step in stack.apply().plan.steps] == [Action.REPLACE]
        record = recorded(stack)
        assert stack.ids() == [record.sandbox_id]
        assert record.sandbox_id != ID
        assert not record.imported
        assert stack.plan().empty  # though the entry is still there, and its object is not

    def test_it_is_journalled_as_a_takeover_before_anything_is_touched(self) -> None:
        stack = stack_of(made="two")
        stack.apply()
        first = next(entry for entry in stack.store.entries if isinstance(entry, Intent))
        assert (first.operation, first.sandbox_id, first.imported) == (Operation.DESTROY, ID, True)
        assert stack.log.index("journal intent destroy") < stack.log.index("destroy")

    def test_leaving_the_file_destroys_it(self) -> None:
        stack = stack_of()
        stack.apply()
        stack.desired = desired(wanted("other"))
        step, _ = stack.apply().plan.steps
        assert (step.action, step.detail) == (Action.DESTROY, "imported")
        assert stack.ids() == [sandbox_id(STACK, Address("other"), 1)]

    def test_destroy_leaves_alone_what_was_never_imported(self) -> None:
        stack = stack_of()
        assert stack.apply(destroy=True).plan.empty
        assert stack.ids() == [ID]

    def test_one_that_dies_later_is_repaired(self) -> None:
        stack = stack_of()
        stack.apply()
        stack.memory.kill(ID)
        [step] = stack.apply().plan.steps
        assert (step.action, step.detail) == (Action.REPAIR, "imported; exit code 137")
        assert stack.plan().empty
        assert stack.ids() == [ID]  # a restart was enough

    def test_one_that_does_not_come_back_is_replaced_under_our_own_name(self) -> None:
        stack = stack_of()
        stack.apply()
        stack.memory.kill(ID)
        stack.backend.fault = lambda verb, _: Permanent("no") if verb == "restart" else None
        stack.apply()
        assert stack.plan().empty
        assert ID not in stack.ids()

    def test_one_that_is_gone_later_is_created_under_our_own_name(self) -> None:
        stack = stack_of()
        stack.apply()
        stack.memory.remove(ID)
        [step] = stack.apply().plan.steps
        assert (step.action, step.reason) == (Action.CREATE, Reason.MISSING)
        assert stack.ids() == [recorded(stack).sandbox_id] != [ID]

    def test_one_that_others_made_anew_since_is_never_touched(self) -> None:
        stack = stack_of()
        stack.apply()
        stack.memory.remove(ID)
        stack.memory.create(None, ID, spec=spec(image="one"))
        theirs = instance(stack, ID)
        stack.apply()
        stack.apply(destroy=True)
        assert instance(stack, ID) == theirs

    def test_one_that_moves_between_plan_and_act_is_left_alone(self) -> None:
        stack = stack_of(made="two")

        def replaced_meanwhile(verb: str, n: int) -> None:
            if verb == "look" and n == 1:
                stack.memory.remove(ID)
                stack.memory.create(None, ID, spec=spec(image="three"))

        stack.backend.fault = replaced_meanwhile
        [result] = stack.apply().results
        assert result.status is StepStatus.STALE
        assert stack.ids() == [ID]

    def test_a_look_that_fails_is_no_absence(self) -> None:
        stack = stack_of()
        stack.backend.fault = lambda verb, n: Unavailable("engine down") if verb == "look_closely" else None
        with pytest.raises(ObservationIncomplete, match="engine down"):
            stack.apply()
        stack.backend.fault = lambda verb, n: None
        stack.apply()
        stack.memory.alter(ID, "image", "one")
        assert recorded(stack).imported

    def test_status_and_why_show_it_before_and_after(self) -> None:
        stack = stack_of()
        [row] = status(stack.context())
        assert (row.sandbox_id, row.ready) == (ID, True)
        stack.apply()
        [row] = status(stack.context())
        assert (row.sandbox_id, row.ready) == (ID, True)
        lines = [line for section in why(stack.context(), "a").sections for line in section.lines]
        assert "imported: others made it" in lines
        assert locate(stack.context(), "a")[1].sandbox_id == ID

    def test_without_a_state_nothing_but_the_entry_makes_it_ours(self) -> None:
        """Guards the rule that labels alone are no leave to destroy: others' labels do not become ours by an entry."""
        stack = stack_of()
        stack.memory.remove(ID)
        stack.memory.create(None, ID, spec=replace(spec(image="two"), owner=owner(stack="other")))
        with pytest.raises(Refused, match="it belongs to stack 'other'"):
            stack.apply()
        assert stack.ids() == [ID]
        assert stack.store.read() is None


def owner(stack: str = STACK) -> Owner:
    return Owner(stack=stack, lineage=LINEAGE, address=Address("b"), generation=1, spec_hash="0" * 32)


class _Killed(Exception):
    """The process ends here."""


@pytest.mark.parametrize("made", ["one", "two"], ids=["adopted", "replaced"])
@pytest.mark.parametrize("lost", range(1, 7))
def test_a_run_that_is_killed_before_any_of_its_notes_is_followed_by_one_that_converges(
    made: str, lost: int
) -> None:
    """Guards against an address that only an entry speaks of, whose object is gone already: no run could go on."""
    stack = stack_of(made=made)
    written = 0
    append = stack.store.append

    def dying(lease: Any, entries: Any) -> None:
        nonlocal written
        for entry in entries:  # a torn append may hold any part of what was to be written
            written += 1
            if written == lost:
                raise StoreError("killed")
            append(lease, [entry])

    write = stack.store.write
    snapshots = 0

    def no_snapshot_at_the_end(lease: Any, state: Any) -> Any:
        nonlocal snapshots
        snapshots += 1
        if snapshots > 1:
            raise StoreError("killed")
        return write(lease, state)

    stack.store.append = dying  # type: ignore[method-assign]
    stack.store.write = no_snapshot_at_the_end  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        stack.apply()
    stack.store.append, stack.store.write = append, write  # type: ignore[method-assign]
    stack.apply()
    assert stack.plan().empty
    assert stack.ids() == [recorded(stack).sandbox_id]
    assert (recorded(stack).sandbox_id == ID) == (made == "one")


class TestByTheCommand:
    def run(self, stack: Stack, address: str = "a", sandbox_id: str = ID) -> ImportReport:
        return import_sandbox(stack.context(), address, sandbox_id)

    def test_it_records_what_is_there_and_touches_nothing(self) -> None:
        stack = stack_of(imports=False)
        report = self.run(stack)
        assert stack.backend.count(*WRITES) == 0
        assert (report.then, report.changes, report.diagnostics) == (None, (), ())
        record = recorded(stack)
        assert record == report.record
        assert (record.sandbox_id, record.status, record.generation, record.imported) == (
            ID,
            Status.READY,
            1,
            True,
        )
        assert stack.plan().empty

    def test_the_state_before_it_is_kept(self) -> None:
        stack = stack_of(wanted("a", image="one"), wanted("b", image="one"), imports=False)
        stack.desired = desired(wanted("b", image="one"))
        stack.apply()
        before = stack.store.read()
        stack.desired = desired(wanted("a", image="one"), wanted("b", image="one"))
        self.run(stack)
        after = stack.store.read()
        assert stack.store.backup == before
        assert before is not None
        assert after is not None
        assert (after.lineage, after.serial, sorted(after.sandboxes)) == (
            before.lineage,
            before.serial + 1,
            ["a", "b"],
        )

    def test_what_differs_is_recorded_as_it_is_and_the_next_plan_is_as_told(self) -> None:
        of = wanted("a", image="one", resources=Resources(memory=9))
        stack = stack_of(of, imports=False, resources=Resources(memory=5))
        report = self.run(stack)
        assert (report.then, [c.path for c in report.changes]) == (Action.UPDATE, ["resources.memory"])
        assert report.record.spec == {"image": "one", "resources.memory": 5}
        [step] = stack.plan().steps
        assert step.action is report.then
        assert [(c.before, c.after) for c in step.changes] == [(5, 9)]
        stack.apply()
        assert stack.plan().empty

    def test_a_replacement_to_come_is_told(self) -> None:
        stack = stack_of(imports=False, made="two")
        report = self.run(stack)
        assert report.then is Action.REPLACE
        assert report.record.spec == {"image": "two"}
        [step] = stack.plan().steps
        assert (step.action, step.detail) == (Action.REPLACE, "imported")

    def test_one_that_does_not_answer_yet_is_waited_for_by_the_next_apply(self) -> None:
        stack = stack_of(imports=False)
        probe = Readiness(kind=ProbeKind.EXEC, command=("false",), timeout=1)
        stack.desired = desired(wanted("a", image="one", readiness=probe))
        report = self.run(stack)
        assert (report.record.status, report.then) == (Status.CREATED, Action.ADOPT)
        [step] = stack.plan().steps
        assert (step.action, step.reason) == (Action.ADOPT, Reason.UNFINISHED)

    def test_the_entries_of_the_file_are_none_of_its_business(self) -> None:
        stack = stack_of(wanted("a", image="one"), wanted("b", image="one"), imports=False)
        stack.desired = replace(
            stack.desired, imports={Address("b"): Import(id="nothing-there", position=HERE)}
        )
        assert self.run(stack).record.imported

    @pytest.mark.parametrize(
        ("address", "sandbox_id", "error", "says"),
        [
            pytest.param("z", ID, NotFound, "z is not declared", id="an address that is not declared"),
            pytest.param("a", "nothing", NotFound, "nothing of that name", id="a name that is not there"),
            pytest.param("a", "of-others", Refused, "belongs to stack 'other'", id="one of another stack"),
            pytest.param("a", "dead", Refused, "does not run", id="one that ended"),
            pytest.param("b", ID, Refused, "b is recorded already", id="an address that is recorded"),
        ],
    )
    def test_it_refuses(self, address: str, sandbox_id: str, error: type[Exception], says: str) -> None:
        stack = stack_of(wanted("b", image="one"), imports=False)
        stack.apply()
        stack.desired = desired(wanted("a", image="one"), wanted("b", image="one"))
        stack.memory.create(None, "dead", spec=spec(image="one"))
        stack.memory.kill("dead")
        stack.memory.create(None, "of-others", spec=replace(spec(image="one"), owner=owner("other")))
        before, ids = stack.store.read(), stack.ids()
        with pytest.raises(error, match=says):
            self.run(stack, address, sandbox_id)
        assert (stack.store.read(), stack.ids()) == (before, ids)

    def test_one_with_our_labels_is_left_to_the_next_apply(self) -> None:
        stack = stack_of(imports=False)
        stack.desired = desired(wanted("a", image="one"))
        stack.apply()
        ours = recorded(stack).sandbox_id
        state = stack.store.read()
        assert state is not None
        with stack.store.lock("test") as lease:
            stack.store.write(lease, state.without(A))
        with pytest.raises(Refused, match="carries this stack's labels already"):
            self.run(stack, "a", ours)

    def test_without_a_state_beside_live_sandboxes_of_this_name_it_is_refused(self) -> None:
        """Guards the takeover rule: the state that an import writes would make the next apply trust those labels."""
        stack = stack_of(imports=False)
        stack.memory.create(None, "b-1", spec=replace(spec(image="one"), owner=owner()))
        with pytest.raises(Refused, match="there is no state"):
            self.run(stack)
        assert stack.store.read() is None

    def test_it_needs_the_lock(self) -> None:
        stack = stack_of(imports=False)
        with stack.store.lock("apply"), pytest.raises(LockHeld):
            self.run(stack)
        assert stack.store.read() is None
