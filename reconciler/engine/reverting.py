"""A rollout with `auto_revert` that failed is taken back to what was healthy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconciler.core.revert import reversal, reverting
from reconciler.core.saved import Held
from reconciler.engine.context import Context
from reconciler.engine.run import ApplyOptions, ApplyReport, carry_out
from reconciler.engine.stop import StopRequest
from reconciler.engine.survey import View, survey
from reconciler.model.event import Planned, Remark
from reconciler.model.outcome import StepResult
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
    again = survey(reverting_context, back.selection)
    steps = reverting(again.plan.steps)
    again = replace(again, plan=replace(again.plan, steps=steps, refusals=()))
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
