"""How sandboxes are changed, renamed and removed: rules of one sandbox, and of the whole stack.

None of it is part of a fingerprint: changing a rule changes nothing on an object.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from reconciler.model.address import Address
from reconciler.model.position import Position


class DriftPolicy(StrEnum):
    """What `watch` and `drift --correct` do about a sandbox that changed behind our back."""

    CORRECT = "correct"
    REPORT = "report"
    IGNORE = "ignore"


class Lifecycle(Struct, frozen=True, kw_only=True):
    """`create_first`: the new one is ready before the old one goes. `prevent_destroy`: no plan destroys or replaces it;
    None says nothing, so what was recorded holds on.
    `ignore_changes` are paths of the canonical form, or prefixes of them, or globs: what differs there is left as it is
    until a new object is made. `replace_triggered_by`: when one of these gets another object or another specification,
    this one is replaced too. `max_lifetime` in seconds: what is older is replaced by a new one."""

    create_first: bool = False
    prevent_destroy: bool | None = None
    ignore_changes: tuple[str, ...] = ()
    replace_triggered_by: tuple[Address, ...] = ()
    max_lifetime: float | None = None


class Rollout(Struct, frozen=True, kw_only=True):
    """How changes go through the sandboxes of one group: in waves, each of which must be healthy before the next.

    At most `max_unavailable` of them are taken down at a time, or `max_unavailable_percent` of the group (rounded down, at
    least one). A replaced one is healthy when it has been ready for `min_healthy` seconds. `canary` of them go first, alone.
    `auto_revert`: when a wave fails, those that were changed go back to the last specification they were healthy with.
    """

    max_unavailable: int = 1
    max_unavailable_percent: float | None = None
    min_healthy: float = 0.0
    canary: int = 0
    auto_revert: bool = False

    def at_once(self, size: int) -> int:
        """How many of a group of `size` may be down at a time; at least one."""
        if self.max_unavailable_percent is None:
            return max(1, self.max_unavailable)
        return max(1, int(size * self.max_unavailable_percent / 100))


class Move(Struct, frozen=True, kw_only=True):
    """What was recorded as `source` is `target` now: two addresses, or the names of two groups."""

    source: str
    target: str
    position: Position | None = None


class Removal(Struct, frozen=True, kw_only=True):
    """`source`, an address or a group's name, is no longer declared on purpose. With `destroy` False it is let go: it runs
    on, and is nobody's."""

    source: str
    destroy: bool = True
    position: Position | None = None


class Policy(Struct, frozen=True, kw_only=True):
    """Limits on what one run may do; None is no limit. `protected` are patterns of addresses that no plan destroys or
    replaces. `max_drift_percent`: when more of the fleet than this changed outside, or died, nothing is put back, because
    the backend or the specification is likelier at fault. `position` is that of the block."""

    max_destroy: int | None = None
    max_destroy_percent: float | None = None
    max_drift_percent: float | None = None
    protected: tuple[str, ...] = ()
    position: Position | None = None
