"""The last line of a plan: how much of what, and whether it may be carried out."""

from __future__ import annotations

from reconciler.cli.views.style import harmless
from reconciler.cli.views.wording import moved
from reconciler.model.plan import Action, Plan, Reason


def summary(plan: Plan) -> str:
    """`Plan: 3 to create, 1 to change, 1 to replace, 0 to destroy.`; other actions only when there are any."""
    line = _counts(plan) if plan.steps else _without_steps(plan)
    if plan.refusals:
        return f"{line} Refused, so it is not carried out."
    return line


def _counts(plan: Plan) -> str:
    tally = plan.tally()
    let_go = sum(step.reason is Reason.LET_GO for step in plan.steps)
    forgotten = tally.get(Action.FORGET, 0) - let_go
    always = [
        f"{tally.get(action, 0)} to {verb}"
        for action, verb in (
            (Action.CREATE, "create"),
            (Action.UPDATE, "change"),
            (Action.REPLACE, "replace"),
            (Action.DESTROY, "destroy"),
        )
        if tally.get(action) or not plan.selection.refresh_only
    ]
    more = [
        (tally.get(Action.REPAIR, 0), "repair"),
        (tally.get(Action.ADOPT, 0), "adopt"),
        (forgotten, "forget"),
        (let_go, "let go"),
        (len(plan.moves), "move"),
    ]
    counts = [*always, *(f"{count} to {verb}" for count, verb in more if count)]
    if plan.selection.refresh_only:
        return f"Plan: {', '.join(counts)}; records only, no sandbox is touched."
    return f"Plan: {', '.join(counts)}."


def _without_steps(plan: Plan) -> str:
    stack = harmless(plan.stack)
    if plan.moves:
        return f"No sandbox changes; {moved(len(plan.moves))}."
    if plan.selection.partial:
        return f"{'Nothing to destroy' if plan.destroy else 'No changes'} among what was selected."
    if plan.destroy:
        return f"Nothing to destroy. Stack {stack} has no sandboxes."
    if plan.selection.refresh_only:
        return f"No changes. The records of stack {stack} are as its sandboxes are; no sandbox is touched."
    kept = len(plan.unchanged)
    if not kept:
        return f"No changes. Stack {stack} declares no sandboxes, and has none."
    whole, verb = ("The sandbox", "is") if kept == 1 else (f"All {kept} sandboxes", "are")
    recorded = "" if plan.selection.refresh else "recorded "
    return f"No changes. {whole} of stack {stack} {verb} {recorded}as declared."
