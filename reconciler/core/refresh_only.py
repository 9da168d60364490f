"""`--refresh-only`: what has to be written into the state so that it says what is there. Touches no sandbox. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reconciler.core.diff import agrees
from reconciler.core.recorded import forget
from reconciler.model.desired import Address, DesiredSandbox, FlatSpec, Scalar
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.plan import Action, FieldChange, Reason, Step
from reconciler.model.state import SandboxRecord, Status


def refreshed(
    records: Mapping[Address, SandboxRecord],
    current: Mapping[Address, ObservedSandbox],
    wanted: Mapping[Address, DesiredSandbox],
) -> Iterator[Step]:
    """A step for each record that is gone, and for each declared one whose object is not as it was recorded. What drifted is accepted: the next
    plan compares the configuration with what is there."""
    for address, record in sorted(records.items()):
        seen = current.get(address)
        if seen is None:
            yield forget(record)
            continue
        declared = wanted.get(address)
        if (
            declared is None
            or seen.phase.is_dead
            or seen.phase is Phase.TERMINATING
            or not _speaks_of(record, seen)
        ):
            continue
        changes = _seen_changes(record, seen, declared)
        if changes or _is_elsewhere(record, seen):
            yield _record(record, seen, declared, changes)


def _speaks_of(record: SandboxRecord, seen: ObservedSandbox) -> bool:
    """Whether what is recorded was ever true of this object. What a run left half way is for an apply to settle: its record
    says what was meant, and recorded as seen it would pass for what is there."""
    same = (record.backend, record.sandbox_id) == (seen.backend, seen.info.sandbox_id)
    return same and bool(record.spec_hash) and record.status not in (Status.PENDING, Status.DESTROYING)


def _seen_changes(
    record: SandboxRecord, seen: ObservedSandbox, wanted: DesiredSandbox
) -> tuple[FieldChange, ...]:
    """From what was recorded to what lives, for the fields that can be read back."""
    live = seen.attributes or {}
    return tuple(
        FieldChange(
            path=path,
            before=value,
            after=live[path],
            outside=True,
            sensitive=path.startswith("secrets."),
            position=wanted.at(path),
        )
        for path, value in record.spec.items()
        if path in live and not agrees(live[path], value)
    )


def _is_elsewhere(record: SandboxRecord, seen: ObservedSandbox) -> bool:
    before = record.info
    return before is None or (before.sandbox_url, before.container_id, dict(before.ports)) != (
        seen.info.sandbox_url,
        seen.info.container_id,
        dict(seen.info.ports),
    )


def _record(
    record: SandboxRecord,
    seen: ObservedSandbox,
    wanted: DesiredSandbox,
    changes: tuple[FieldChange, ...],
) -> Step:
    values: dict[str, Scalar] = {**record.spec, **{change.path: change.after for change in changes}}
    spec: FlatSpec = {path: value for path, value in values.items() if value is not None}
    return Step(
        action=Action.ADOPT,
        address=record.address,
        backend=record.backend,
        reason=Reason.SEEN,
        sandbox_id=record.sandbox_id,
        generation=record.generation,
        desired=wanted,
        current=seen,
        recorded_spec_hash=record.spec_hash,
        spec=spec,
        changes=changes,
        unchanged=len(spec) - len(changes),
        detail="" if changes else "its connection details changed",
        protected=record.protected,
        prevent_destroy=record.protected,
    )
