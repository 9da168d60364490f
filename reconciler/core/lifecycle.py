"""The rules of one sandbox's `lifecycle`, as far as they change what is planned for it. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reconciler.core.diff import agrees
from reconciler.core.select import glob
from reconciler.model.desired import Address, DesiredSandbox, FlatSpec, Scalar
from reconciler.model.observed import ObservedSandbox, SandboxInfo
from reconciler.model.plan import FieldChange
from reconciler.model.state import SandboxRecord

PROTECTION = "lifecycle.prevent_destroy"
TRIGGERS = "lifecycle.replace_triggered_by"


def ignores(patterns: Sequence[str], path: str) -> bool:
    """Whether a field is one of `ignore_changes`: named itself, below what is named, or matched by a glob."""
    return any(
        path == pattern or path.startswith(pattern + ".") or glob(pattern).fullmatch(path)
        for pattern in patterns
    )


def left_alone(
    wanted: FlatSpec, applied: FlatSpec | None, seen: ObservedSandbox, patterns: Sequence[str]
) -> FlatSpec:
    """`wanted` with the ignored fields as they live; where that cannot be read back, as they were `applied`, else as
    wanted."""
    live = seen.attributes or {}
    meant = wanted if applied is None else applied
    held = {path: _as_it_lives(live.get(path), value) for path, value in meant.items()}
    kept = {path: value for path, value in wanted.items() if not ignores(patterns, path)}
    kept |= {path: value for path, value in held.items() if ignores(patterns, path)}
    return dict(sorted(kept.items()))


def _as_it_lives(live: Scalar, value: Scalar) -> Scalar:
    return value if live is None or agrees(live, value) else live


def is_protected(record: SandboxRecord | None, seen: ObservedSandbox | None) -> bool:
    """What was recorded of an object, else what its labels say."""
    if record is not None and (seen is None or record.sandbox_id == seen.info.sandbox_id):
        return record.protected
    return seen is not None and seen.owner is not None and seen.owner.protected


def age_left(
    wanted: DesiredSandbox, record: SandboxRecord | None, seen: ObservedSandbox, now: float
) -> float | None:
    """Seconds until `max_lifetime` is over, 0 or less when it is; None without one, or when nobody knows its age."""
    limit = wanted.lifecycle.max_lifetime
    born = seen.info.created_at or (record.created_at if record else 0.0)
    return None if limit is None or not born else born + limit - now


def trigger_token(info: SandboxInfo | None, spec_hash: str) -> str:
    """Which object it is, and of which specification; "" while that is not known."""
    return "" if info is None else f"{info.container_id or info.sandbox_id} {spec_hash[:12]}".strip()


def triggered_by(
    wanted: DesiredSandbox,
    record: SandboxRecord | None,
    infos: Mapping[Address, SandboxInfo | None],
    specs: Mapping[Address, str],
    renewed: Mapping[Address, bool],
) -> tuple[Address, ...]:
    """The addresses of `replace_triggered_by` that have another object or specification than when this one was made, or
    get one in this plan: an object when `renewed`, a specification by `specs`, their fingerprints after it. Without a
    record of it nobody knows what they were."""
    return tuple(
        address
        for address in wanted.lifecycle.replace_triggered_by
        if renewed.get(address)
        or _is_another(address, record, trigger_token(infos.get(address), specs.get(address, "")))
    )


def _is_another(address: Address, record: SandboxRecord | None, now: str) -> bool:
    before = record.triggers.get(address, "") if record else ""
    return bool(before and now) and before != now


def rule_changes(wanted: DesiredSandbox, record: SandboxRecord) -> tuple[FieldChange, ...]:
    """What differs of the rules that are recorded with an object: recording them anew changes nothing else on it."""
    changes: list[FieldChange] = []
    protects = wanted.lifecycle.prevent_destroy
    if protects is not None and record.protected != protects:
        changes.append(_change(wanted, PROTECTION, record.protected, protects))
    before, after = sorted(record.triggers), sorted(wanted.lifecycle.replace_triggered_by)
    if before != after:
        changes.append(_change(wanted, TRIGGERS, ", ".join(before) or None, ", ".join(after) or None))
    return tuple(changes)


def _change(wanted: DesiredSandbox, path: str, before: Scalar, after: Scalar) -> FieldChange:
    return FieldChange(path=path, before=before, after=after, position=wanted.at(path))
