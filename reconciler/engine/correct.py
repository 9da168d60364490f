"""What drifted is put back: under the lock, after another look, and nothing but that."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.drift import chosen, corrections
from reconciler.core.saved import Held
from reconciler.engine.context import Context
from reconciler.engine.drift import DriftView
from reconciler.engine.run import ApplyOptions, carry_out
from reconciler.engine.stop import StopRequest
from reconciler.errors import PlanRefused, StoreError
from reconciler.model.desired import Address
from reconciler.model.event import ApplyEnded, Event, Planned
from reconciler.model.outcome import StepResult
from reconciler.model.plan import Plan, Step
from reconciler.stores.base import Lease


class Correction(Struct, frozen=True, kw_only=True):
    """What was done: the plan, and one result per step of it. `unsaved` is why the state after it could not be written."""

    plan: Plan
    results: tuple[StepResult, ...] = ()
    interrupted: bool = False
    unsaved: StoreError | None = None

    def ended(self) -> list[tuple[Step, StepResult]]:
        return list(zip(self.plan.steps, self.results, strict=True)) if self.results else []


def correct(
    context: Context,
    seen: DriftView,
    addresses: Collection[Address],
    lease: Lease,
    stop: StopRequest,
    *,
    waiting: Collection[Address] = (),
    tell_plan: bool = False,
) -> Correction:
    """Put these back. `seen` is a look under the lock that `lease` is; `waiting` are left alone, whatever they follow. Raises
    PlanRefused when policy forbids it, and what a run raises before its end."""
    assert seen.view is not None
    meant = chosen(seen.view.plan, seen.applied, addresses, waiting)
    rest = frozenset(drift.address for drift in seen.drifts) - meant
    made = seen.view.leaving(seen.applied.desired, rest) if rest else seen.view
    plan = corrections(made.plan, seen.applied, meant, waiting)
    if tell_plan:
        context.emit(Planned(plan=plan))
    if plan.refusals:
        raise PlanRefused(
            "\n".join(refusal.summary for refusal in plan.refusals),
            hint="; ".join(dict.fromkeys(refusal.fix for refusal in plan.refusals)),
        )
    if plan.empty:
        return Correction(plan=plan)
    view = replace(made, plan=plan)
    held = Held(shown=plan, plan=plan)
    ended: list[ApplyEnded] = []

    def emit(event: Event) -> None:
        if isinstance(event, ApplyEnded):
            ended.append(event)
        context.emit(event)

    as_it_was = replace(context, desired=seen.applied.desired, emit=emit)
    try:
        report, results = carry_out(as_it_was, ApplyOptions(), view, held, lease, stop)
    except StoreError as error:
        if not ended:
            raise
        return Correction(
            plan=plan, results=ended[0].results, interrupted=ended[0].interrupted, unsaved=error
        )
    return Correction(plan=plan, results=results, interrupted=report.interrupted)
