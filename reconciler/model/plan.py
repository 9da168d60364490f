"""A plan is data: steps in order, each with its reason, its field changes and the object it was planned on.

`Plan.text()` is its deterministic form, the same on every machine; tests compare that, people read the views.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from reconciler.model.desired import Address, DesiredSandbox, FlatSpec, Output, Scalar
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.evidence import evidenced
from reconciler.model.observed import ObservedSandbox, SandboxInfo
from reconciler.model.position import Position


class Action(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    REPAIR = "repair"  # a replacement because the object broke, not because the configuration changed
    ADOPT = "adopt"
    DESTROY = "destroy"
    FORGET = "forget"  # only the record goes: the object is gone already


SYMBOL: Mapping[Action, str] = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.REPLACE: "-/+",
    Action.REPAIR: "!",
    Action.ADOPT: "<=",
    Action.DESTROY: "-",
    Action.FORGET: ".",
}
CREATE_FIRST_SYMBOL = "+/-"


class Reason(StrEnum):
    """Why a step is in the plan; the wire value is stable, `text` is for people."""

    NEW = "new"
    MISSING = "missing"
    UNFINISHED = "unfinished"
    FAILED_BEFORE = "failed_before"
    CONFIG_CHANGED = "config_changed"
    DRIFTED = "drifted"
    MOVED_BACKEND = "moved_backend"
    DEAD = "dead"
    TERMINATING = "terminating"
    PAUSED = "paused"
    SILENT = "silent"
    TAINTED = "tainted"
    FOUND = "found"
    IMPORTED = "imported"
    REMOVED = "removed"
    ORPHAN = "orphan"
    SUPERSEDED = "superseded"
    DESTROY_ALL = "destroy_all"
    GONE = "gone"
    ASKED = "asked"
    EXPIRED = "expired"
    TRIGGERED = "triggered"
    MOVED = "moved"
    LET_GO = "let_go"
    SEEN = "seen"
    ELSEWHERE = "elsewhere"
    LEFT = "left"
    REVERTED = "reverted"

    @property
    def text(self) -> str:
        return _REASON_TEXT[self]


_REASON_TEXT: Mapping[Reason, str] = {
    Reason.NEW: "declared, not there yet",
    Reason.MISSING: "was created before and is gone",
    Reason.UNFINISHED: "an earlier run left it unfinished",
    Reason.FAILED_BEFORE: "its last create failed",
    Reason.CONFIG_CHANGED: "the configuration changed",
    Reason.DRIFTED: "changed outside",
    Reason.MOVED_BACKEND: "declared on another backend now",
    Reason.DEAD: "it is not running any more",
    Reason.TERMINATING: "somebody is removing it",
    Reason.PAUSED: "it is paused",
    Reason.SILENT: "it runs, and does not answer any more",
    Reason.TAINTED: "it never became ready",
    Reason.FOUND: "live with our labels, but not recorded",
    Reason.IMPORTED: "declared in `imports`",
    Reason.REMOVED: "no longer in the configuration",
    Reason.ORPHAN: "carries this stack's labels, but is neither declared nor recorded",
    Reason.SUPERSEDED: "left over from a replacement",
    Reason.DESTROY_ALL: "everything of this stack is to be destroyed",
    Reason.GONE: "gone already: only its record is left",
    Reason.ASKED: "its replacement was asked for",
    Reason.EXPIRED: "it is older than its `max_lifetime`",
    Reason.TRIGGERED: "goes with what `replace_triggered_by` names",
    Reason.MOVED: "it has another address now",
    Reason.LET_GO: "declared in `removed` with `destroy: false`: it runs on, and is nobody's",
    Reason.ELSEWHERE: "it exists elsewhere: it is recorded and waited for, not created",
    Reason.LEFT: "it exists elsewhere: only its record goes, and it runs on",
    Reason.SEEN: "recorded as it is seen",
    Reason.REVERTED: "its rollout failed, so it goes back to what was healthy",
}


class Rung(StrEnum):
    """A cheaper repair than replacing, from the cheapest on. The wire value is stable."""

    PROBE = "probe"  # wait for it once more
    RESTART = "restart"  # stop and start it, with everything it holds


UNKNOWN_VALUE = "(known after apply)"


class FieldChange(Struct, frozen=True, kw_only=True):
    """One field from `before` to `after`; None is "not set". `outside` marks drift: live differs from what was last
    applied. `sensitive` values are keyed digests and shown masked."""

    path: str
    before: Scalar
    after: Scalar
    forces_replacement: bool = False
    outside: bool = False
    sensitive: bool = False
    position: Position | None = None


class Step(Struct, frozen=True, kw_only=True):
    """One thing to do to one address.

    `current` is the object it was planned on: it is looked at again right before acting. `generation` and
    `sandbox_id` are of the object that will exist afterwards; for DESTROY and FORGET of the one that goes.
    `because` is what the rule that decided it rests on. `rungs`, of a REPAIR: what is tried before it is replaced, in order; `passed_over` says why a rung is not among them.
    `wave`, from 1 on: it is part of a rollout, and begins when the wave before is healthy. `needed_by`: it was not selected,
    but something that was needs it. `protected`: it must not be destroyed or replaced, for whatever
    reason; `prevent_destroy`: it is recorded and labelled as such. `kept` is what a repaired object holds if it is not replaced, where that is not `spec`;
    `ignored` are fields of `spec` that are left as they are, whatever is declared.
    `spec` is the canonical form with references resolved as far as known; `needs` are the keys of the steps that
    must be done before this one. `create_first`, of a REPLACE: the old object goes only when the new one is ready.
    """

    action: Action
    address: Address
    backend: str
    reason: Reason
    sandbox_id: str
    generation: int
    desired: DesiredSandbox | None = None
    current: ObservedSandbox | None = None
    recorded_spec_hash: str = ""
    spec: FlatSpec = field(default_factory=dict)
    changes: tuple[FieldChange, ...] = ()
    unchanged: int = 0  # fields that stay as they are
    detail: str = ""
    because: str = ""
    cost: str = ""
    needs: tuple[str, ...] = ()
    create_first: bool = False
    rungs: tuple[Rung, ...] = ()
    passed_over: tuple[str, ...] = ()
    wave: int = 0
    needed_by: str = ""
    protected: bool = False
    prevent_destroy: bool = False
    kept: FlatSpec | None = None
    ignored: tuple[str, ...] = ()

    @property
    def symbol(self) -> str:
        return CREATE_FIRST_SYMBOL if self.create_first else SYMBOL[self.action]

    @property
    def key(self) -> str:
        """Unique within a plan: an address can have a live object and a leftover."""
        return f"{self.address}#{self.sandbox_id}" if self.reason is Reason.SUPERSEDED else str(self.address)

    @property
    def destroys(self) -> bool:
        return self.action in (Action.DESTROY, Action.REPLACE, Action.REPAIR)


class Selection(Struct, frozen=True, kw_only=True):
    """What of the whole plan was asked for. Patterns as in `core.select`: addresses, groups, globs, `label:k=v`.
    `refresh` False plans on what is recorded, without asking a backend."""

    targets: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    refresh_only: bool = False
    refresh: bool = True
    destroy: bool = False

    @property
    def partial(self) -> bool:
        return bool(self.targets or self.excludes)


class Moved(Struct, frozen=True, kw_only=True):
    """A record that gets another address; its object stays as it is."""

    source: Address
    target: Address
    position: Position | None = None


class Waves(Struct, frozen=True, kw_only=True):
    """How a rollout goes through a group: the keys of its steps, wave after wave. `canary`: the first wave is one."""

    group: str
    waves: tuple[tuple[str, ...], ...]
    size: int  # of the group
    at_once: int
    min_healthy: float = 0.0
    canary: bool = False
    auto_revert: bool = False


class Plan(Struct, frozen=True, kw_only=True):
    """`steps` are sorted destroys first, then by address; a leftover that waits for its successor comes right after
    that. `unchanged` counts addresses with nothing to do;
    `lineage_found` says the lineage was taken from live labels because no state was there; `infos` are the
    connection details that stay as they are while the plan is carried out. `left_out` are addresses with something to do
    that was not selected. `refusals` are why it must not be carried out, each with what tripped. `expiring` are seconds until
    `max_lifetime` is over, of what it is not over yet. `fleet` is how many sandboxes there are. `followed` are the fingerprints of what others are replaced with."""

    stack: str
    lineage: str
    serial: int
    steps: tuple[Step, ...] = ()
    unchanged: tuple[Address, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    outputs: Mapping[str, Output] = field(default_factory=dict)
    infos: Mapping[Address, SandboxInfo] = field(default_factory=dict)
    lineage_found: bool = False
    selection: Selection = Selection()
    moves: tuple[Moved, ...] = ()
    rollouts: tuple[Waves, ...] = ()
    left_out: tuple[Address, ...] = ()
    refusals: tuple[Diagnostic, ...] = ()
    expiring: Mapping[Address, float] = field(default_factory=dict)
    fleet: int = 0
    followed: Mapping[Address, str] = field(default_factory=dict)

    @property
    def destroy(self) -> bool:
        return self.selection.destroy

    @property
    def empty(self) -> bool:
        return not self.steps and not self.moves

    def count(self, *actions: Action) -> int:
        wanted = frozenset(actions)
        return sum(step.action in wanted for step in self.steps)

    def tally(self) -> Mapping[Action, int]:
        return Counter(step.action for step in self.steps)

    def text(self) -> str:
        """One line per step and one per changed field, in a stable order."""
        lines = [
            f"plan {self.stack} serial {self.serial}: {len(self.steps)} to do, {len(self.unchanged)} unchanged"
        ]
        lines += [f"refused: {refusal.summary}" for refusal in self.refusals]
        lines += [f"moved {move.source} -> {move.target}" for move in self.moves]
        for step in self.steps:
            why = evidenced(str(step.reason), step.detail)
            lines.append(f"{step.symbol} {step.address} [{step.backend}] {why} -> {step.sandbox_id}")
            lines += [f"    {_change_text(change)}" for change in step.changes]
            if step.rungs:
                lines.append(f"    tries {', '.join(step.rungs)} first")
            if step.wave:
                lines.append(f"    wave {step.wave}")
            if step.needs:
                lines.append(f"    needs {', '.join(step.needs)}")
            if step.needed_by:
                lines.append(f"    needed by {step.needed_by}")
        return "\n".join(lines) + "\n"


def _change_text(change: FieldChange) -> str:
    before, after = ("•••", "•••") if change.sensitive else (repr(change.before), repr(change.after))
    marks = (" # forces replacement" if change.forces_replacement else "") + (
        " # outside" if change.outside else ""
    )
    place = f" @ {change.position.short}" if change.position else ""
    return f"{change.path}: {before} -> {after}{marks}{place}"
