"""Why a plan must not be carried out: protection, and limits on what one run may do. Pure.

Every refusal says what tripped and where that is declared. What a person asked for by name, by `destroy` or by `--replace`,
is not limited by numbers; protection holds against everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.core.select import matches
from reconciler.model.address import covers
from reconciler.model.desired import Address, Desired
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.plan import Action, Reason, Selection, Step
from reconciler.model.position import Position

_HAPPENED = (Reason.MISSING, Reason.DEAD, Reason.TERMINATING, Reason.PAUSED, Reason.SILENT)
_FOR_GOOD = (Reason.REMOVED, Reason.ORPHAN)
_SHOWN = 5  # addresses named in a refusal


def guarded(desired: Desired, address: Address, labels: Mapping[str, str]) -> bool:
    """Whether `policy.protected` speaks of it."""
    return any(matches(pattern, address, labels) for pattern in desired.policy.protected)


def refusals(
    steps: Sequence[Step], desired: Desired, selection: Selection, *, fleet: int
) -> tuple[Diagnostic, ...]:
    """Everything that speaks against the plan, in a stable order. `fleet` is how many sandboxes there are."""
    found = [_protected(desired, step) for step in steps if step.protected and _takes_down(step)]
    if not selection.destroy:
        found += _emptied(steps, desired, selection, fleet)
        found += _too_many(steps, desired, fleet)
        found += too_much_drift(steps, desired, fleet)
    return tuple(found)


def _takes_down(step: Step) -> bool:
    """A repair of what is protected ends before it would be replaced, and a leftover is protected by nothing."""
    return step.action in (Action.DESTROY, Action.REPLACE) and step.reason is not Reason.SUPERSEDED


def _protected(desired: Desired, step: Step) -> Diagnostic:
    declared = desired.sandboxes.get(step.address)
    exclude = "or leave it out of this run with `--exclude`"
    where: Position | None = None
    if not step.prevent_destroy:
        why, where = "`policy.protected` names it", desired.policy.position
        fix = f"take it out of `policy.protected`, {exclude}"
    elif declared is not None and declared.lifecycle.prevent_destroy:
        why, where = "`prevent_destroy` is set", declared.at("lifecycle.prevent_destroy")
        fix = f"set `prevent_destroy: false` first, {exclude}"
    elif declared is not None:
        why, where = (
            "it was made with `prevent_destroy`, which outlives the line that said so",
            declared.position,
        )
        fix = f"write `prevent_destroy: false` to lift that, {exclude}"
    else:
        why = "it was made with `prevent_destroy`, which outlives its declaration"
        fix = "declare it again with `prevent_destroy: false` and apply that, then remove it"
    verb = "replaced" if step.action is Action.REPLACE else "destroyed"
    return _refusal(
        "protected", f"{step.address} would be {verb} ({step.reason.text}), and {why}", fix, where
    )


def _emptied(
    steps: Sequence[Step], desired: Desired, selection: Selection, fleet: int
) -> Iterator[Diagnostic]:
    meant = [removal.source for removal in desired.removed if removal.destroy]
    going = [
        step
        for step in steps
        if step.action is Action.DESTROY
        and step.reason in _FOR_GOOD
        and not any(covers(source, step.address) for source in meant)
    ]
    if going and not desired.sandboxes and not selection.targets:
        yield _refusal(
            "empty-configuration",
            f"the configuration declares no sandboxes, and {fleet} {'is' if fleet == 1 else 'are'} there: "
            f"all of them would be destroyed",
            "`reconciler destroy` does that when it is meant; otherwise look for the file that is missing",
            None,
        )


def _too_many(steps: Sequence[Step], desired: Desired, fleet: int) -> Iterator[Diagnostic]:
    policy = desired.policy
    gone = [s for s in steps if s.action is Action.DESTROY and s.reason in _FOR_GOOD]
    replaced = [
        s for s in steps if s.action is Action.REPLACE and not s.wave and s.reason is not Reason.ASKED
    ]
    lost = len(gone) + len(replaced)
    parts = [f"destroys {len(gone)}"] if gone else []
    parts += [f"replaces {len(replaced)} without a rollout"] if replaced else []
    does = f"this plan {' and '.join(parts)}: {_named([*gone, *replaced])}"
    fix = "select a part with `--target`, give the group a `rollout`, or raise the limit where it is declared"
    if policy.max_destroy is not None and lost > policy.max_destroy:
        yield _refusal(
            "max-destroy", f"{does}; `policy.max_destroy` is {policy.max_destroy}", fix, policy.position
        )
    if policy.max_destroy_percent is not None and fleet and lost * 100 > policy.max_destroy_percent * fleet:
        yield _refusal(
            "max-destroy-percent",
            f"{does}; that is {lost} of {fleet} ({lost * 100 / fleet:.1f}%), and `policy.max_destroy_percent` is "
            f"{policy.max_destroy_percent:g}",
            fix,
            policy.position,
        )


def too_much_drift(steps: Sequence[Step], desired: Desired, fleet: int) -> Iterator[Diagnostic]:
    """That so many changed outside, or ended, that each of them is hardly at fault."""
    limit = desired.policy.max_drift_percent
    drifted = [s for s in steps if s.reason in _HAPPENED or any(change.outside for change in s.changes)]
    if limit is None or len(drifted) < 2 or len(drifted) * 100 <= limit * fleet:
        return
    yield _refusal(
        "max-drift-percent",
        f"{len(drifted)} of {fleet} sandboxes changed outside or ended ({_named(drifted)}), and "
        f"`policy.max_drift_percent` is {limit:g}: the backend or the specification is likelier at fault than each of them",
        "look at the backend (`reconciler doctor`, `reconciler logs`), or put a part back with `--target`",
        desired.policy.position,
    )


def _named(steps: Sequence[Step]) -> str:
    names = [str(step.address) for step in steps]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _refusal(code: str, summary: str, fix: str, position: Position | None) -> Diagnostic:
    return Diagnostic(severity=Severity.ERROR, code=code, summary=summary, fix=fix, position=position)
