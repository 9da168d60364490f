"""A plan as JSON objects: its changes, and what it holds beside them. `views/json.py` writes them, line by line.

Never shows a sensitive value. What holds a time is an object of its own, so that the rest is the same for the same plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.cli.views.human import HAPPENED_OUTSIDE
from reconciler.model.address import Address, address_order
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.plan import Action, FieldChange, Moved, Plan, Selection, Step, Waves
from reconciler.model.position import Position


def plan_dicts(plan: Plan, *, operation: str) -> Iterator[dict[str, Any]]:
    """`planned_change` per step, `drift` per sandbox that changed outside, `moved`, `rollout` and `expiring`, the plan's
    remarks, `refusal` per reason not to carry it out, `change_summary`."""
    yield from (_planned(step) for step in plan.steps)
    yield from (_drift(step) for step in _drifted(plan))
    yield from (_moved(move) for move in plan.moves)
    yield from (_rollout(waves) for waves in plan.rollouts)
    yield from _expiring(plan.expiring)
    yield from (diagnostic_dict(diagnostic) for diagnostic in plan.diagnostics)
    yield from ({**diagnostic_dict(refusal), "type": "refusal"} for refusal in plan.refusals)
    yield summary_dict(plan, operation)


def diagnostic_dict(diagnostic: Diagnostic) -> dict[str, Any]:
    return {
        "type": "diagnostic",
        "severity": str(diagnostic.severity),
        "code": diagnostic.code,
        "summary": diagnostic.summary,
        "fix": diagnostic.fix,
        "position": position_dict(diagnostic.position),
        "snippet": diagnostic.snippet,
        "width": max(1, diagnostic.width),
        "related": [
            {"summary": text, "position": position_dict(place)} for text, place in diagnostic.related
        ],
    }


def change_dicts(changes: Iterable[FieldChange]) -> list[dict[str, Any]]:
    return [_change(change) for change in changes]


def summary_dict(plan: Plan, operation: str) -> dict[str, Any]:
    """The counts of a plan."""
    tally = plan.tally()
    return {
        "type": "change_summary",
        "operation": operation,
        "planned": {str(action): tally.get(action, 0) for action in Action},
        "total": len(plan.steps),
        "unchanged": len(plan.unchanged),
        "drifted": len(_drifted(plan)),
        "moved": len(plan.moves),
        "left_out": list(plan.left_out),
        "refused": bool(plan.refusals),
        "selection": _selection(plan.selection),
    }


def _selection(selection: Selection) -> dict[str, Any]:
    return {
        "targets": list(selection.targets),
        "excludes": list(selection.excludes),
        "replace": list(selection.replace),
        "refresh_only": selection.refresh_only,
        "refresh": selection.refresh,
        "destroy": selection.destroy,
    }


def _planned(step: Step) -> dict[str, Any]:
    return {
        "type": "planned_change",
        "key": step.key,
        "address": step.address,
        "action": str(step.action),
        "create_first": step.create_first,
        "reason": str(step.reason),
        "detail": step.detail,
        "backend": step.backend,
        "sandbox_id": step.sandbox_id,
        "generation": step.generation,
        "reason_text": step.reason.text,
        "changes": [_change(change) for change in step.changes],
        "unchanged": step.unchanged,
        "cost": step.cost,
        "needs": list(step.needs),
        "rungs": [str(rung) for rung in step.rungs],
        "passed_over": list(step.passed_over),
        "wave": step.wave or None,
        "needed_by": step.needed_by or None,
        "protected": step.protected,
        "position": _declared(step),
    }


def _drifted(plan: Plan) -> list[Step]:
    return [
        step
        for step in plan.steps
        if step.reason in HAPPENED_OUTSIDE or any(change.outside for change in step.changes)
    ]


def _drift(step: Step) -> dict[str, Any]:
    return {
        "type": "drift",
        "address": step.address,
        "backend": step.backend,
        "sandbox_id": step.sandbox_id if step.current is None else step.current.info.sandbox_id,
        "reason": str(step.reason),
        "detail": step.detail,
        "changes": [_change(change) for change in step.changes if change.outside],
        "position": _declared(step),
    }


def _moved(move: Moved) -> dict[str, Any]:
    return {"type": "moved", "from": move.source, "to": move.target, "position": position_dict(move.position)}


def _rollout(waves: Waves) -> dict[str, Any]:
    return {
        "type": "rollout",
        "group": waves.group,
        "waves": [list(wave) for wave in waves.waves],
        "size": waves.size,
        "at_once": waves.at_once,
        "min_healthy": waves.min_healthy,
        "canary": waves.canary,
        "auto_revert": waves.auto_revert,
    }


def _expiring(expiring: Mapping[Address, float]) -> Iterator[dict[str, Any]]:
    """Soonest first."""
    for address in sorted(expiring, key=lambda one: (expiring[one], address_order(one))):
        yield {"type": "expiring", "address": address, "seconds": round(max(0.0, expiring[address]), 3)}


def _change(change: FieldChange) -> dict[str, Any]:
    return {
        "path": change.path,
        "before": None if change.sensitive else change.before,
        "after": None if change.sensitive else change.after,
        "forces_replacement": change.forces_replacement,
        "outside": change.outside,
        "sensitive": change.sensitive,
        "position": position_dict(change.position),
    }


def _declared(step: Step) -> dict[str, Any] | None:
    return None if step.desired is None else position_dict(step.desired.position)


def position_dict(position: Position | None) -> dict[str, Any] | None:
    return (
        None
        if position is None
        else {"file": position.file, "line": position.line, "column": position.column}
    )
