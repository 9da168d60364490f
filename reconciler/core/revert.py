"""`auto_revert`: what a failed rollout is taken back to. Pure.

What was changed goes back to the last specification that its address was healthy with, wherever one is known: in this run's
beginning, or, when earlier runs of the same rollout were interrupted, before those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.core.restore import Unrestorable, restored
from reconciler.model.desired import Address, Desired, DesiredSandbox, FlatSpec
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Action, Plan, Reason, Selection, Step, Waves
from reconciler.model.state import SandboxRecord, State, Status

_ACTION = {Action.REPAIR: Action.REPLACE}  # what failed is not mended, but taken back
_UNTOUCHED = (StepStatus.SKIPPED, StepStatus.NOT_STARTED, StepStatus.STALE)


class Reversal(Struct):
    """`desired` declares what was healthy in place of what failed, and `selection` means nothing else. `groups` are the
    rollouts that are taken back."""

    desired: Desired
    selection: Selection
    groups: tuple[str, ...]
    diagnostics: list[Diagnostic] = field(default_factory=list)


def reversal(
    plan: Plan, results: Sequence[StepResult], before: State | None, desired: Desired
) -> Reversal | None:
    """What to do about the rollouts that failed; None when there is nothing to take back. `before` is the state before the
    run, `results` are in the plan's order."""
    ended = dict(zip((step.key for step in plan.steps), results, strict=True))
    failed = [rollout for rollout in plan.rollouts if rollout.auto_revert and _failed(rollout, ended)]
    records = before.sandboxes if before else {}
    back: dict[Address, DesiredSandbox] = {}
    diagnostics: list[Diagnostic] = []
    for rollout in failed:
        for step in _touched(rollout, plan, ended):
            address = step.address
            sandbox = _healthy(desired.sandboxes[address], step, records.get(address), diagnostics)
            if sandbox is not None:
                back[address] = sandbox
    if not back and not diagnostics:
        return None
    return Reversal(
        desired=replace(desired, sandboxes={**desired.sandboxes, **back}, imports={}),
        selection=Selection(targets=tuple(sorted(back))),
        groups=tuple(rollout.group for rollout in failed),
        diagnostics=diagnostics,
    )


def reverting(steps: Iterable[Step]) -> tuple[Step, ...]:
    """The steps of a reversal, with the reason they have. What is protected is not taken down, for a reversal neither."""
    return tuple(
        replace(
            step,
            action=_ACTION.get(step.action, step.action),
            reason=Reason.REVERTED,
            rungs=(),
            passed_over=(),
            detail="",
        )
        if step.desired is not None and not step.protected
        else step
        for step in steps
        if not (step.protected and step.action in (Action.REPLACE, Action.DESTROY))
    )


def _failed(rollout: Waves, ended: Mapping[str, StepResult]) -> bool:
    return any(
        ended[key].status is StepStatus.FAILED and not ended[key].ready
        for wave in rollout.waves
        for key in wave
        if key in ended
    )


def _touched(rollout: Waves, plan: Plan, ended: Mapping[str, StepResult]) -> list[Step]:
    keys = {key for wave in rollout.waves for key in wave}
    return [
        step
        for step in plan.steps
        if step.key in keys and step.key in ended and ended[step.key].status not in _UNTOUCHED
    ]


def _healthy(
    wanted: DesiredSandbox, step: Step, record: SandboxRecord | None, diagnostics: list[Diagnostic]
) -> DesiredSandbox | None:
    """The sandbox as it was last healthy; None when it never was, when that is what it was to be now, or when it cannot be
    made again."""
    flat = _last(record)
    if flat is None or flat == step.spec:
        return None
    try:
        spec = restored(flat, wanted.spec)
    except Unrestorable as lost:
        diagnostics.append(
            Diagnostic(
                severity=Severity.WARNING,
                code="revert-impossible",
                summary=f"{wanted.address} cannot go back to what was healthy: {lost}",
                fix="set the secret back, or mend the configuration and apply it",
                position=wanted.position,
            )
        )
        return None
    rollout = wanted.rollout and replace(wanted.rollout, auto_revert=False, canary=0)
    return replace(wanted, spec=spec, references=(), rollout=rollout)


def _last(record: SandboxRecord | None) -> FlatSpec | None:
    if record is None:
        return None
    return record.spec if record.status is Status.READY else record.healthy
