"""Field by field: what the configuration changed, and what changed outside."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import DesiredSandbox, FlatSpec, Scalar
from reconciler.model.observed import ObservedSandbox
from reconciler.model.plan import FieldChange


def compare(
    applied: FlatSpec,
    wanted: FlatSpec,
    seen: ObservedSandbox,
    desired: DesiredSandbox,
    capabilities: Capabilities,
) -> tuple[FieldChange, ...]:
    """Every field that has to change, sorted by path.

    `applied` is what we last put there, `wanted` what the configuration says now; where the backend can read a
    declared field back, the live value counts as the one before, and differing from `applied` makes it drift.
    """
    return tuple(_changes(applied, wanted, seen, desired, capabilities))


def _changes(
    applied: FlatSpec,
    wanted: FlatSpec,
    seen: ObservedSandbox,
    desired: DesiredSandbox,
    capabilities: Capabilities,
) -> Iterator[FieldChange]:
    live = seen.attributes or {}
    if applied == wanted and all(live.get(path, value) == value for path, value in wanted.items()):
        return
    for path in sorted({*applied, *wanted}):
        before, after = applied.get(path), wanted.get(path)
        outside = path in wanted and path in live and live[path] != before
        if outside:
            before = live[path]
        if before == after:
            continue
        yield FieldChange(
            path=path,
            before=before,
            after=after,
            outside=outside and applied.get(path) == after,
            sensitive=path.startswith("secrets."),
            forces_replacement=not capabilities.updates_in_place(path),
            position=desired.at(path),
        )


def fallback(label_hash: str, wanted_hash: str, desired: DesiredSandbox) -> tuple[FieldChange, ...]:
    """The one change that can be told when nothing but the label's fingerprint is known of the live object."""
    before: Scalar = label_hash[:12] or None
    return (
        FieldChange(
            path="fingerprint",
            before=before,
            after=wanted_hash[:12],
            forces_replacement=True,
            position=desired.position,
        ),
    )
