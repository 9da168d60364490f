"""The planner by its deterministic text: what is planned, why, and on what object."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from reconciler.core.planner import make_plan
from reconciler.core.references import mark
from reconciler.errors import ObservationIncomplete, Refused
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Address, DesiredSandbox, Port, Resources
from reconciler.model.observed import Astray, Observed, ObservedSandbox, Phase
from reconciler.model.plan import Action, Plan, Reason
from reconciler.model.position import Position
from reconciler.model.state import State, Status
from tests.support.build import (
    ABLE,
    LINEAGE,
    desired,
    options,
    record,
    seen,
    state,
    wanted,
)


def plan_of(
    config: tuple[DesiredSandbox, ...], known: State | None, *live: ObservedSandbox, **kwargs: object
) -> Plan:
    return make_plan(desired(*config), known, Observed(sandboxes=live), options(**kwargs))  # type: ignore[arg-type]


def only(plan: Plan) -> tuple[Action, Reason]:
    [step] = plan.steps
    return step.action, step.reason


A = wanted("a", image="one")


def test_text_is_deterministic_and_complete() -> None:
    changed = wanted("a", image="two", where={"image": Position("sandboxes.yaml", 9, 12)})
    gone = wanted("z", image="one")
    plan = plan_of((changed,), state(record(A), record(gone)), seen(A), seen(gone))
    assert plan.text() == (
        "plan research serial 7: 2 to do, 0 unchanged\n"
        "- z [main] removed -> z-6ecf4a9cf9ae\n"
        "-/+ a [main] config_changed -> a-ac9a57d7f2ed\n"
        "    image: 'one' -> 'two' # forces replacement @ sandboxes.yaml:9\n"
    ).replace("z-6ecf4a9cf9ae", plan.steps[0].sandbox_id).replace("a-ac9a57d7f2ed", plan.steps[1].sandbox_id)


TABLE = {
    "new in the configuration": (plan_of((A,), None), (Action.CREATE, Reason.NEW)),
    "recorded and gone": (plan_of((A,), state(record(A))), (Action.CREATE, Reason.MISSING)),
    "its create was interrupted": (
        plan_of((A,), state(record(A, status=Status.PENDING))),
        (Action.CREATE, Reason.UNFINISHED),
    ),
    "created but never awaited": (
        plan_of((A,), state(record(A, status=Status.CREATED)), seen(A)),
        (Action.ADOPT, Reason.UNFINISHED),
    ),
    "never became ready": (
        plan_of((A,), state(record(A, status=Status.TAINTED)), seen(A)),
        (Action.REPAIR, Reason.TAINTED),
    ),
    "died": (
        plan_of((A,), state(record(A)), seen(A, phase=Phase.FAILED)),
        (Action.REPAIR, Reason.DEAD),
    ),
    "live with our labels, no record": (plan_of((A,), state(), seen(A)), (Action.ADOPT, Reason.FOUND)),
    "live with our labels, no state at all": (plan_of((A,), None, seen(A)), (Action.ADOPT, Reason.FOUND)),
    "live with our labels, other spec, no record": (
        plan_of((A,), state(), seen(A, label="f" * 32)),
        (Action.REPLACE, Reason.CONFIG_CHANGED),
    ),
    "left the configuration": (plan_of((), state(record(A)), seen(A)), (Action.DESTROY, Reason.REMOVED)),
    "left the configuration and gone": (plan_of((), state(record(A))), (Action.FORGET, Reason.GONE)),
    "ours by label alone": (plan_of((), state(), seen(A)), (Action.DESTROY, Reason.ORPHAN)),
    "moved to another backend": (
        plan_of((wanted("a", image="one", backend="other"),), state(record(A)), seen(A)),
        (Action.REPLACE, Reason.MOVED_BACKEND),
    ),
    "its update was interrupted": (
        plan_of((A,), state(record(A, status=Status.CREATED, spec_hash="")), seen(A)),
        (Action.UPDATE, Reason.UNFINISHED),
    ),
    "its update failed": (
        plan_of((A,), state(record(A, status=Status.TAINTED, spec_hash="")), seen(A)),
        (Action.UPDATE, Reason.UNFINISHED),
    ),
    "destroy everything": (
        plan_of((A,), state(record(A)), seen(A), destroy=True),
        (Action.DESTROY, Reason.DESTROY_ALL),
    ),
    "destroy everything, gone already": (
        plan_of((A,), state(record(A)), destroy=True),
        (Action.FORGET, Reason.GONE),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_one_sandbox_that_is(name: str) -> None:
    plan, expected = TABLE[name]
    assert only(plan) == expected


def test_nothing_to_do_when_all_is_as_declared() -> None:
    plan = plan_of((A,), state(record(A)), seen(A))
    assert plan.empty
    assert plan.unchanged == ("a",)


class TestChanges:
    def test_an_updatable_field_changes_in_place(self) -> None:
        before = wanted("a", resources=Resources(memory=1))
        after = wanted("a", resources=Resources(memory=2))
        plan = plan_of((after,), state(record(before)), seen(before))
        [step] = plan.steps
        assert step.action is Action.UPDATE
        assert step.sandbox_id == seen(before).info.sandbox_id
        assert [(c.path, c.before, c.after, c.forces_replacement) for c in step.changes] == [
            ("resources.memory", 1, 2, False)
        ]

    def test_one_forcing_field_replaces_under_a_new_generation(self) -> None:
        after = wanted("a", image="two", resources=Resources(memory=2))
        [step] = plan_of((after,), state(record(A)), seen(A)).steps
        assert step.action is Action.REPLACE
        assert step.generation == 2
        assert step.sandbox_id != seen(A).info.sandbox_id

    def test_a_live_value_that_differs_is_drift(self) -> None:
        of = wanted("a", resources=Resources(memory=1))
        [step] = plan_of((of,), state(record(of)), seen(of, attributes={"resources.memory": 5})).steps
        assert (step.action, step.reason) == (Action.UPDATE, Reason.DRIFTED)
        assert [(c.before, c.after, c.outside) for c in step.changes] == [(5, 1, True)]

    def test_a_live_value_of_an_undeclared_field_is_nobodys_business(self) -> None:
        plan = plan_of(
            (A,), state(record(A)), seen(A, attributes={"environment.PATH": "/bin", "image": "one"})
        )
        assert plan.empty

    def test_a_live_value_of_a_field_that_the_backend_goes_without_is_no_drift(self) -> None:
        able = replace(ABLE, fields={"runtime": Support.NOTED})
        of = wanted("a", runtime="runsc")
        there = seen(of, attributes={"runtime": "runc"})
        assert plan_of((of,), state(record(of)), there, capabilities=able).empty
        assert not plan_of((of,), state(record(of)), there).empty

    def test_drift_towards_the_new_configuration_is_no_change(self) -> None:
        before, after = wanted("a", resources=Resources(memory=1)), wanted("a", resources=Resources(memory=2))
        plan = plan_of((after,), state(record(before)), seen(before, attributes={"resources.memory": 2}))
        assert plan.empty

    def test_a_secret_change_is_marked_sensitive(self) -> None:
        before = record(A)
        known = state(
            type(before)(**{**{n: getattr(before, n) for n in before.__slots__}, "spec": {"secrets.T": "x"}})
        )
        [step] = plan_of((A,), known, seen(A)).steps
        assert {c.path: c.sensitive for c in step.changes} == {"image": False, "secrets.T": True}


class TestOwnership:
    @pytest.mark.parametrize(
        "stranger",
        [
            pytest.param(seen(wanted("b"), labelled=False), id="an object without labels"),
            pytest.param(seen(wanted("b"), stack="theirs"), id="an object of another stack"),
            pytest.param(seen(wanted("b"), lineage="2" * 36), id="an object of another lineage"),
        ],
    )
    @pytest.mark.parametrize("destroy", [False, True])
    def test_what_is_not_ours_is_never_in_a_plan(self, stranger: ObservedSandbox, destroy: bool) -> None:
        plan = plan_of((A,), state(record(A)), seen(A), stranger, destroy=destroy)
        assert all(step.current is not stranger and step.address == "a" for step in plan.steps)

    def test_an_id_taken_by_a_stranger_is_refused(self) -> None:
        with pytest.raises(Refused, match="needs the id"):
            plan_of((A,), state(), seen(A, lineage="2" * 36))

    def test_two_lineages_without_a_state_are_refused(self) -> None:
        with pytest.raises(Refused, match="2 lineages"):
            plan_of((A,), None, seen(A), seen(wanted("b"), lineage="2" * 36))

    def test_without_a_state_the_live_lineage_is_taken_over_and_said(self) -> None:
        plan = plan_of((A,), None, seen(A, lineage="3" * 36))
        assert (plan.lineage, plan.lineage_found) == ("3" * 36, True)

    def test_with_nothing_at_all_a_new_lineage_begins(self) -> None:
        plan = plan_of((A,), None)
        assert (plan.lineage, plan.lineage_found) == (LINEAGE, False)

    def test_a_backend_without_labels_owns_what_is_recorded_and_nothing_else(self) -> None:
        plain = Capabilities(default=Support.ENFORCED, owns=False)
        other = wanted("b", image="one")
        live = (seen(A, labelled=False), seen(other, labelled=False))
        plan = plan_of((), state(record(A)), *live, capabilities=plain)
        assert [step.address for step in plan.steps] == ["a"]

    @pytest.mark.parametrize("known", [True, False], ids=["recorded", "not recorded"])
    def test_what_two_backends_of_one_engine_show_is_one_object(self, known: bool) -> None:
        live = (seen(A, backend="other"), seen(A), seen(A, backend="third"))
        plan = plan_of((A,), state(record(A)) if known else state(), *live, third=ABLE)
        assert not any(step.destroys for step in plan.steps)

    def test_a_leftover_that_two_backends_show_goes_once(self) -> None:
        live = (seen(A, generation=2), seen(A, generation=1), seen(A, generation=1, backend="other"))
        [step] = plan_of((A,), state(record(A, generation=2)), *live).steps
        assert (step.action, step.generation) == (Action.DESTROY, 1)

    def test_the_leftover_of_a_replacement_goes_first(self) -> None:
        live = (seen(A, generation=1), seen(A, generation=2))
        [step] = plan_of((A,), state(record(A, generation=2)), *live).steps
        assert (step.action, step.reason, step.generation) == (Action.DESTROY, Reason.SUPERSEDED, 1)


class TestUnknown:
    def test_no_plan_from_an_incomplete_look(self) -> None:
        look = Observed(sandboxes=(seen(A),), failures={"main": "connection refused"})
        with pytest.raises(ObservationIncomplete, match="main: connection refused"):
            make_plan(desired(A), state(record(A)), look, options())

    def test_a_phase_that_cannot_be_told_is_left_alone_and_said(self) -> None:
        changed = wanted("a", image="two")
        plan = plan_of((changed,), state(record(A)), seen(A, phase=Phase.UNKNOWN, detail="no /proc"))
        assert plan.empty
        assert "cannot tell" in plan.diagnostics[0].summary


class TestOrder:
    def test_creation_follows_dependencies(self) -> None:
        plan = plan_of((wanted("a", depends_on=["b"]), wanted("b")), None)
        assert {step.address: step.needs for step in plan.steps} == {"a": ("b",), "b": ()}

    def test_destruction_goes_against_recorded_dependencies(self) -> None:
        a, b = wanted("a", depends_on=["b"]), wanted("b")
        plan = plan_of((), state(record(a), record(b)), seen(a), seen(b))
        assert {step.address: step.needs for step in plan.steps} == {"a": (), "b": ("a",)}

    def test_destroys_come_first(self) -> None:
        z = wanted("z")
        plan = plan_of((A,), state(record(z)), seen(z))
        assert [step.address for step in plan.steps] == ["z", "a"]

    def test_a_fixed_host_port_is_freed_before_it_is_taken(self) -> None:
        port = (Port(name="http", container=8080, host=9000),)
        old, new = wanted("old", ports=port), wanted("new", ports=port)
        plan = plan_of((new,), state(record(old)), seen(old))
        assert {step.address: step.needs for step in plan.steps} == {"new": ("old",), "old": ()}

    def test_a_port_edge_never_closes_a_circle(self) -> None:
        port = (Port(name="http", container=8080, host=9000),)
        old = wanted("old", ports=port)
        before = wanted("new", depends_on=["old"])
        after = wanted("new", ports=port)
        plan = plan_of((after,), state(record(old), record(before)), seen(old), seen(before))
        assert {step.address: step.needs for step in plan.steps} == {"new": ("old",), "old": ()}


class TestReferences:
    DB = wanted("db", image="one")
    APP = wanted("app", environment={"DB": mark(Address("db"), "url")}, references=["db"])

    def resolved(self) -> DesiredSandbox:
        return wanted("app", environment={"DB": seen(self.DB).info.sandbox_url}, references=["db"])

    def test_a_value_not_known_yet_is_said(self) -> None:
        plan = plan_of((self.DB, self.APP), None)
        app = next(step for step in plan.steps if step.address == "app")
        assert app.spec["environment.DB"] == "(known after apply)"
        assert app.needs == ("db",)

    def test_a_live_value_is_filled_in_and_nothing_changes(self) -> None:
        app = self.resolved()
        plan = plan_of((self.DB, self.APP), state(record(self.DB), record(app)), seen(self.DB), seen(app))
        assert plan.empty

    def test_replacing_what_is_referred_to_replaces_the_one_that_refers(self) -> None:
        app, db = self.resolved(), wanted("db", image="two")
        plan = plan_of((db, self.APP), state(record(self.DB), record(app)), seen(self.DB), seen(app))
        assert {step.address: step.action for step in plan.steps} == {"db": "replace", "app": "replace"}
        assert next(s for s in plan.steps if s.address == "app").needs == ("db",)


def test_ids_fit_the_contract_and_tell_addresses_apart() -> None:
    from reconciler.core.identity import sandbox_id

    addresses = ["a", "a[0]", 'region["EU-west/1"]', "x" * 60, '["☃"]']
    ids = [sandbox_id("s", Address(a), g) for a in addresses for g in (1, 2)]
    import re

    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,49}[a-z0-9])?", i) for i in ids)
    assert len(set(ids)) == len(ids)


def test_unlisted_capabilities_replace_everything() -> None:
    after = wanted("a", image="one", resources=Resources(memory=2))
    [step] = plan_of((after,), state(record(A)), seen(A), capabilities=Capabilities()).steps
    assert step.action is Action.REPLACE
    assert ABLE.updates_in_place("resources.memory")


def test_what_the_backend_itself_puts_back_is_not_called_recorded_only() -> None:
    there = replace(seen(A), astray=(Astray(path="container.name", live="foo", meant="a"),))
    [step] = plan_of((A,), state(record(A)), there).steps
    assert (step.action, step.cost) == (Action.UPDATE, "in place, no restart")
