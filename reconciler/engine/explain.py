"""Why an address is as it is: from the YAML line over record and observation to what the next apply will do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from reconciler.core.references import readable
from reconciler.engine.context import Context
from reconciler.engine.survey import survey
from reconciler.errors import NotFound
from reconciler.model.desired import Address, DesiredSandbox, Scalar
from reconciler.model.evidence import evidenced
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.plan import FieldChange, Reason, Step
from reconciler.model.position import Block, Position, origin
from reconciler.model.state import SandboxRecord


class Section(Struct, frozen=True, kw_only=True):
    """A heading and its lines."""

    title: str
    lines: tuple[str, ...]


class Explanation(Struct, frozen=True, kw_only=True):
    """`action` and `reason` are wire values, "" when nothing is to do; `sections` are for people, in order."""

    address: Address
    action: str
    reason: str
    sections: tuple[Section, ...]


def why(context: Context, address: str) -> Explanation:
    """Everything known about one address. Raises NotFound when nobody knows it."""
    view = survey(context)
    key = Address(address)
    wanted = context.desired.sandboxes.get(key)
    record = view.state.sandboxes.get(key) if view.state else None
    seen = view.live().get(key)
    if wanted is None and record is None and seen is None:
        known = sorted({*context.desired.sandboxes, *(view.state.sandboxes if view.state else ())})
        raise NotFound(
            f"there is no sandbox {address}", hint=f"there is: {', '.join(known[:10]) or 'nothing'}"
        )
    steps = [step for step in view.plan.steps if step.address == key]
    own = [step for step in steps if step.reason is not Reason.SUPERSEDED]
    blocks = context.desired.blocks
    refused = [refusal.summary for refusal in view.plan.refusals if steps]
    main = own[-1] if own else steps[-1] if steps else None
    return Explanation(
        address=key,
        action=str(main.action) if main else "",
        reason=str(main.reason) if main else "",
        sections=(
            Section(title="declared", lines=tuple(_declared(wanted, blocks, view.plan.expiring.get(key)))),
            Section(title="recorded", lines=tuple(_recorded(record))),
            Section(title="observed", lines=tuple(_observed(seen, relabels=_relabels(context, seen)))),
            Section(title="next apply", lines=tuple(_next(steps, record, blocks, refused))),
        ),
    )


def _declared(wanted: DesiredSandbox | None, blocks: Sequence[Block], expires: float | None) -> Iterator[str]:
    if wanted is None:
        yield "not in the configuration"
        return
    yield f"{wanted.position.short} as {wanted.group!r}, on backend {wanted.backend!r}"
    if wanted.depends_on:
        yield f"depends on {', '.join(sorted(set(wanted.depends_on)))}"
    flat: Mapping[str, Scalar] = wanted.spec.canonical()
    for path, value in flat.items():
        shown = "•••" if path.startswith("secrets.") and not path.endswith(".as") else readable(str(value))
        yield f"{path} = {shown}  ({_place(wanted.at(path), blocks)})"
    rules = wanted.lifecycle
    if rules.prevent_destroy:
        yield f"protected  ({_place(wanted.at('lifecycle.prevent_destroy'), blocks)})"
    if rules.ignore_changes:
        where = _place(wanted.at("lifecycle.ignore_changes"), blocks)
        yield f"changes of {', '.join(rules.ignore_changes)} are left alone  ({where})"
    if rules.replace_triggered_by:
        where = _place(wanted.at("lifecycle.replace_triggered_by"), blocks)
        yield f"replaced with {', '.join(rules.replace_triggered_by)}  ({where})"
    if expires is not None:
        where = _place(wanted.at("lifecycle.max_lifetime"), blocks)
        yield f"expires in {_left(expires)}  ({where})"


def _left(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _place(position: Position, blocks: Sequence[Block]) -> str:
    """The line, and whether a template or the defaults say it there."""
    title = origin(blocks, position)
    return f"{position.short}, in {title}" if title else position.short


def _recorded(record: SandboxRecord | None) -> Iterator[str]:
    if record is None:
        yield "the state does not know it"
        return
    yield f"{record.status}, generation {record.generation}, id {record.sandbox_id}"
    yield f"made from spec {record.spec_hash[:12] or 'unknown (an update was interrupted)'}"
    if record.imported:
        yield "imported: others made it"
    if record.protected:
        yield "protected: no plan destroys or replaces it"
    if record.healthy is not None:
        yield "it was healthy with another specification before this one"
    if record.error:
        yield f"last error: {record.error}"


def _relabels(context: Context, seen: ObservedSandbox | None) -> bool:
    return seen is None or context.backends.get(seen.backend).capabilities.relabels


def _observed(seen: ObservedSandbox | None, *, relabels: bool) -> Iterator[str]:
    if seen is None:
        yield "nothing is there"
        return
    up = seen.phase is Phase.STARTING  # nobody asked it
    yield evidenced(f"{'up' if up else seen.phase} at {seen.info.sandbox_url or 'no URL'}", seen.detail)
    if up:
        yield "whether it answers is what `reconciler status` tells"
    if seen.reach:
        yield f"reached by `{seen.reach}`"
    if seen.owner is not None:
        what = "spec" if relabels else "the fields that are fixed at creation"
        yield f"labelled generation {seen.owner.generation}, {what} {seen.owner.spec_hash[:12]}"


def _next(
    steps: Sequence[Step], record: SandboxRecord | None, blocks: Sequence[Block], refused: Sequence[str]
) -> Iterator[str]:
    if not steps:
        yield "nothing: it is as declared"
    for step in steps:
        yield f"{step.symbol} {step.action}: {evidenced(step.reason.text, step.detail)}"
        if step.because:
            yield f"  because {step.because}"
        for change in step.changes:
            yield from _chain(change, step, record, blocks)
        yield from (f"  {told}" for told in step.passed_over)
        if step.rungs:
            yield f"  tries first: {', '.join(step.rungs)}"
        if step.wave:
            yield f"  in wave {step.wave} of the rollout"
        if step.cost:
            yield f"  cost: {step.cost}"
        if step.needs:
            yield f"  after {', '.join(step.needs)}"
    yield from (f"refused: {told}" for told in refused)


def _chain(
    change: FieldChange, step: Step, record: SandboxRecord | None, blocks: Sequence[Block]
) -> Iterator[str]:
    """One field, from the line that says it over what was applied and what lives to what that makes of it."""

    def shown(value: Scalar) -> str:
        return "•••" if change.sensitive else "not set" if value is None else readable(str(value))

    yield f"  {change.path}: {shown(change.before)} → {shown(change.after)}"
    if change.position:
        yield f"    declared: {shown(change.after)}  ({_place(change.position, blocks)})"
    if record is not None and change.path in record.spec:
        yield f"    applied:  {shown(record.spec[change.path])}"
    live = step.current.attributes if step.current else None
    if live is not None and change.path in live:
        yield f"    live:     {shown(live[change.path])}"
    elif step.current is not None and not change.path.startswith(("lifecycle.", "container.")):
        yield "    live:     cannot be read back"
    ways = ["changed outside"] if change.outside else []
    ways += [
        "fixed at creation, so it forces replacement" if change.forces_replacement else "changes in place"
    ]
    yield f"    so:       {', '.join(ways)}"
