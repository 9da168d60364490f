"""The story, readable top to bottom: plan, apply, outputs. Decisions are made in `core`, effects in order in `run`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from reconciler.core.saved import Held, hold
from reconciler.engine.context import Context
from reconciler.engine.locking import locked
from reconciler.engine.run import MASK as MASK
from reconciler.engine.run import ApplyOptions as ApplyOptions
from reconciler.engine.run import ApplyReport as ApplyReport
from reconciler.engine.run import carry_out
from reconciler.engine.run import outputs_of as outputs_of
from reconciler.engine.stop import StopRequest
from reconciler.engine.survey import View, survey
from reconciler.errors import PlanRefused, Refused
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.event import Planned, Remark, StepEnded
from reconciler.model.plan import Action, Plan, Selection


def plan(context: Context, selection: Selection = Selection()) -> Plan:
    """The difference between what should be and what is. Writes nothing, and calls only observing verbs."""
    return survey(context, selection).plan


def apply(
    context: Context,
    options: ApplyOptions,
    *,
    confirm: Callable[[Plan], bool],
    stop: StopRequest,
) -> ApplyReport:
    """Take the lock, plan, ask, act, save. The lock is held from before the look until after the save, so nobody
    else's run comes between. Raises LockHeld, and whatever `survey` raises."""
    operation = "destroy" if options.destroy else "apply"
    with locked(context, operation, options.lock_timeout) as lease:
        view = survey(context, options.selection)
        held = _held(context, options, view)
        view = replace(view, plan=held.plan)
        context.emit(Planned(plan=held.shown))
        _refuse_takeover(view.plan)
        _refuse(view.plan)
        if not view.plan.empty and not confirm(view.plan):
            return ApplyReport(plan=view.plan, declined=True)
        _tell_refused(context, held)
        report, ran = carry_out(context, options, view, held, lease, stop)
        if not view.plan.rollouts:
            return report
        from reconciler.engine.reverting import taken_back

        return taken_back(context, options, view, report, ran, lease, stop)


def _held(context: Context, options: ApplyOptions, view: View) -> Held:
    if options.saved is None:
        return Held(shown=view.plan, plan=view.plan)
    return hold(options.saved, view.plan, state=view.state, desired=context.desired, inputs=context.inputs())


def _tell_refused(context: Context, held: Held) -> None:
    for remark in held.remarks:
        context.emit(Remark(diagnostic=remark))
    for key, result in held.refused.items():
        context.emit(StepEnded(result=result, key=key))


def _refuse_takeover(made: Plan) -> None:
    """Without a state, labels alone say that live sandboxes are ours: enough to adopt them, not to destroy them.
    They may be another checkout's, which still has its state."""
    taken = [step for step in made.steps if step.destroys or step.action is Action.UPDATE]
    if made.lineage_found and taken:
        raise Refused(
            f"there is no state for stack {made.stack!r} here, and this plan would change or destroy "
            f"{len(taken)} live sandboxes that carry its labels: {', '.join(step.address for step in taken[:5])}",
            hint="if another checkout made them, give this stack a name of its own; if the state was lost, bring it "
            "back, or first apply a configuration that only adopts them as they are",
        )


def _refuse(made: Plan) -> None:
    """Raises PlanRefused with everything that speaks against carrying it out."""
    if not made.refusals:
        return
    raise PlanRefused(
        "\n".join(_told(refusal) for refusal in made.refusals),
        hint="; ".join(dict.fromkeys(refusal.fix for refusal in made.refusals)),
    )


def _told(refusal: Diagnostic) -> str:
    return f"{refusal.position.short}: {refusal.summary}" if refusal.position else refusal.summary


def outputs(context: Context) -> Mapping[str, tuple[str, bool]]:
    """The outputs as the state knows them. Calls no backend."""
    return outputs_of(context, context.recorded())
