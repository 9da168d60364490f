"""Field by field: what the configuration changed, and what changed outside."""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.model.capabilities import Capabilities, Support
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
    live = seen.attributes or {}
    if applied == wanted and (live == wanted or _is_seen_in(live, wanted)):
        return ()
    return tuple(_changes(applied, wanted, live, desired, capabilities))


def agrees(live: Scalar, declared: Scalar) -> bool:
    """Whether a live value is what was declared; a port that the backend was to choose may be any number."""
    return live == declared or (declared == "auto" and type(live) is int)


def _is_seen_in(live: FlatSpec, wanted: FlatSpec) -> bool:
    """Whether nothing that can be read back speaks against it."""
    return all(agrees(live.get(path, value), value) for path, value in wanted.items())


def _changes(
    applied: FlatSpec,
    wanted: FlatSpec,
    live: FlatSpec,
    desired: DesiredSandbox,
    capabilities: Capabilities,
) -> Iterator[FieldChange]:
    for path in sorted({*applied, *wanted}):
        before, after = applied.get(path), wanted.get(path)
        outside = path in wanted and path in live and not agrees(live[path], before)
        if outside and capabilities.support(path, after) is not Support.ENFORCED:
            outside = False  # it goes without it, so the live value is another one for ever
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


def astray(seen: ObservedSandbox, desired: DesiredSandbox) -> tuple[FieldChange, ...]:
    """What is not as the backend made it, as changes from outside."""
    return tuple(
        FieldChange(
            path=found.path,
            before=found.live,
            after=found.meant,
            outside=True,
            forces_replacement=not found.in_place,
            position=desired.position,
        )
        for found in seen.astray
    )


def vouched(wanted: FlatSpec, seen: ObservedSandbox, capabilities: Capabilities) -> FlatSpec:
    """What an object was made of whose label agrees with `wanted`. Where labels are fixed at creation they say nothing
    about fields that change in place: those count as they live, and as not set where they cannot be read."""
    if capabilities.relabels:
        return wanted
    live = seen.attributes or {}
    return {
        path: value
        if agrees(live.get(path), value) or not capabilities.updates_in_place(path)
        else live.get(path)
        for path, value in wanted.items()
    }


def fallback(
    label_hash: str,
    wanted_hash: str,
    wanted: FlatSpec,
    seen: ObservedSandbox,
    desired: DesiredSandbox,
    capabilities: Capabilities,
) -> tuple[FieldChange, ...]:
    """What can be told when nothing but the label's fingerprint and what can be read back is known of the live object:
    the fields that differ, and the fingerprint itself unless one of them explains the replacement."""
    live = seen.attributes or {}
    known = {
        path: value if agrees(live.get(path, value), value) else live[path] for path, value in wanted.items()
    }
    visible = compare(known, wanted, seen, desired, capabilities)
    if any(change.forces_replacement for change in visible):
        return visible
    before: Scalar = label_hash[:12] or None
    return (
        *visible,
        FieldChange(
            path="fingerprint",
            before=before,
            after=wanted_hash[:12],
            forces_replacement=True,
            position=desired.position,
        ),
    )


def differing(one: FlatSpec, other: FlatSpec) -> tuple[str, ...]:
    """The paths whose values are not the same in both, sorted."""
    return tuple(sorted(path for path in {*one, *other} if one.get(path) != other.get(path)))
