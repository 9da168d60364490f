"""A plan as plain data after `schemas/plan.v1.schema.json`, and back.

What comes back shows the same in every view and compares the same. Of a declared sandbox that is its positions, of an
observed one its identity: nothing can be created from it, and nothing in it is a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.core.references import readable
from reconciler.model.desired import Address, DesiredSandbox, Output, Owner, SandboxSpec, fingerprint
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from reconciler.model.plan import (
    Action,
    FieldChange,
    Moved,
    Plan,
    Reason,
    Rung,
    Selection,
    Step,
    Waves,
)
from reconciler.model.position import Position

Data = Mapping[str, Any]


def plan_dict(plan: Plan) -> dict[str, Any]:
    return {
        "stack": plan.stack,
        "lineage": plan.lineage,
        "lineage_found": plan.lineage_found,
        "serial": plan.serial,
        "selection": _selection_dict(plan.selection),
        "steps": [_step_dict(step) for step in plan.steps],
        "moves": [
            {"source": move.source, "target": move.target, "position": _position_dict(move.position)}
            for move in plan.moves
        ],
        "rollouts": [_waves_dict(rollout) for rollout in plan.rollouts],
        "unchanged": list(plan.unchanged),
        "left_out": list(plan.left_out),
        "expiring": dict(plan.expiring),
        "diagnostics": [_diagnostic_dict(item) for item in plan.diagnostics],
        "refusals": [_diagnostic_dict(item) for item in plan.refusals],
        "outputs": {name: _output_dict(output) for name, output in plan.outputs.items()},
    }


def plan_of(data: Data) -> Plan:
    """Raises KeyError, TypeError or ValueError on anything that `plan_dict` did not write."""
    return Plan(
        stack=data["stack"],
        lineage=data["lineage"],
        lineage_found=data["lineage_found"],
        serial=data["serial"],
        selection=_selection_of(data["selection"]),
        steps=tuple(map(_step_of, data["steps"])),
        moves=tuple(
            Moved(
                source=Address(move["source"]),
                target=Address(move["target"]),
                position=_position_of(move["position"]),
            )
            for move in data["moves"]
        ),
        rollouts=tuple(map(_waves_of, data["rollouts"])),
        unchanged=_addresses(data["unchanged"]),
        left_out=_addresses(data["left_out"]),
        expiring={Address(address): seconds for address, seconds in data["expiring"].items()},
        diagnostics=tuple(map(_diagnostic_of, data["diagnostics"])),
        refusals=tuple(map(_diagnostic_of, data["refusals"])),
        outputs={name: _output_of(name, output) for name, output in data["outputs"].items()},
    )


# -- steps


def _step_dict(step: Step) -> dict[str, Any]:
    return {
        "key": step.key,
        "address": step.address,
        "action": str(step.action),
        "reason": str(step.reason),
        "detail": step.detail,
        "backend": step.backend,
        "sandbox_id": step.sandbox_id,
        "generation": step.generation,
        "spec": dict(step.spec),
        "spec_hash": fingerprint(step.spec) if step.spec else "",
        "recorded_spec_hash": step.recorded_spec_hash,
        "declared": _declared_dict(step),
        "observed": None if step.current is None else _observed_dict(step.current),
        "changes": [_change_dict(change) for change in step.changes],
        "unchanged": step.unchanged,
        "cost": step.cost,
        "needs": list(step.needs),
        "needed_by": step.needed_by,
        "create_first": step.create_first,
        "rungs": [str(rung) for rung in step.rungs],
        "passed_over": list(step.passed_over),
        "wave": step.wave,
        "protected": step.protected,
        "because": step.because,
        "ignored": list(step.ignored),
    }


def _step_of(data: Data) -> Step:
    address = Address(data["address"])
    return Step(
        action=Action(data["action"]),
        address=address,
        backend=data["backend"],
        reason=Reason(data["reason"]),
        sandbox_id=data["sandbox_id"],
        generation=data["generation"],
        desired=_declared_of(address, data["backend"], data["declared"]),
        current=_observed_of(data["observed"]),
        recorded_spec_hash=data["recorded_spec_hash"],
        spec=dict(data["spec"]),
        changes=tuple(map(_change_of, data["changes"])),
        unchanged=data["unchanged"],
        detail=data["detail"],
        cost=data["cost"],
        needs=tuple(data["needs"]),
        needed_by=data["needed_by"],
        create_first=data["create_first"],
        rungs=tuple(map(Rung, data["rungs"])),
        passed_over=tuple(data["passed_over"]),
        wave=data["wave"],
        protected=data["protected"],
        because=data["because"],
        ignored=tuple(data["ignored"]),
    )


def _declared_dict(step: Step) -> dict[str, Any] | None:
    """Where it stands in the YAML. Fields have a position in `changes`; only a create without changes, which shows all
    that it declares, needs one for each."""
    wanted = step.desired
    if wanted is None:
        return None
    paths = step.spec if step.action is Action.CREATE and not step.changes else ()
    return {
        "group": wanted.group,
        "position": _position_dict(wanted.position),
        "where": {path: _position_dict(wanted.at(path)) for path in paths},
    }


def _declared_of(address: Address, backend: str, data: Data | None) -> DesiredSandbox | None:
    if data is None:
        return None
    return DesiredSandbox(
        address=address,
        group=data["group"],
        backend=backend,
        spec=SandboxSpec(),
        position=_place_of(data["position"]),
        where={path: _place_of(place) for path, place in data["where"].items()},
    )


def _observed_dict(seen: ObservedSandbox) -> dict[str, Any]:
    owner = seen.owner
    return {
        "sandbox_id": seen.info.sandbox_id,
        "container_id": seen.info.container_id,
        "backend": seen.backend,
        "phase": str(seen.phase),
        "detail": seen.detail,
        "owner": None
        if owner is None
        else {
            "stack": owner.stack,
            "lineage": owner.lineage,
            "address": owner.address,
            "generation": owner.generation,
            "spec_hash": owner.spec_hash,
            "protected": owner.protected,
        },
    }


def _observed_of(data: Data | None) -> ObservedSandbox | None:
    if data is None:
        return None
    owner = data["owner"]
    return ObservedSandbox(
        info=SandboxInfo(sandbox_id=data["sandbox_id"], sandbox_url="", container_id=data["container_id"]),
        backend=data["backend"],
        phase=Phase(data["phase"]),
        detail=data["detail"],
        owner=None if owner is None else Owner(**{**owner, "address": Address(owner["address"])}),
    )


def _change_dict(change: FieldChange) -> dict[str, Any]:
    return {
        "path": change.path,
        "before": change.before,
        "after": change.after,
        "forces_replacement": change.forces_replacement,
        "outside": change.outside,
        "sensitive": change.sensitive,
        "position": _position_dict(change.position),
    }


def _change_of(data: Data) -> FieldChange:
    return FieldChange(**{**data, "position": _position_of(data["position"])})


# -- what goes with them


def _selection_dict(selection: Selection) -> dict[str, Any]:
    return {
        "targets": list(selection.targets),
        "excludes": list(selection.excludes),
        "replace": list(selection.replace),
        "refresh_only": selection.refresh_only,
        "refresh": selection.refresh,
        "destroy": selection.destroy,
    }


def _selection_of(data: Data) -> Selection:
    return Selection(
        targets=tuple(data["targets"]),
        excludes=tuple(data["excludes"]),
        replace=tuple(data["replace"]),
        refresh_only=data["refresh_only"],
        refresh=data["refresh"],
        destroy=data["destroy"],
    )


def _waves_dict(rollout: Waves) -> dict[str, Any]:
    return {
        "group": rollout.group,
        "waves": [list(wave) for wave in rollout.waves],
        "size": rollout.size,
        "at_once": rollout.at_once,
        "min_healthy": rollout.min_healthy,
        "canary": rollout.canary,
        "auto_revert": rollout.auto_revert,
    }


def _waves_of(data: Data) -> Waves:
    return Waves(**{**data, "waves": tuple(tuple(wave) for wave in data["waves"])})


def _output_dict(output: Output) -> dict[str, Any]:
    return {
        "value": None if output.sensitive else readable(output.value),
        "sensitive": output.sensitive,
        "position": _position_dict(output.position),
    }


def _output_of(name: str, data: Data) -> Output:
    return Output(
        name=name,
        value=data["value"] or "",
        position=_place_of(data["position"]),
        sensitive=data["sensitive"],
    )


def _diagnostic_dict(item: Diagnostic) -> dict[str, Any]:
    return {
        "severity": str(item.severity),
        "code": item.code,
        "summary": item.summary,
        "fix": item.fix,
        "position": _position_dict(item.position),
        "snippet": item.snippet,
        "width": item.width,
        "related": [{"summary": text, "position": _position_dict(place)} for text, place in item.related],
    }


def _diagnostic_of(data: Data) -> Diagnostic:
    return Diagnostic(
        severity=Severity(data["severity"]),
        code=data["code"],
        summary=data["summary"],
        fix=data["fix"],
        position=_position_of(data["position"]),
        snippet=data["snippet"],
        width=data["width"],
        related=tuple((entry["summary"], _place_of(entry["position"])) for entry in data["related"]),
    )


def _position_dict(position: Position | None) -> dict[str, Any] | None:
    if position is None:
        return None
    return {"file": position.file, "line": position.line, "column": position.column}


def _position_of(data: Data | None) -> Position | None:
    return None if data is None else _place_of(data)


def _place_of(data: Data) -> Position:
    return Position(file=data["file"], line=data["line"], column=data["column"])


def _addresses(names: Iterable[str]) -> tuple[Address, ...]:
    return tuple(map(Address, names))
