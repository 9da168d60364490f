"""`import ADDRESS ID`: one sandbox that others made is recorded as ours, as it is. Changes nothing on it.

It is planned as an entry of `imports` would be, and recorded instead of carried out: the same objects are refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.imports import is_told_here
from reconciler.engine.context import Context
from reconciler.engine.locking import locked
from reconciler.engine.perform import probe
from reconciler.engine.survey import View, survey
from reconciler.errors import NotFound, Refused
from reconciler.model.desired import Address, DesiredSandbox, Import, Scalar, fingerprint
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.observed import ObservedSandbox
from reconciler.model.plan import UNKNOWN_VALUE, Action, FieldChange, Reason, Step
from reconciler.model.state import SandboxRecord, State, Status

_PROBE_TIMEOUT = 2.0  # seconds to find out whether it answers


class ImportReport(Struct, frozen=True, kw_only=True):
    """What was recorded. `then` is what the next plan does about it: None when it is as declared and answers, ADOPT
    when it has only to be waited for. `changes` are the fields that differ from the declaration."""

    record: SandboxRecord
    then: Action | None
    changes: tuple[FieldChange, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()


def import_sandbox(
    context: Context, address: str, sandbox_id: str, *, lock_timeout: float = 0.0
) -> ImportReport:
    """Record `sandbox_id` as `address`, which must be declared and not recorded yet. `lock_timeout` in seconds.

    Raises NotFound when the address is not declared or nothing of that name is there, Refused for what may not be
    taken over, LockHeld, and what `survey` raises.
    """
    wanted = _declared(context, address)
    with locked(context, "import", lock_timeout) as lease:
        _refuse_recorded(context.recorded(), wanted.address)
        entry = {wanted.address: Import(id=sandbox_id)}
        view = survey(replace(context, desired=replace(context.desired, imports=entry)))
        if view.plan.lineage_found:
            raise Refused(
                f"there is no state for stack {view.plan.stack!r} here, and live sandboxes carry its labels "
                f"(lineage {view.plan.lineage})",
                hint="bring the state back, or adopt them with `reconciler apply` first; if another checkout made "
                "them, give this stack a name of its own",
            )
        step = _step(view, wanted, sandbox_id)
        assert step.current is not None
        record = _record(context, step, wanted, step.current)
        base = view.state or State(stack=view.plan.stack, lineage=view.plan.lineage)
        backends = {**base.backends, **context.backends.saved({wanted.backend})}
        released = {
            key: was for key, was in base.released.items() if key != (record.backend, record.sandbox_id)
        }
        context.store.write(lease, replace(base.with_record(record), backends=backends, released=released))
    waits = Action.ADOPT if record.status is Status.CREATED else None
    return ImportReport(
        record=record,
        then=waits if step.action is Action.ADOPT else step.action,
        changes=step.changes,
        diagnostics=tuple(remark for remark in view.plan.diagnostics if is_told_here(remark)),
    )


def _declared(context: Context, address: str) -> DesiredSandbox:
    wanted = context.desired.sandboxes.get(Address(address))
    if wanted is None:
        known = ", ".join(sorted(context.desired.sandboxes)[:10]) or "nothing"
        raise NotFound(
            f"{address} is not declared, so nothing can be imported as that",
            hint=f"declare it first, as the sandbox is; there is: {known}",
        )
    return wanted


def _refuse_recorded(state: State | None, address: Address) -> None:
    record = state.sandboxes.get(address) if state else None
    if record is not None:
        raise Refused(
            f"{address} is recorded already, as {record.sandbox_id} on {record.backend!r}",
            hint="import it as another address, or destroy that one first",
        )


def _step(view: View, wanted: DesiredSandbox, sandbox_id: str) -> Step:
    """The step that takes it over. Raises Refused when there is none."""
    for step in view.plan.steps:
        if step.address == wanted.address and step.reason is Reason.IMPORTED:
            return step
    told = [remark.summary for remark in view.plan.diagnostics if is_told_here(remark)]
    raise Refused(
        told[0] if told else f"the backend cannot tell how {sandbox_id!r} is, so it is left alone",
        hint="`reconciler plan` shows what an apply does about it"
        if told
        else "look at it, then import it again",
    )


def _record(context: Context, step: Step, wanted: DesiredSandbox, seen: ObservedSandbox) -> SandboxRecord:
    """As it is: where a declared field differs, the record holds what is live."""
    live: Mapping[str, Scalar] = {
        **step.spec,
        **{change.path: change.before for change in step.changes if change.path in step.spec},
    }
    spec = {path: value for path, value in sorted(live.items()) if value not in (None, UNKNOWN_VALUE)}
    backend = context.backends.get(wanted.backend)
    ready = probe(backend, seen.info, wanted.spec.readiness, _PROBE_TIMEOUT).ready
    now = context.clock.now()
    return SandboxRecord(
        address=wanted.address,
        sandbox_id=seen.info.sandbox_id,
        backend=wanted.backend,
        generation=step.generation,
        spec=spec,
        spec_hash=fingerprint(spec),
        info=seen.info,
        status=Status.READY if ready else Status.CREATED,
        depends_on=wanted.depends_on,
        created_at=now,
        updated_at=now,
        imported=True,
        protected=bool(wanted.lifecycle.prevent_destroy),
        triggers=dict.fromkeys(
            wanted.lifecycle.replace_triggered_by, ""
        ),  # not known: filled in by the next apply
    )
