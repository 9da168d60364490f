"""What a run writes down: intents before calls, outcomes after them, verdicts at the end of steps; and the specs that
calls are made with, references filled in as they become known.

Pure: the thread driver and the simulator keep their books with the same object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from reconciler.core.calls import Answer, Call, CallKind
from reconciler.core.references import attribute_of, resolve_spec
from reconciler.errors import Permanent
from reconciler.model.desired import Address, FlatSpec, Owner, SandboxSpec, fingerprint
from reconciler.model.event import StepEnded
from reconciler.model.observed import SandboxInfo
from reconciler.model.outcome import Intent, Operation, Outcome, StepStatus
from reconciler.model.plan import UNKNOWN_VALUE, Action, Plan, Step

_OPERATION: Mapping[CallKind, Operation] = {
    CallKind.CREATE: Operation.CREATE,
    CallKind.UPDATE: Operation.UPDATE,
    CallKind.RECORD: Operation.ADOPT,
    CallKind.DESTROY: Operation.DESTROY,
}


class Ledger:
    """One run's books. What the plan knows of connection details grows with every creation."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._infos: dict[Address, SandboxInfo] = dict(plan.infos)
        self._steps = {step.key: step for step in plan.steps}
        self._specs: dict[str, tuple[SandboxSpec, FlatSpec]] = {}
        self._hashes: dict[int, tuple[FlatSpec, str]] = {}

    def intents(self, calls: Iterable[Call], at: float) -> Iterator[Intent]:
        """What must be durable before these calls are made."""
        for call in calls:
            operation = _OPERATION.get(call.kind)
            if operation is None:
                continue
            destroys = operation is Operation.DESTROY
            flat = {} if destroys else self._resolved(call.step)[1]
            yield Intent(
                at=at,
                operation=operation,
                address=call.step.address,
                sandbox_id=_target(call),
                backend=call.backend,
                generation=call.step.generation,
                spec=flat,
                spec_hash="" if destroys else self._hash(flat),
                depends_on=call.step.desired.depends_on if call.step.desired else (),
            )

    def outcomes(self, call: Call, answer: Answer, at: float) -> Iterator[Outcome]:
        """What a call's answer says about the object, whether or not anybody still waits for it: it did happen."""
        operation = _OPERATION.get(call.kind)
        if operation is None:
            return
        if answer.info is not None and not answer.error:
            self._infos[call.step.address] = answer.info
        if operation is Operation.DESTROY and call.step.action is Action.DESTROY and not answer.error:
            return  # the end of the step says it
        yield Outcome(
            at=at,
            operation=operation,
            address=call.step.address,
            sandbox_id=_target(call),
            info=answer.info,
            error=answer.error,
        )

    def verdicts(self, ended: StepEnded, at: float) -> Iterator[Outcome]:
        """What the end of a step says: gone, forgotten, ready, or never ready."""
        result, step = ended.result, self._steps[ended.key]
        if step.action is Action.FORGET:
            operation, error = Operation.FORGET, ""
        elif step.action is Action.DESTROY:
            if result.status is not StepStatus.DONE:
                return
            operation, error = Operation.DESTROY, ""
        elif result.ready is not None:
            operation, error = Operation.READY, "" if result.ready else result.error
        else:
            return
        yield Outcome(
            at=at,
            operation=operation,
            address=step.address,
            sandbox_id=step.sandbox_id,
            info=result.info,
            error=error,
        )

    def spec_of(self, call: Call) -> SandboxSpec:
        """The spec to create or update with, its owner set. Raises Permanent when a reference has no value."""
        spec, flat = self._resolved(call.step)
        unknown = sorted(path for path, value in flat.items() if value == UNKNOWN_VALUE)
        if unknown:
            raise Permanent(
                f"{call.step.address}: {', '.join(unknown)} refers to something its sandbox does not have",
                hint="`reconciler status` shows which URLs and ports there are",
            )
        owner = Owner(
            stack=self._plan.stack,
            lineage=self._plan.lineage,
            address=call.step.address,
            generation=call.step.generation,
            spec_hash=self._hash(flat),
        )
        return replace(spec, owner=owner)

    def _resolved(self, step: Step) -> tuple[SandboxSpec, FlatSpec]:
        """Replicas without references share what the plan computed."""
        desired = step.desired
        assert desired is not None
        if not desired.references:
            return desired.spec, step.spec
        if step.key not in self._specs:
            spec = resolve_spec(desired.spec, self._lookup)
            self._specs[step.key] = (spec, spec.canonical())
        return self._specs[step.key]

    def _hash(self, flat: FlatSpec) -> str:
        entry = self._hashes.get(id(flat))
        if entry is None:
            entry = self._hashes[id(flat)] = (flat, fingerprint(flat))
        return entry[1]

    def _lookup(self, address: Address, attribute: str) -> str | None:
        info = self._infos.get(address)
        return None if info is None else attribute_of(info, attribute)


def _target(call: Call) -> str:
    """The object a call is about: a destroy goes for the one that is there."""
    if call.kind is CallKind.DESTROY and call.info is not None:
        return call.info.sandbox_id
    return call.step.sandbox_id
