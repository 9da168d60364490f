"""Any configuration with any rules of a life cycle, any state and any world, for properties of planning."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from reconciler.core.planner import PlanOptions, make_plan
from reconciler.errors import NotFound, Refused
from reconciler.model.desired import Desired, DesiredSandbox, Lifecycle
from reconciler.model.lifecycle import Rollout
from reconciler.model.observed import Observed
from reconciler.model.plan import Plan, Selection
from reconciler.model.state import SandboxRecord, State
from tests.core.test_planner_properties import LINEAGE, configurations, listing, objects, states
from tests.sim.world import CAPABILITIES, Thing
from tests.support.effort import effort

THOROUGH = settings(
    max_examples=effort(100, 400), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
NOW = 1000.0
PATTERNS = ("a", "b", "c", "c[0]", 'd["x"]', "label:tier=x", "c*", "*")

rollouts = st.builds(
    Rollout,
    max_unavailable=st.integers(1, 3),
    max_unavailable_percent=st.sampled_from([None, 50.0]),
    canary=st.integers(0, 1),
    auto_revert=st.booleans(),
)


@st.composite
def life_cycles(draw: st.DrawFn) -> Desired:
    """Configurations in which anything is protected, short-lived, replaced with what it needs, or rolled out."""
    config = draw(configurations())
    rollout = draw(st.none() | rollouts)  # of the one group that has several
    made = [_with_rules(draw, sandbox, rollout) for sandbox in config.sandboxes.values()]
    return replace(config, sandboxes={sandbox.address: sandbox for sandbox in made})


def _with_rules(draw: st.DrawFn, sandbox: DesiredSandbox, rollout: Rollout | None) -> DesiredSandbox:
    lifecycle = Lifecycle(
        create_first=sandbox.lifecycle.create_first,
        prevent_destroy=draw(st.sampled_from([False, False, True])),
        ignore_changes=draw(st.sampled_from([(), (), ("labels",), ("image",), ("*",)])),
        replace_triggered_by=sandbox.depends_on if draw(st.booleans()) else (),
        max_lifetime=draw(st.sampled_from([None, None, 500.0, 5000.0])),
    )
    return replace(sandbox, lifecycle=lifecycle, rollout=rollout if sandbox.group == "c" else None)


@st.composite
def pasts(draw: st.DrawFn) -> State | None:
    """States that remember protection and triggers, and something let go."""
    state = draw(states())
    if state is None:
        return None
    records = {address: _remembering(draw, record) for address, record in state.sandboxes.items()}
    return replace(state, sandboxes=records)


def _remembering(draw: st.DrawFn, record: SandboxRecord) -> SandboxRecord:
    return replace(
        record,
        protected=draw(st.booleans()),
        triggers={a: draw(st.sampled_from(["c0", "c1", ""])) for a in ("a", "b") if draw(st.booleans())},
    )


@st.composite
def worlds(draw: st.DrawFn) -> Mapping[str, Thing]:
    """What is there, some of it labelled as protected."""
    things = draw(objects())
    return {
        identity: replace(
            thing,
            owner=replace(thing.owner, protected=draw(st.booleans())) if thing.owner else None,
            info=replace(thing.info, created_at=draw(st.sampled_from([0.0, 1.0, NOW]))),
        )
        for identity, thing in things.items()
    }


def planned(
    config: Desired, known: State | None, things: Mapping[str, Thing], selection: Selection = Selection()
) -> Plan | None:
    """None where nothing can be planned: two lineages without a state, or a pattern that means nothing."""
    options = PlanOptions(new_lineage=LINEAGE, capabilities=CAPABILITIES, selection=selection, now=NOW)
    try:
        return make_plan(config, known, Observed(sandboxes=listing(things)), options)
    except (Refused, NotFound):
        return None
