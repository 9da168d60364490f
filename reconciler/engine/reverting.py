"""A rollout with `auto_revert` that failed is taken back to what was healthy."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from reconciler.core.revert import Reversal, reversal, reverting
from reconciler.core.saved import Held
from reconciler.engine.context import Context
from reconciler.engine.run import ApplyOptions, ApplyReport, carry_out
from reconciler.engine.stop import StopRequest
from reconciler.engine.survey import View, survey
from reconciler.errors import ReconcilerError
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.event import Planned, Remark
from reconciler.model.outcome import StepResult
from reconciler.model.plan import Selection
from reconciler.stores.base import Lease


def taken_back(
    context: Context,
    options: ApplyOptions,
    view: View,
    report: ApplyReport,
    ran: Sequence[StepResult],
    lease: Lease,
    stop: StopRequest,
) -> ApplyReport:
    """What failed in a rollout with `auto_revert` goes back to what was healthy, in a run of its own under the same lock.
    Not when the run was stopped: then the next one goes on with it."""
    back = None
    if view.plan.rollouts and ran and not stop.requested:
        back = reversal(view.plan, ran, view.state, context.desired)
    if back is None:
        return report
    for diagnostic in back.diagnostics:
        context.emit(Remark(diagnostic=context.illustrate(diagnostic)))
    if not back.selection.targets:
        return report
    reverting_context = replace(context, desired=back.desired)
    try:
        again = survey(reverting_context, back.selection)
    except ReconcilerError as error:
        context.emit(Remark(diagnostic=_not_yet(back, error)))
        return report
    made = replace(
        again.plan, steps=reverting(again.plan.steps), refusals=(), left_out=(), selection=Selection()
    )
    again = replace(again, plan=made)
    context.emit(Planned(plan=again.plan))
    held = Held(shown=again.plan, plan=again.plan)
    reverted, _ = carry_out(reverting_context, options, again, held, lease, stop)
    return replace(
        report,
        reverts=reverted.results,
        outputs=reverted.outputs,
        interrupted=reverted.interrupted,
        seconds=report.seconds + reverted.seconds,
    )


def _not_yet(back: Reversal, error: ReconcilerError) -> Diagnostic:
    """What failed stays as it is for now; what was healthy is in the state."""
    return Diagnostic(
        severity=Severity.ERROR,
        code="revert-not-begun",
        summary=f"the rollout of {', '.join(back.groups)} could not be taken back: {error.message}",
        fix="mend that, then apply again: what was healthy is remembered",
    )
