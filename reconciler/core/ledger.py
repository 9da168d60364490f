"""What a run writes down: intents before calls, outcomes after them, verdicts at the end of steps; and the specs that
calls are made with, references filled in as they become known.

Pure: the thread driver and the simulator keep their books with the same object.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec.structs import replace

from reconciler.core.calls import Answer, Call, CallKind
from reconciler.core.diff import differing
from reconciler.core.identity import label_hash
from reconciler.core.lifecycle import trigger_token
from reconciler.core.references import attribute_of, resolve_spec
from reconciler.core.restore import restored
from reconciler.errors import Permanent
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Address, FlatSpec, Lifecycle, Owner, SandboxSpec
from reconciler.model.event import StepEnded
from reconciler.model.observed import SandboxInfo
from reconciler.model.outcome import Entry, Intent, Operation, Outcome, StepStatus
from reconciler.model.plan import UNKNOWN_VALUE, Action, Plan, Reason, Step

_OPERATION: Mapping[CallKind, Operation] = {
    CallKind.CREATE: Operation.CREATE,
    CallKind.UPDATE: Operation.UPDATE,
    CallKind.RECORD: Operation.ADOPT,
    CallKind.RESTART: Operation.ADOPT,  # whatever comes of it, it is to be waited for
    CallKind.DESTROY: Operation.DESTROY,
}
_PLAIN = Capabilities()


class Ledger:
    """One run's books. What the plan knows of connection details grows with every creation. `capabilities` by backend
    name say what goes into the labels."""

    def __init__(self, plan: Plan, capabilities: Mapping[str, Capabilities]) -> None:
        self._plan = plan
        self._capabilities = capabilities
        self._infos: dict[Address, SandboxInfo] = dict(plan.infos)
        self._followed: dict[Address, str] = dict(plan.followed)
        self._steps = {step.key: step for step in plan.steps}
        self._specs: dict[str, tuple[SandboxSpec, FlatSpec]] = {}
        self._hashes: dict[tuple[int, str | tuple[str, ...]], tuple[FlatSpec, str]] = {}

    def intents(self, calls: Iterable[Call], at: float) -> Iterator[Intent]:
        """What must be durable before these calls are made."""
        for call in calls:
            operation = _operation(call)
            if operation is None:
                continue
            destroys = operation is Operation.DESTROY
            flat = {} if destroys else self._flat(call)
            rules = call.step.desired.lifecycle if call.step.desired else Lifecycle()
            yield Intent(
                at=at,
                operation=operation,
                address=call.step.address,
                sandbox_id=_target(call),
                backend=call.backend,
                generation=_generation(call),
                spec=flat,
                spec_hash="" if destroys else self._hash(flat),
                depends_on=call.step.desired.depends_on if call.step.desired else (),
                imported=_takes_over(call),
                protected=not destroys and call.step.prevent_destroy,
                triggers={}
                if destroys
                else {
                    a: trigger_token(self._infos.get(a), self._followed.get(a, ""))
                    for a in rules.replace_triggered_by
                },
            )

    def outcomes(self, call: Call, answer: Answer, at: float) -> Iterator[Outcome]:
        """What a call's answer says about the object, whether or not anybody still waits for it: it did happen."""
        operation = _operation(call)
        if operation is None:
            return
        if answer.info is not None and not answer.error:
            self._infos[call.step.address] = answer.info
            if call.step.address in self._followed:
                self._followed[call.step.address] = self._hash(self._flat(call))
        if operation is Operation.DESTROY and not answer.error:
            return  # the end of the step says it, or the intent to create what comes in its place: until then it is
            # recorded that the address is being replaced, by a run that may die right here
        yield Outcome(
            at=at,
            operation=operation,
            address=call.step.address,
            sandbox_id=_target(call),
            info=answer.info,
            error=answer.error,
        )

    def verdicts(self, ended: StepEnded, at: float) -> Iterator[Entry]:
        """What the end of a step says: gone, forgotten, let go, ready, or never ready."""
        result, step = ended.result, self._steps[ended.key]
        if step.action in (Action.FORGET, Action.DESTROY) and result.status is not StepStatus.DONE:
            return
        if step.reason is Reason.LET_GO:
            yield Intent(
                at=at,
                operation=Operation.RELEASE,
                address=step.address,
                sandbox_id=step.sandbox_id,
                backend=step.backend,
                generation=step.generation,
            )
            return
        if step.action is Action.FORGET:
            operation, error = Operation.FORGET, ""
        elif step.action is Action.DESTROY:
            operation, error = Operation.DESTROY, ""
        elif result.ready is not None:
            operation, error = Operation.READY, "" if result.ready else result.error
        else:
            return
        yield Outcome(
            at=at,
            operation=operation,
            address=step.address,
            sandbox_id=step.sandbox_id if result.info is None else result.info.sandbox_id,
            info=result.info,
            error=error,
        )

    def spec_of(self, call: Call) -> SandboxSpec:
        """The spec to create or update with, or that what is restarted was made from, its owner set. Raises Permanent
        when a reference has no value."""
        spec, flat = self._resolved(call.step)
        if call.kind is CallKind.RESTART and call.step.kept is not None:
            kept = _known(call.step.kept, flat)
            spec, flat = _with(spec, kept, differing(kept, flat))
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
            generation=_generation(call),
            spec_hash=self._hash(flat, self._capabilities.get(call.step.backend, _PLAIN)),
            protected=call.step.prevent_destroy,
        )
        wanted = call.step.desired
        return replace(spec, owner=owner, lifetime=wanted.lifecycle.max_lifetime if wanted else None)

    def _flat(self, call: Call) -> FlatSpec:
        """What the record holds after a call."""
        kept = call.step.kept
        if kept is not None and call.kind in (CallKind.RECORD, CallKind.RESTART):
            return _known(kept, self._resolved(call.step)[1])
        return self._resolved(call.step)[1]

    def _resolved(self, step: Step) -> tuple[SandboxSpec, FlatSpec]:
        """Replicas without references share what the plan computed."""
        desired = step.desired
        assert desired is not None
        if step.reason is Reason.SEEN:
            return desired.spec, step.spec
        if not desired.references and not step.ignored:
            return desired.spec, step.spec
        if step.key not in self._specs:
            spec = resolve_spec(desired.spec, self._lookup) if desired.references else desired.spec
            self._specs[step.key] = (
                _with(spec, step.spec, step.ignored) if step.ignored else (spec, spec.canonical())
            )
        return self._specs[step.key]

    def _hash(self, flat: FlatSpec, able: Capabilities = _PLAIN) -> str:
        """What the labels of a backend hold; without one, the fingerprint of the whole."""
        key = (id(flat), "" if able.relabels else able.updatable)
        entry = self._hashes.get(key)
        if entry is None:
            entry = self._hashes[key] = (flat, label_hash(flat, able))
        return entry[1]

    def _lookup(self, address: Address, attribute: str) -> str | None:
        info = self._infos.get(address)
        return None if info is None else attribute_of(info, attribute)


