"""What changed behind the tool's back: one `Drift` per address, with its likely cause and what is to be done about it.

A drift is measured against what was last applied, never against an edit of the configuration that waits for its apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from reconciler.model.desired import Address
from reconciler.model.lifecycle import DriftPolicy as DriftPolicy
from reconciler.model.plan import Action, FieldChange, Reason
from reconciler.model.position import Position


class Cause(StrEnum):
    """Who or what did it, as far as anybody can tell. The wire value is stable, `text` is for people."""

    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    ENDED = "ended"
    STOPPED = "stopped"
    REMOVED = "removed"
    ENGINE_RESTARTED = "engine_restarted"
    HOST_RESTARTED = "host_restarted"
    PAUSED = "paused"
    EDITED = "edited"
    EXPIRED = "expired"
    SILENT = "silent"
    INTERRUPTED = "interrupted"
    FOLLOWS = "follows"
    STRAY = "stray"
    UNKNOWN = "unknown"

    @property
    def text(self) -> str:
        return _CAUSE_TEXT[self]


_CAUSE_TEXT: Mapping[Cause, str] = {
    Cause.CRASHED: "it crashed",
    Cause.OUT_OF_MEMORY: "it ran out of memory",
    Cause.KILLED: "it was killed",
    Cause.ENDED: "it ended by itself",
    Cause.STOPPED: "somebody stopped it",
    Cause.REMOVED: "somebody removed it",
    Cause.ENGINE_RESTARTED: "the engine was restarted",
    Cause.HOST_RESTARTED: "the machine was restarted",
    Cause.PAUSED: "somebody paused it",
    Cause.EDITED: "somebody changed it",
    Cause.EXPIRED: "its `max_lifetime` is over",
    Cause.SILENT: "it runs, and does not answer",
    Cause.INTERRUPTED: "an earlier run did not finish with it",
    Cause.FOLLOWS: "what it refers to has changed",
    Cause.STRAY: "it carries this stack's labels, and nobody recorded it",
    Cause.UNKNOWN: "nobody can tell why",
}


class Provenance(Struct, frozen=True, kw_only=True):
    """What a backend knows of how one sandbox came to be as it is. `detail` is evidence for people ("exit code 137
    (SIGKILL)", "`docker rm` by the API"); `at` in seconds since the epoch, None when nobody knows."""

    cause: Cause
    detail: str = ""
    at: float | None = None


class Drift(Struct, frozen=True, kw_only=True):
    """One address that is not as it was last applied.

    `reason` is what a plan says of it, `action` what a correction does, None when there is none (`why_not` says why).
    `changes` are the fields that differ, each from what is there to what was applied. `policy` is what is done about it.
    `waits_for` is what it needs, does not run any more, and is left alone, so that this one is, too.
    """

    address: Address
    backend: str
    sandbox_id: str
    reason: Reason
    cause: Cause
    policy: DriftPolicy
    action: Action | None
    detail: str = ""
    at: float | None = None
    changes: tuple[FieldChange, ...] = ()
    cost: str = ""
    why_not: str = ""
    waits_for: Address | None = None
    position: Position | None = None
