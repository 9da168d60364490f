"""The repair ladder: what is tried before something broken is replaced, and why a cheaper rung is left out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.core.rules import Facts
from reconciler.model.capabilities import Capabilities
from reconciler.model.plan import FieldChange, Reason, Rung

LOOK_AGAIN = 5.0  # seconds that something which never became ready gets once more


def ladder(
    reason: Reason, facts: Facts, changes: Sequence[FieldChange], able: Capabilities
) -> tuple[tuple[Rung, ...], tuple[str, ...]]:
    """The rungs of a repair below replacement, cheapest first, and why others are not among them."""
    if reason is Reason.UNFINISHED:
        return (), ("nothing else is tried: a destroy was begun on it",)
    waits = reason is Reason.TAINTED
    if changes:
        paths = ", ".join(change.path for change in changes[:3]) + (", …" if len(changes) > 3 else "")
        verb = "waited for again" if waits else "restarted"
        return (), (f"not {verb}: {paths} changed",)
    if facts.half_updated:
        return (), ("nothing else is tried: its last update failed, so nobody knows what it is",)
    rungs = (Rung.PROBE,) if waits else ()
    if able.restarts:
        return (*rungs, Rung.RESTART), ()
    return rungs, ("not restarted: its backend cannot do that",)
