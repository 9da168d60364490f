"""What drifted, for people: each sandbox with its likely cause, the fields that differ, and what is done about it.

Sees a look that was made; asks nobody anything. Sandboxes that drifted in the same way are told together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from reconciler.cli.views.fields import FIELD, rows_text
from reconciler.cli.views.grouping import Row, split, together
from reconciler.cli.views.style import GREEN, RED, YELLOW, Style, harmless, wrapped
from reconciler.cli.views.values import counted, duration, show_value
from reconciler.core.applied import NOT_APPLIED
from reconciler.core.succession import RECORDED_ONLY
from reconciler.model.desired import Address, address_order
from reconciler.model.drift import Drift
from reconciler.model.evidence import evidenced
from reconciler.model.lifecycle import DriftPolicy
from reconciler.model.plan import SYMBOL, Action

_MOST_PENDING = 5
_CODES = {Action.UPDATE: (YELLOW,), Action.ADOPT: (GREEN,), Action.CREATE: (GREEN,)}
_VERBS: Mapping[Action, str] = {
    Action.CREATE: "made again",
    Action.UPDATE: "changed back in place",
    Action.REPLACE: "replaced",
    Action.REPAIR: "repaired",
    Action.ADOPT: "recorded, once it answers",
    Action.DESTROY: "destroyed",
    Action.FORGET: "forgotten",
}


def drift_text(
    found: Sequence[Drift],
    *,
    stack: str,
    fleet: int,
    pending: Mapping[Address, str],
    failures: Mapping[str, str],
    now: float,
    width: int,
    style: Style,
) -> str:
    """The report, of what could be seen. `fleet` is how many sandboxes are recorded and declared, `now` in seconds since
    the epoch."""
    lines = [style.bold(_headline(found, stack, fleet, pending, failures)), ""] if found else []
    for group in grouped(found):
        lines += _block(group, now, width, style)
        lines.append("")
    if not found:
        lines += [_headline(found, stack, fleet, pending, failures)]
    lines += _notes(pending, failures, width, style)
    return "\n".join(lines).rstrip("\n") + "\n"


def _nothing(pending: Collection[str]) -> str:
    """Why there is nothing to compare."""
    new = all(why == NOT_APPLIED for why in pending)
    return "Nothing was applied yet" if new else "Nothing is declared as it was applied"


def _headline(
    found: Sequence[Drift],
    stack: str,
    fleet: int,
    pending: Mapping[Address, str],
    failures: Mapping[str, str],
) -> str:
    scope = " that can be seen" if failures else ""
    if not found:
        what = "No drift: it is" if fleet == 1 else f"No drift: all {fleet} are"
        return (
            f"Stack {harmless(stack)}. {what} as last applied{scope}."
            if fleet
            else f"Stack {harmless(stack)}. {_nothing(pending.values())}{scope}, so nothing drifted."
        )
    ours = [drift for drift in found if drift.policy is not DriftPolicy.IGNORE or drift.why_not]
    ignored = f", of which {len(found) - len(ours)} is ignored" if len(found) - len(ours) == 1 else ""
    ignored = f", of which {len(found) - len(ours)} are ignored" if len(found) - len(ours) > 1 else ignored
    return f"Stack {harmless(stack)}: {len(found)} of {counted(max(fleet, len(found)), 'sandbox', 'sandboxes')} drifted{ignored}"


def grouped(found: Iterable[Drift]) -> list[list[Drift]]:
    """Those that differ in nothing but their address, together, in the order of the first of them."""
    groups: dict[object, list[Drift]] = {}
    for drift in sorted(found, key=lambda one: address_order(one.address)):
        key = (
            split(drift.address)[0],
            drift.backend,
            drift.reason,
            drift.cause,
            drift.policy,
            drift.action,
            drift.detail,
            tuple((c.path, c.before, c.after) for c in drift.changes),
            drift.why_not,
            drift.waits_for,
        )
        groups.setdefault(key, []).append(drift)
    return list(groups.values())


def _block(group: Sequence[Drift], now: float, width: int, style: Style) -> Iterator[str]:
    drift = group[0]
    symbol = style.paint(
        SYMBOL[drift.action] if drift.action else "?", *_CODES.get(drift.action or Action.REPAIR, (RED,))
    )
    yield f"{symbol} {style.bold(together([one.address for one in group]))}  {style.dim(harmless(drift.backend))}"
    for line in wrapped(why(drift, now), width - len(FIELD)):
        yield f"{FIELD}{line}"
    rows = [
        Row(
            path=harmless(change.path),
            before=show_value(change.path, change.after, sensitive=change.sensitive),
            after=show_value(change.path, change.before, sensitive=change.sensitive),
        )
        for change in drift.changes
    ]
    yield from rows_text(rows, width, style)
    place = f"  {drift.position.short}" if drift.position else ""
    for line in wrapped(what_then(drift), width - len(FIELD) - len(place)):
        yield f"{FIELD}{line}" + style.dim(harmless(place))
        place = ""


def why(drift: Drift, now: float) -> str:
    """The likely cause, the evidence, and how long ago."""
    is_gone = drift.detail == "it is gone"
    gone = "it is gone, and " if is_gone else ""
    ago = f", {duration(max(0.0, now - drift.at))} ago" if drift.at else ""
    return f"{gone}{evidenced(drift.cause.text, '' if is_gone else harmless(drift.detail))}{ago}"


def what_then(drift: Drift) -> str:
    """What is done about it."""
    if drift.action is None:
        return drift.why_not
    verb = _VERBS[drift.action]
    cost = f", {drift.cost.removeprefix('in place, ')}" if drift.cost else ""  # the verb says that already
    match drift.policy:
        case DriftPolicy.CORRECT if drift.waits_for is not None:
            return f"to be {verb}; it waits for {harmless(drift.waits_for)}, which it needs and which is not put back"
        case DriftPolicy.CORRECT:
            if drift.action is Action.UPDATE and drift.cost == RECORDED_ONLY:
                return f"to be {drift.cost}"
            return f"to be {verb}{cost}"
        case DriftPolicy.REPORT:
            return f"reported only (`drift: report`); an apply would have it {verb}"
        case DriftPolicy.IGNORE:
            return "ignored (`drift: ignore`)"


def _notes(
    pending: Mapping[Address, str], failures: Mapping[str, str], width: int, style: Style
) -> Iterator[str]:
    for name, reason in sorted(failures.items()):
        told = f"backend {name} cannot be looked at, so nothing is known of what is there: {reason}"
        yield from (style.paint(line, YELLOW) for line in wrapped(harmless(told), width))
    if pending:
        named = ", ".join(sorted(pending, key=address_order)[:_MOST_PENDING])
        more = f" and {len(pending) - _MOST_PENDING} more" if len(pending) > _MOST_PENDING else ""
        waits = "waits" if len(pending) == 1 else "wait"
        told = f"{counted(len(pending), 'change')} of the configuration {waits} for an apply, and {'is' if len(pending) == 1 else 'are'} no drift: {named}{more}"
        yield from wrapped(harmless(told), width)
