"""Why an address is as it is: from the YAML line over record and observation to what the next apply will do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reconciler.core.references import readable
from reconciler.engine.context import Context
from reconciler.engine.survey import survey
from reconciler.errors import NotFound
from reconciler.model.desired import Address, DesiredSandbox, Scalar
from reconciler.model.observed import ObservedSandbox
from reconciler.model.plan import FieldChange, Reason, Step
from reconciler.model.state import SandboxRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and its lines."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
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
    main = own[-1] if own else steps[-1] if steps else None
    return Explanation(
        address=key,
        action=str(main.action) if main else "",
        reason=str(main.reason) if main else "",
        sections=(
            Section(title="declared", lines=tuple(_declared(wanted))),
            Section(title="recorded", lines=tuple(_recorded(record))),
            Section(title="observed", lines=tuple(_observed(seen, relabels=_relabels(context, seen)))),
            Section(title="next apply", lines=tuple(_next(steps))),
        ),
    )


def _declared(wanted: DesiredSandbox | None) -> Iterator[str]:
    if wanted is None:
        yield "not in the configuration"
        return
    yield f"{wanted.position.short} as {wanted.group!r}, on backend {wanted.backend!r}"
    if wanted.depends_on:
        yield f"depends on {', '.join(sorted(set(wanted.depends_on)))}"
    flat: Mapping[str, Scalar] = wanted.spec.canonical()
    for path, value in flat.items():
        shown = "•••" if path.startswith("secrets.") and not path.endswith(".as") else readable(str(value))
        yield f"{path} = {shown}  ({wanted.at(path).short})"


def _recorded(record: SandboxRecord | None) -> Iterator[str]:
    if record is None:
        yield "the state does not know it"
        return
    yield f"{record.status}, generation {record.generation}, id {record.sandbox_id}"
    yield f"made from spec {record.spec_hash[:12] or 'unknown (an update was interrupted)'}"
    if record.imported:
        yield "imported: others made it"
    if record.error:
        yield f"last error: {record.error}"


def _relabels(context: Context, seen: ObservedSandbox | None) -> bool:
    return seen is None or context.backends.get(seen.backend).capabilities.relabels


def _observed(seen: ObservedSandbox | None, *, relabels: bool) -> Iterator[str]:
    if seen is None:
        yield "nothing is there"
        return
    yield f"{seen.phase} at {seen.info.sandbox_url or 'no URL'}" + (
        f" ({seen.detail})" if seen.detail else ""
    )
    if seen.owner is not None:
        what = "spec" if relabels else "the fields that are fixed at creation"
        yield f"labelled generation {seen.owner.generation}, {what} {seen.owner.spec_hash[:12]}"


def _next(steps: list[Step]) -> Iterator[str]:
    if not steps:
        yield "nothing: it is as declared"
    for step in steps:
        yield f"{step.symbol} {step.action}: {step.reason.text}" + (
            f" ({step.detail})" if step.detail else ""
        )
        if step.cost:
            yield f"  cost: {step.cost}"
        if step.needs:
            yield f"  after {', '.join(step.needs)}"
        for change in step.changes:
            yield f"  {_change(change)}"


def _change(change: FieldChange) -> str:
    before, after = ("•••", "•••") if change.sensitive else (change.before, change.after)
    marks = ", changed outside" if change.outside else ""
    marks += ", forces replacement" if change.forces_replacement else ""
    place = f" ({change.position.short})" if change.position else ""
    return f"{change.path}: {before} → {after}{marks}{place}"
