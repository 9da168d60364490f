"""Taking over what others made: what may be taken, what is refused, and what the plan says it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.core.imports import applied
from reconciler.core.planner import make_plan
from reconciler.errors import NotFound, Refused
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import (
    Address,
    DesiredSandbox,
    Import,
    Lifecycle,
    Owner,
    Port,
    Resources,
    SecretRef,
)
from reconciler.model.observed import Observed, ObservedSandbox, Phase, SandboxInfo
from reconciler.model.plan import Action, Plan, Reason
from reconciler.model.position import Position
from reconciler.model.state import SandboxRecord, State
from tests.support.build import LINEAGE, STACK, desired, options, record, seen, state, wanted

ID = "deer-flow-sandbox-ab12cd34"
HERE = Position("sandboxes.yaml", 40, 28)
A = wanted("a", image="one")


def theirs(
    name: str = ID,
    attributes: Mapping[str, Any] | None = None,
    *,
    phase: Phase = Phase.STARTING,
    owner: Owner | None = None,
    container: str = "c-1",
    called: str | None = None,
    backend: str = "main",
) -> ObservedSandbox:
    """A sandbox that somebody else started."""
    return ObservedSandbox(
        info=SandboxInfo(name, f"http://{name}", container_name=called or name, container_id=container),
        backend=backend,
        phase=phase,
        owner=owner,
        attributes={"image": "one"} if attributes is None else attributes,
    )


def taken_over(of: DesiredSandbox = A, name: str = ID) -> SandboxRecord:
    """The record of one that was imported."""
    return replace(record(of), sandbox_id=name, info=theirs(name).info, imported=True)


def owner(address: str = "a", *, stack: str = STACK, lineage: str = LINEAGE) -> Owner:
    return Owner(stack=stack, lineage=lineage, address=Address(address), generation=1, spec_hash="0" * 32)


def plan_of(
    *config: DesiredSandbox,
    live: tuple[ObservedSandbox, ...] = (),
    known: State | None = None,
    imports: Mapping[str, str] | None = None,
    **more: Any,
) -> Plan:
    entries = {"a": ID} if imports is None else imports
    whole = replace(
        desired(*config),
        imports={Address(to): Import(id=name, position=HERE) for to, name in entries.items()},
    )
    return make_plan(whole, known, Observed(sandboxes=live), options(**more))


class TestPlan:
    def test_what_is_as_declared_is_adopted_under_its_own_name(self) -> None:
        [step] = plan_of(A, live=(theirs(),)).steps
        assert (step.action, step.reason, step.sandbox_id) == (Action.ADOPT, Reason.IMPORTED, ID)
        assert step.detail == f"imports {ID}"
        assert step.changes == ()

    def test_what_differs_in_place_is_changed(self) -> None:
        of = wanted("a", image="one", resources=Resources(memory=9))
        [step] = plan_of(of, live=(theirs(attributes={"image": "one", "resources.memory": 5}),)).steps
        assert (step.action, step.reason, step.sandbox_id) == (Action.UPDATE, Reason.IMPORTED, ID)
        assert [(c.path, c.before, c.after, c.outside) for c in step.changes] == [
            ("resources.memory", 5, 9, False)
        ]

    def test_what_cannot_become_as_declared_is_replaced_and_that_is_said(self) -> None:
        [step] = plan_of(A, live=(theirs(attributes={"image": "two"}),)).steps
        assert (step.action, step.reason) == (Action.REPLACE, Reason.IMPORTED)
        assert step.detail == f"imports {ID} and replaces it"
        assert step.sandbox_id not in ("", ID)
        assert [(c.path, c.before, c.after, c.forces_replacement) for c in step.changes] == [
            ("image", "two", "one", True)
        ]

    def test_one_without_labels_is_never_replaced_by_creating_first(self) -> None:
        """Guards against an unlabelled leftover that nobody knows is ours."""
        of = wanted("a", image="one", create_first=True)
        [step] = plan_of(of, live=(theirs(attributes={"image": "two"}),)).steps
        assert (step.action, step.create_first) == (Action.REPLACE, False)

    def test_an_entry_of_what_is_recorded_does_nothing(self) -> None:
        imported = plan_of(A, live=(theirs(),), known=state(taken_over()))
        replaced = plan_of(A, live=(seen(A),), known=state(record(A)))
        assert imported.empty
        assert replaced.empty

    def test_the_recorded_one_needs_no_entry_any_more(self) -> None:
        assert plan_of(A, live=(theirs(),), known=state(taken_over()), imports={}).empty

    def test_a_phase_that_cannot_be_told_is_left_alone(self) -> None:
        plan = plan_of(A, live=(theirs(phase=Phase.UNKNOWN),))
        assert plan.empty
        assert "cannot tell" in plan.diagnostics[0].summary

    def test_a_change_after_the_import_replaces_it_like_any_other(self) -> None:
        after = wanted("a", image="two")
        [step] = plan_of(after, live=(theirs(),), known=state(taken_over())).steps
        assert (step.action, step.reason, step.detail) == (Action.REPLACE, Reason.CONFIG_CHANGED, "imported")

    def test_drift_of_what_was_imported_is_seen(self) -> None:
        of = wanted("a", image="one", resources=Resources(memory=9))
        live = theirs(attributes={"image": "one", "resources.memory": 5})
        [step] = plan_of(of, live=(live,), known=state(taken_over(of))).steps
        assert (step.action, step.reason) == (Action.UPDATE, Reason.DRIFTED)

    def test_leaving_the_configuration_destroys_it_and_says_that_it_was_imported(self) -> None:
        [step] = plan_of(live=(theirs(),), known=state(taken_over()), imports={}).steps
        assert (step.action, step.reason, step.detail) == (Action.DESTROY, Reason.REMOVED, "imported")
        assert step.sandbox_id == ID

    def test_destroying_everything_takes_what_was_imported_and_nothing_that_was_not(self) -> None:
        other = theirs("deer-flow-sandbox-other")
        entries = {"a": ID, "b": other.info.sandbox_id}
        b = wanted("b", image="one")
        plan = plan_of(A, b, live=(theirs(), other), known=state(taken_over()), imports=entries, destroy=True)
        assert [(step.action, step.sandbox_id) for step in plan.steps] == [(Action.DESTROY, ID)]

    def test_destroying_everything_asks_for_no_import_to_be_there(self) -> None:
        assert plan_of(A, destroy=True).empty

    def test_what_is_called_alike_but_was_made_anew_by_others_is_theirs(self) -> None:
        """Guards against destroying a stranger: the other system gives its names again."""
        anew = theirs(container="c-2")
        [step] = plan_of(A, live=(anew,), known=state(taken_over())).steps
        assert (step.action, step.reason, step.current) == (Action.CREATE, Reason.MISSING, None)
        assert step.sandbox_id != ID
        [gone] = plan_of(live=(anew,), known=state(taken_over()), imports={}).steps
        assert (gone.action, gone.reason) == (Action.FORGET, Reason.GONE)

    def test_one_that_is_too_old_is_taken_over_before_it_is_replaced(self) -> None:
        """Guards against a run that dies between destroying and creating, and leaves an address that only an entry of
        `imports` speaks of."""
        old = theirs()
        old = replace(old, info=replace(old.info, created_at=1.0))
        of = wanted("a", image="one", lifecycle=Lifecycle(max_lifetime=60.0))
        whole = replace(desired(of), imports={Address("a"): Import(id=ID, position=HERE)})
        plan = make_plan(whole, None, Observed(sandboxes=(old,)), replace(options(), now=1000.0))
        assert [(step.action, step.reason) for step in plan.steps] == [(Action.ADOPT, Reason.IMPORTED)]

    def test_a_backend_that_cannot_label_takes_over_as_well(self) -> None:
        plain = Capabilities(default=Support.ENFORCED, owns=False)
        [step] = plan_of(A, live=(theirs(attributes={}),), capabilities=plain).steps
        assert (step.action, step.sandbox_id) == (Action.ADOPT, ID)


REFUSED: dict[str, tuple[ObservedSandbox, str]] = {
    "of another stack": (theirs(owner=owner(stack="other")), "it belongs to stack 'other'"),
    "of another lineage": (theirs(owner=owner(lineage="2" * 36)), f"lineage {'2' * 36}"),
    "that is another one of ours": (theirs(owner=owner("b")), "it is b of this very stack"),
    "that ended": (theirs(phase=Phase.FAILED), "it does not run"),
    "that is paused": (theirs(phase=Phase.PAUSED), "it does not run"),
    "by another name of it": (theirs("x", called=ID), "the backend calls it 'x'"),
}


class TestOwnership:
    @pytest.mark.parametrize("name", REFUSED)
    def test_one_is_refused(self, name: str) -> None:
        live, why = REFUSED[name]
        with pytest.raises(Refused) as refused:
            plan_of(A, live=(live,), known=state())
        assert refused.value.message.startswith("sandboxes.yaml:40: ")
        assert why in refused.value.message

    def test_one_that_is_recorded_under_another_address_is_refused(self) -> None:
        b = wanted("b", image="one")
        with pytest.raises(Refused, match="it is recorded as b"):
            plan_of(A, b, live=(theirs(),), known=state(taken_over(b)))

    def test_one_that_is_not_there_is_an_error_that_names_its_line(self) -> None:
        with pytest.raises(NotFound) as missing:
            plan_of(A, live=(theirs("another"), theirs(backend="other")))
        assert missing.value.message == (
            f"sandboxes.yaml:40: a cannot import '{ID}': nothing of that name is there on backend 'main'"
        )
        assert "remove the import" in missing.value.hint

    def test_every_wrong_entry_is_named_at_once(self) -> None:
        config = [wanted(name, image="one") for name in "abc"]
        live = (theirs("x-1", owner=owner(stack="other")), theirs("x-2", phase=Phase.FAILED))
        with pytest.raises(Refused) as refused:
            plan_of(*config, live=live, imports={"a": "x-1", "b": "x-2", "c": "x-3"})
        assert [line.split(" cannot ")[0] for line in refused.value.message.splitlines()] == [
            "sandboxes.yaml:40: a",
            "sandboxes.yaml:40: b",
            "sandboxes.yaml:40: c",
        ]

    def test_one_with_our_labels_needs_no_import(self) -> None:
        plan = plan_of(A, live=(replace(seen(A), info=theirs().info),), known=state())
        [step] = plan.steps
        assert (step.action, step.reason) == (Action.ADOPT, Reason.FOUND)
        assert [note.code for note in plan.diagnostics] == ["import-needless"]
        assert plan.diagnostics[0].position == HERE

    def test_where_one_of_ours_is_there_already_the_other_is_left_alone(self) -> None:
        plan = plan_of(A, live=(seen(A), theirs(attributes={"image": "two"})), known=state())
        [step] = plan.steps
        assert (step.action, step.reason, step.sandbox_id) == (
            Action.ADOPT,
            Reason.FOUND,
            seen(A).info.sandbox_id,
        )
        assert [note.code for note in plan.diagnostics] == ["import-needless"]

    def test_without_an_entry_nothing_that_others_made_is_in_a_plan(self) -> None:
        [step] = plan_of(A, live=(theirs(),), imports={}).steps
        assert (step.action, step.current) == (Action.CREATE, None)


class TestApplied:
    """What is known of how an object was made."""

    def test_what_cannot_be_read_back_is_taken_as_declared_and_said(self) -> None:
        secret = SecretRef(source="env T", kind="env", target=("T",), digest="d" * 32)
        of = wanted("a", image="one", secrets={"T": secret}, runtime="runsc")
        plan = plan_of(of, live=(theirs(),))
        assert [step.action for step in plan.steps] == [Action.ADOPT]
        [note] = plan.diagnostics
        assert note.code == "import-unread"
        assert f"runtime, secrets.T of {ID}" in note.summary

    def test_a_field_that_is_shown_as_not_set_is_not_set(self) -> None:
        live = theirs(attributes={"resources.memory": None})
        assert applied({"resources.memory": 5}, live) == ({"resources.memory": None}, ())

    @pytest.mark.parametrize("path", ["environment.A", "labels.A", "mounts./a.source", "ports.sql.container"])
    def test_one_of_a_map_that_is_shown_without_it_is_not_there(self, path: str) -> None:
        head = path.partition(".")[0]
        shown = theirs(attributes={f"{head}.OTHER": "x"})
        hidden = theirs(attributes={"image": "x"})
        assert applied({path: "1"}, shown) == ({path: None}, ())
        assert applied({path: "1"}, hidden) == ({path: "1"}, (path,))

    def test_any_port_will_do_where_the_backend_was_to_choose(self) -> None:
        """The other system chose the host's ports itself; guards against replacing it for that, now and later."""
        of = wanted("a", image="one", ports=(Port(name="http", container=8080),))
        attributes = {
            "image": "one",
            "ports.http.container": 8080,
            "ports.http.host": 8083,
            "ports.http.bind": "127.0.0.1",
        }
        live = theirs(attributes=attributes)
        [step] = plan_of(of, live=(live,)).steps
        assert step.action is Action.ADOPT
        assert plan_of(of, live=(live,), known=state(taken_over(of))).empty

    def test_another_fixed_port_is_not_the_declared_one(self) -> None:
        of = wanted("a", ports=(Port(name="http", container=8080, host=9000),))
        live = theirs(attributes={"ports.http.host": 8083, "ports.http.container": 8080})
        [step] = plan_of(of, live=(live,)).steps
        assert [(c.path, c.before, c.after) for c in step.changes][-1] == ("ports.http.host", 8083, 9000)