def _operation(call: Call) -> Operation | None:
    """What a call is to the books; None for one that only looks."""
    seen = call.kind is CallKind.RECORD and call.step.reason is Reason.SEEN
    return Operation.SEE if seen else _OPERATION.get(call.kind)


def _takes_over(call: Call) -> bool:
    """Whether the call is about an object of others that this step makes ours: all but the new one of a replacement."""
    return call.step.reason is Reason.IMPORTED and call.kind is not CallKind.CREATE


def _with(spec: SandboxSpec, held: FlatSpec, paths: Collection[str]) -> tuple[SandboxSpec, FlatSpec]:
    """With these fields as they are on the object. Secrets do not change in place, so theirs are left out of it."""
    flat = {path: value for path, value in spec.canonical().items() if path not in paths}
    flat |= {path: held[path] for path in paths if path in held}
    plain = {path: value for path, value in flat.items() if not path.startswith("secrets.")}
    made = replace(restored(plain, replace(spec, secrets={})), secrets=spec.secrets)
    return made, dict(sorted(flat.items()))


def _known(kept: FlatSpec, resolved: FlatSpec) -> FlatSpec:
    """What was not known when it was planned, as it is by now."""
    if UNKNOWN_VALUE not in kept.values():
        return kept
    return {path: resolved.get(path) if value == UNKNOWN_VALUE else value for path, value in kept.items()}


def _target(call: Call) -> str:
    """The object a call is about: a destroy goes for the one that is there, and what is recorded is there already."""
    if call.kind in (CallKind.DESTROY, CallKind.RECORD, CallKind.RESTART) and call.info is not None:
        return call.info.sandbox_id
    return call.step.sandbox_id


def _generation(call: Call) -> int:
    """A repair whose object recovered records that one, not the successor that was planned."""
    current = call.step.current
    if call.kind in (CallKind.RECORD, CallKind.RESTART) and current is not None and current.owner is not None:
        return current.owner.generation or call.step.generation
    return call.step.generation
