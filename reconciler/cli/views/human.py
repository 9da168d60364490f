"""A plan for people: destroys first, replicas in one block, every changed field with its reason's place.

Sees the plan and nothing else; computes no decision, prints nothing, and is readable without colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reconciler.cli.views import wording
from reconciler.cli.views.beside import expiring_text, moves_text, refusals_text, rollout_text
from reconciler.cli.views.fields import FIELD, rows_text
from reconciler.cli.views.grouping import Block, blocks, needs
from reconciler.cli.views.legend import COLOUR, legend
from reconciler.cli.views.style import BOLD, Style, cells, fit, harmless, pad, wrapped
from reconciler.cli.views.summary import summary
from reconciler.cli.views.values import counted
from reconciler.model.address import Address
from reconciler.model.evidence import evidenced
from reconciler.model.plan import Action, Plan, Reason

# What happened to the object itself, as opposed to one of its fields.
HAPPENED_OUTSIDE = (Reason.MISSING, Reason.DEAD, Reason.TERMINATING, Reason.PAUSED)


def plan_text(plan: Plan, *, width: int, style: Style) -> str:
    """The whole plan, no line wider than `width` columns, ending in the summary line, and after it only in why the
    plan is refused."""
    lines = list(_lines(plan, width, style))
    lines += [style.bold(line) for line in wrapped(summary(plan), width)]
    lines += refusals_text(plan.refusals, width, style)
    return "\n".join(lines) + "\n"


def _lines(plan: Plan, width: int, style: Style) -> Iterator[str]:
    yield from _scope(plan, width, style)
    if plan.steps:
        yield from legend(plan, width, style)
        yield ""
    yield from moves_text(plan, width, style)
    if plan.steps:
        yield from _steps(plan, width, style)
    for waves in plan.rollouts:
        yield from rollout_text(waves, plan, width, style)
    yield from expiring_text(plan, width, style)
    yield from _rest(plan, width, style)


def _scope(plan: Plan, width: int, style: Style) -> Iterator[str]:
    """What this plan is not about, before anybody reads it as if it were."""
    said = [] if plan.selection.refresh else [wording.NOT_REFRESHED]
    said += [text for text in [wording.selected(plan.selection)] if text]
    for text in said:
        yield from (style.dim(line) for line in wrapped(text, width))
    if said:
        yield ""


def _steps(plan: Plan, width: int, style: Style) -> Iterator[str]:
    steps = blocks(plan.steps)
    drifted = [block for block in steps if block.drift or block.step.reason in HAPPENED_OUTSIDE]
    if drifted:
        yield style.bold("Changed outside, since the last apply:")
        yield ""
        for block in drifted:
            yield from _drift(block, width, style)
        yield ""
    if drifted or plan.moves:
        yield style.bold("To do:")
        yield ""
    for block in steps:
        yield from _block(block, width, style)
        yield ""


def _rest(plan: Plan, width: int, style: Style) -> Iterator[str]:
    """What there is besides, in a line each."""
    if plan.steps and plan.unchanged:
        others = counted(len(plan.unchanged), "other sandbox", "other sandboxes")
        yield style.dim(fit(f"{others} unchanged.", width))
    if plan.left_out:
        yield from (style.dim(line) for line in wrapped(wording.left_out(plan), width))


def _heading(block: Block, width: int, style: Style) -> Iterator[str]:
    step = block.step
    colour = COLOUR[step.action]
    symbol = pad(step.symbol, 3)
    name, backend = fit(block.title, width - 4), f"[{harmless(step.backend)}]"
    why = reason_text(block)
    lead = f"{style.paint(symbol, colour, BOLD)} {style.bold(name)}"
    used = 4 + cells(name)
    if used + 2 + cells(backend) + 2 + cells(why) <= width:
        yield f"{lead}  {backend}  {style.dim(why)}"
        return
    yield f"{lead}  {backend}" if used + 2 + cells(backend) <= width else lead
    for line in wrapped(why, width, indent="    "):
        yield style.dim(line)


def reason_text(block: Block) -> str:
    """Why the steps of a block are in the plan, with the detail that goes with it."""
    return evidenced(block.step.reason.text, harmless(block.step.detail))


def remarks(block: Block) -> Sequence[str]:
    """What a reader has to know of the steps of a block besides their fields, a sentence each."""
    step = block.step
    said = [wording.ladder(step), *map(harmless, step.passed_over), wording.needed_by(step)]
    said.append("in waves: see its rollout" if step.wave else "")
    return [text for text in said if text]


def _block(block: Block, width: int, style: Style) -> Iterator[str]:
    step = block.step
    yield from _heading(block, width, style)
    yield from rows_text(block.rows, width, style)
    if block.drift:
        yield from wrapped(
            f"puts back {counted(len(block.drift), 'field')} changed outside", width, indent=FIELD
        )
    if step.unchanged and step.action is not Action.CREATE:
        yield style.dim(fit(f"{FIELD}{counted(step.unchanged, 'unchanged field')} hidden", width))
    for index, text in enumerate(remarks(block)):
        ladder = step.rungs and not index  # what it will do, not a remark on it
        yield from (line if ladder else style.dim(line) for line in wrapped(text, width, indent=FIELD))
    if needs(step):
        after = f"after {', '.join(wording.grouped(map(Address, needs(step))))}"
        yield from (style.dim(line) for line in wrapped(after, width, indent=FIELD))
    if step.cost:
        yield from wrapped(f"cost: {harmless(step.cost)}", width, indent=FIELD)


def _drift(block: Block, width: int, style: Style) -> Iterator[str]:
    name = fit(block.title, width - 4)
    happened = reason_text(block) if block.step.reason in HAPPENED_OUTSIDE else ""
    if happened and 4 + cells(name) + 2 + cells(happened) > width:
        yield f"    {style.bold(name)}"
        yield from wrapped(happened, width, indent=FIELD)
    else:
        yield f"    {style.bold(name)}" + (f"  {happened}" if happened else "")
    yield from rows_text(block.drift, width, style, join=" live, declared ")
