"""Drift out of a plan: which steps put back what changed outside, why it changed, and what may be done about it. Pure.

The plan is one of the configuration as it was last applied (`core.applied`), so edits that wait for an apply are not in it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec.structs import replace

from reconciler.core.applied import Applied
from reconciler.core.lifecycle import PROTECTION, TRIGGERS
from reconciler.core.policy import refusals
from reconciler.model.desired import Address, Desired
from reconciler.model.drift import Cause, Drift, Provenance
from reconciler.model.lifecycle import DriftPolicy
from reconciler.model.plan import UNKNOWN_VALUE, Action, Plan, Reason, Selection, Step

_CAUSES: Mapping[Reason, Cause] = {
    Reason.MISSING: Cause.UNKNOWN,
    Reason.DEAD: Cause.UNKNOWN,
    Reason.TERMINATING: Cause.REMOVED,
    Reason.PAUSED: Cause.PAUSED,
    Reason.DRIFTED: Cause.EDITED,
    Reason.EXPIRED: Cause.EXPIRED,
    Reason.SILENT: Cause.SILENT,
    Reason.TAINTED: Cause.INTERRUPTED,
    Reason.UNFINISHED: Cause.INTERRUPTED,
    Reason.FAILED_BEFORE: Cause.INTERRUPTED,
    Reason.FOUND: Cause.INTERRUPTED,
    Reason.SUPERSEDED: Cause.INTERRUPTED,
    Reason.TRIGGERED: Cause.FOLLOWS,
    Reason.CONFIG_CHANGED: Cause.FOLLOWS,
    Reason.ORPHAN: Cause.STRAY,
}
_STANDS = (
    Reason.DRIFTED,
    Reason.CONFIG_CHANGED,
    Reason.EXPIRED,
    Reason.TRIGGERED,
)  # it is there, if not as applied
_EXPLAINABLE = (Cause.UNKNOWN, Cause.REMOVED, Cause.PAUSED, Cause.EDITED)
_RULES = (PROTECTION, TRIGGERS)


def drifts(plan: Plan, applied: Applied) -> tuple[Drift, ...]:
    """What is not as it was last applied, one per address, sorted. `plan` is one of `applied.desired`."""
    found: dict[Address, Drift] = {}
    for step in plan.steps:
        if _is_drift(step, applied) and (step.address not in found or step.reason is not Reason.SUPERSEDED):
            found[step.address] = _drift(step, applied)
    return tuple(found[address] for address in sorted(found))


def _is_drift(step: Step, applied: Applied) -> bool:
    if step.reason not in _CAUSES:
        return False
    if step.reason is Reason.ORPHAN:
        return step.address not in applied.pending and step.address not in applied.unseen
    if step.address not in applied.desired.sandboxes:
        return False
    if step.reason is Reason.CONFIG_CHANGED:  # of the rules, which wait for an apply, or of what it refers to
        return any(change.path not in _RULES for change in step.changes)
    return True


def _drift(step: Step, applied: Applied) -> Drift:
    wanted = applied.desired.sandboxes.get(step.address)
    outside = tuple(change for change in step.changes if change.path not in _RULES)
    why_not = _why_not(step)
    cause = _CAUSES[step.reason]
    if step.action is Action.CREATE and step.reason is Reason.UNFINISHED:
        cause = Cause.INTERRUPTED
    return Drift(
        address=step.address,
        backend=step.backend if step.current is None else step.current.backend,
        sandbox_id=step.sandbox_id if step.current is None else step.current.info.sandbox_id,
        reason=step.reason,
        cause=cause,
        policy=DriftPolicy.REPORT if wanted is None else wanted.drift,
        action=None if why_not else step.action,
        detail=_detail(step),
        changes=outside,
        cost=step.cost,
        why_not=why_not,
        position=None if wanted is None else wanted.position,
    )


def _detail(step: Step) -> str:
    if step.detail:
        return step.detail
    return "it is gone" if step.reason is Reason.MISSING else ""


def _why_not(step: Step) -> str:
    if step.reason is Reason.ORPHAN:
        return "nobody declared it, so only an apply destroys it"
    if step.protected and step.action in (Action.DESTROY, Action.REPLACE):
        return "it is protected, and would have to be replaced"
    return ""


def explained(found: Iterable[Drift], known: Mapping[str, Provenance | None]) -> tuple[Drift, ...]:
    """The drifts with what their backends know of them, by sandbox id."""
    return tuple(_explained(drift, known.get(drift.sandbox_id)) for drift in found)


def _explained(drift: Drift, known: Provenance | None) -> Drift:
    if known is None or drift.cause not in _EXPLAINABLE:
        return drift
    cause = drift.cause if known.cause is Cause.UNKNOWN else known.cause
    return replace(drift, cause=cause, detail=known.detail or drift.detail, at=known.at)


def asks_why(found: Iterable[Drift]) -> dict[str, set[str]]:
    """The sandbox ids, by backend, of which a backend may know more than a listing shows."""
    asked: dict[str, set[str]] = {}
    for drift in found:
        if drift.cause in _EXPLAINABLE:
            asked.setdefault(drift.backend, set()).add(drift.sandbox_id)
    return asked


def correctable(drift: Drift) -> bool:
    """Whether a correction is allowed, and there is one."""
    return drift.action is not None and drift.policy is DriftPolicy.CORRECT


def with_waits(found: Collection[Drift], desired: Desired) -> tuple[Drift, ...]:
    """The drifts, and of those that may be put back and are not, because something that they need is left alone: what that is."""
    left = {
        drift.address: drift.address
        for drift in found
        if not correctable(drift) and drift.reason not in _STANDS
    }
    held: dict[Address, Address] = {}
    while True:
        more = {
            drift.address: left[need]
            for drift in found
            if correctable(drift) and drift.address not in held and drift.address in desired.sandboxes
            for need in reversed(_needs(desired, drift.address))
            if need in left
        }
        if not more:
            return tuple(replace(drift, waits_for=held.get(drift.address)) for drift in found)
        held |= more
        left |= {
            drift.address: more[drift.address]
            for drift in found
            if drift.address in more and drift.reason not in _STANDS
        }


def foreseen(drift: Drift) -> bool:
    """Whether nothing can be told of it until what it refers to is put back: whether that will be another one by then."""
    refers = drift.reason is Reason.CONFIG_CHANGED  # what is dead is that, whatever it refers to
    return refers and all(change.after == UNKNOWN_VALUE for change in drift.changes)


def chosen(
    plan: Plan, applied: Applied, addresses: Collection[Address], waiting: Collection[Address] = ()
) -> frozenset[Address]:
    """What is put back when these are asked for. What follows one of them, because it refers to it, goes with it, unless it is
    `waiting`; what needs something that does not run any more and is not put back waits, as in an apply."""
    found = drifts(plan, applied)
    allowed = {drift.address for drift in found if correctable(drift)}.difference(waiting)
    wanted = {address for address in addresses if address in allowed}
    wanted |= set(_followers(plan, applied.desired, wanted, allowed))
    ended = {drift.address for drift in found if drift.reason not in _STANDS}
    while True:
        away = ended - wanted
        held = {address for address in wanted if not away.isdisjoint(_needs(applied.desired, address))}
        if not held:
            return frozenset(wanted)
        wanted -= held


def _needs(desired: Desired, address: Address) -> tuple[Address, ...]:
    wanted = desired.sandboxes[address]
    return (*wanted.depends_on, *wanted.references)


def corrections(
    plan: Plan, applied: Applied, addresses: Collection[Address], waiting: Collection[Address] = ()
) -> Plan:
    """The part of a plan that puts these back (`chosen`), and nothing else."""
    meant = chosen(plan, applied, addresses, waiting)
    steps = [step for step in plan.steps if step.address in meant and _is_drift(step, applied)]
    keys = {step.key for step in steps}
    kept = tuple(replace(step, needs=tuple(key for key in step.needs if key in keys)) for step in steps)
    rollouts = tuple(
        replace(waves, waves=tuple(part for part in _parts(waves.waves, keys) if part))
        for waves in plan.rollouts
    )
    return replace(
        plan,
        steps=kept,
        rollouts=tuple(waves for waves in rollouts if waves.waves),
        moves=(),
        left_out=(),
        selection=Selection(),
        refusals=refusals(kept, applied.desired, Selection(), fleet=plan.fleet),
    )


def _parts(waves: Iterable[tuple[str, ...]], keys: Collection[str]) -> Iterator[tuple[str, ...]]:
    for wave in waves:
        yield tuple(key for key in wave if key in keys)


def _followers(
    plan: Plan, desired: Desired, chosen: Collection[Address], allowed: Collection[Address]
) -> Iterator[Address]:
    for step in plan.steps:
        wanted = desired.sandboxes.get(step.address)
        if wanted is None or step.address not in allowed or _CAUSES.get(step.reason) is not Cause.FOLLOWS:
            continue
        if any(address in chosen for address in (*wanted.references, *wanted.lifecycle.replace_triggered_by)):
            yield step.address
