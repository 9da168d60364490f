"""Fixed ports of the host pass from one sandbox to another in one run, also where dependencies point the other way."""

from __future__ import annotations

from reconciler.core.planner import make_plan
from reconciler.core.references import mark
from reconciler.model.desired import Address, DesiredSandbox, Port
from reconciler.model.observed import Observed
from reconciler.model.plan import Plan
from tests.support.build import desired, options, record, seen, state, wanted

PORT = (Port(name="api", container=80, host=31000),)


def peer(of: str) -> DesiredSandbox:
    return wanted("c", references=[of], environment={"PEER": mark(Address(of), "url")})


def plan() -> Plan:
    """`old` leaves the configuration, `new` wants its port, and `c` refers to the one and will to the other."""
    old, before = wanted("old", ports=PORT), peer("old")
    live = Observed(sandboxes=(seen(old), seen(before)))
    return make_plan(
        desired(wanted("new", ports=PORT), peer("new")), state(record(old), record(before)), live, options()
    )


def test_who_frees_a_port_goes_first_though_a_dependent_waits_for_who_needs_it() -> None:
    needs = {step.key: step.needs for step in plan().steps}
    assert needs == {"old": (), "new": ("old",), "c": ("new",)}


def test_a_dependent_that_waits_for_nobody_goes_before_what_it_depended_on() -> None:
    old, before = wanted("old", ports=PORT), wanted("c", depends_on=["old"])
    live = Observed(sandboxes=(seen(old), seen(before)))
    made = make_plan(desired(wanted("new", ports=PORT)), state(record(old), record(before)), live, options())
    assert {step.key: step.needs for step in made.steps} == {"c": (), "old": ("c",), "new": ("old",)}
