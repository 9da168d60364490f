"""What to do about one address: an ordered table, first match wins, the reason for each row beside it.

The table sees `Facts`, which say everything that matters about desired, recorded and observed as plain values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from msgspec import Struct

from reconciler.model.observed import Phase
from reconciler.model.plan import Action, Reason
from reconciler.model.state import Status


class Facts(Struct, frozen=True, kw_only=True):
    """`phase` None means nothing of ours is there. `recorded` None means the state does not know the address.
    `same_backend` compares where it is with where it should be; `changed` counts differing fields, `outside` how
    many of them are drift, `forced` how many cannot change in place. `is_recorded` says the live object is the one
    the state speaks of; `failed` that its last create is known to have failed; `resumable` that a paused one can be
    made to go on; `silent` that it was probed in vain, again and again. `importing`: it was made by others, and is to be taken over now. `asked`, `expired`, `triggered`: it is to be
    replaced whatever it is like. `protected`: it must not be replaced. `let_go`: an entry of `removed` says that it runs on. `relabel`: its labels speak of
    another address, and can be changed. `elsewhere`: others made it and others end it, so it is recorded at most."""

    declared: bool
    destroy_all: bool = False
    recorded: Status | None = None
    phase: Phase | None = None
    is_recorded: bool = True
    same_backend: bool = True
    half_updated: bool = False
    failed: bool = False
    resumable: bool = False
    importing: bool = False
    asked: bool = False
    expired: bool = False
    triggered: bool = False
    let_go: bool = False
    silent: bool = False
    protected: bool = False
    relabel: bool = False
    elsewhere: bool = False
    changed: int = 0
    outside: int = 0
    forced: int = 0

    @property
    def live(self) -> bool:
        return self.phase is not None

    @property
    def drifted_only(self) -> bool:
        return self.outside == self.changed


class Rule(Struct, frozen=True, kw_only=True):
    """`action` None means leave it as it is."""

    name: str
    when: Callable[[Facts], bool]
    action: Action | None
    reason: Reason | None
    why: str


def _gone(facts: Facts) -> bool:
    return not facts.live


RULES: tuple[Rule, ...] = (
    Rule(
        name="exists elsewhere, and is not wanted any more",
        when=lambda f: f.elsewhere and f.live and (f.destroy_all or not f.declared),
        action=Action.FORGET,
        reason=Reason.LEFT,
        why="it was not made here, so it is not destroyed from here",
    ),
    Rule(
        name="exists elsewhere, not recorded",
        when=lambda f: f.elsewhere and f.live and f.same_backend and f.recorded is None,
        action=Action.ADOPT,
        reason=Reason.ELSEWHERE,
        why="it is there already: it is recorded, and waited for as any other",
    ),
    Rule(
        name="exists elsewhere, never seen ready",
        when=lambda f: f.elsewhere and f.live and f.same_backend and f.recorded is not Status.READY,
        action=Action.ADOPT,
        reason=Reason.TAINTED,
        why="an earlier run waited for it in vain, and waiting is all that can be done",
    ),
    Rule(
        name="exists elsewhere, and is declared otherwise",
        when=lambda f: f.elsewhere and f.live and f.same_backend and f.changed > 0,
        action=Action.UPDATE,
        reason=Reason.CONFIG_CHANGED,
        why="only the record changes",
    ),
    Rule(
        name="exists elsewhere, and does not answer",
        when=lambda f: f.elsewhere and f.same_backend and (f.phase is Phase.UNREADY or (f.live and f.silent)),
        action=Action.ADOPT,
        reason=Reason.SILENT,
        why="it was ready, and others must mend it: it is waited for",
    ),
    Rule(
        name="exists elsewhere",
        when=lambda f: f.elsewhere and f.live and f.same_backend,
        action=None,
        reason=None,
        why="whatever it is like, it is neither replaced nor repaired from here",
    ),
    Rule(
        name="destroy everything that is live",
        when=lambda f: f.destroy_all and f.live,
        action=Action.DESTROY,
        reason=Reason.DESTROY_ALL,
        why="the user asked for it; ownership was established before facts are made",
    ),
    Rule(
        name="not declared, to be let go",
        when=lambda f: not f.declared and f.live and f.let_go,
        action=Action.FORGET,
        reason=Reason.LET_GO,
        why="an entry of `removed` says so; forgetting alone would make it an orphan, so that is remembered",
    ),
    Rule(
        name="not declared, recorded, live",
        when=lambda f: not f.declared and f.live and f.recorded is not None,
        action=Action.DESTROY,
        reason=Reason.REMOVED,
        why="it left the configuration",
    ),
    Rule(
        name="not declared, not recorded, live",
        when=lambda f: not f.declared and f.live,
        action=Action.DESTROY,
        reason=Reason.ORPHAN,
        why="labels are the truth: it is ours, and nobody wants it",
    ),
    Rule(
        name="not declared, gone",
        when=lambda f: not f.declared or (f.destroy_all and _gone(f)),
        action=Action.FORGET,
        reason=Reason.GONE,
        why="only the record is left of it",
    ),
    Rule(
        name="declared, gone, its last create failed",
        when=lambda f: _gone(f) and f.recorded is Status.PENDING and f.failed,
        action=Action.CREATE,
        reason=Reason.FAILED_BEFORE,
        why="what kept it from being created may be mended by now",
    ),
    Rule(
        name="declared, gone, create was interrupted",
        when=lambda f: _gone(f) and f.recorded in (Status.PENDING, Status.DESTROYING),
        action=Action.CREATE,
        reason=Reason.UNFINISHED,
        why="the intent is in the journal, the object is not there",
    ),
    Rule(
        name="declared, gone, recorded",
        when=lambda f: _gone(f) and f.recorded is not None,
        action=Action.CREATE,
        reason=Reason.MISSING,
        why="somebody or something removed it",
    ),
    Rule(
        name="declared, never there",
        when=_gone,
        action=Action.CREATE,
        reason=Reason.NEW,
        why="it is new in the configuration",
    ),
    Rule(
        name="live on another backend",
        when=lambda f: not f.same_backend,
        action=Action.REPLACE,
        reason=Reason.MOVED_BACKEND,
        why="a sandbox cannot change its backend; unless declared otherwise the old one goes first, its ports with it",
    ),
    Rule(
        name="somebody is removing it",
        when=lambda f: f.phase is Phase.TERMINATING and f.recorded is not Status.DESTROYING,
        action=Action.CREATE,
        reason=Reason.TERMINATING,
        why="nothing keeps it any more: it is made again as soon as it is gone, under the same id, so never beside it",
    ),
    Rule(
        name="nobody can tell how it is",
        when=lambda f: f.phase is Phase.UNKNOWN,
        action=None,
        reason=None,
        why="unknown is never absent and never broken: leave it alone and say so",
    ),
    Rule(
        name="its replacement was asked for",
        when=lambda f: f.asked and not f.importing,
        action=Action.REPLACE,
        reason=Reason.ASKED,
        why="`--replace` names it; what is being imported is taken over first, so that a killed run cannot lose it",
    ),
    Rule(
        name="too old",
        when=lambda f: f.expired and not f.importing,
        action=Action.REPLACE,
        reason=Reason.EXPIRED,
        why="its `max_lifetime` is over; repairing it or changing it in place would not make it younger",
    ),
    Rule(
        name="what it is replaced with was replaced",
        when=lambda f: f.triggered and not f.importing,
        action=Action.REPLACE,
        reason=Reason.TRIGGERED,
        why="`replace_triggered_by` names something that has another object now, or gets one",
    ),
    Rule(
        name="half destroyed",
        when=lambda f: f.is_recorded and f.recorded is Status.DESTROYING,
        action=Action.REPAIR,
        reason=Reason.UNFINISHED,
        why="a destroy was begun on it, so what is left of it cannot be trusted",
    ),
    Rule(
        name="dead",
        when=lambda f: f.phase in (Phase.STOPPED, Phase.FAILED),
        action=Action.REPAIR,
        reason=Reason.DEAD,
        why="it is still there but does not run",
    ),
    Rule(
        name="paused, and can go on",
        when=lambda f: f.phase is Phase.PAUSED and f.resumable and f.forced == 0,
        action=Action.UPDATE,
        reason=Reason.PAUSED,
        why="what it holds in memory is kept, and it answers again at once",
    ),
    Rule(
        name="paused",
        when=lambda f: f.phase is Phase.PAUSED,
        action=Action.REPAIR,
        reason=Reason.PAUSED,
        why="a paused sandbox answers nobody",
    ),
    Rule(
        name="runs, and does not answer",
        when=lambda f: f.silent and f.is_recorded and not f.importing,
        action=Action.REPAIR,
        reason=Reason.SILENT,
        why="it was probed again and again in vain: for those who need it, it is not there",
    ),
    Rule(
        name="never became ready, must not be replaced, and is to be changed in place",
        when=lambda f: (
            f.protected and f.is_recorded and f.recorded is Status.TAINTED and f.changed > 0 and f.forced == 0
        ),
        action=Action.UPDATE,
        reason=Reason.TAINTED,
        why="what is changed is waited for anyway, and nothing else would ever change it",
    ),
    Rule(
        name="never became ready",
        when=lambda f: f.is_recorded and f.recorded is Status.TAINTED and not f.half_updated,
        action=Action.REPAIR,
        reason=Reason.TAINTED,
        why="an earlier run waited for it in vain",
    ),
    Rule(
        name="an import that cannot become as declared in place",
        when=lambda f: f.importing and f.forced > 0,
        action=Action.REPLACE,
        reason=Reason.IMPORTED,
        why="the entry says it is ours from now on, and the backend fixes this field at creation",
    ),
    Rule(
        name="an import to be changed in place",
        when=lambda f: f.importing and f.changed > 0,
        action=Action.UPDATE,
        reason=Reason.IMPORTED,
        why="it is taken over, and all that differs can change in place",
    ),
    Rule(
        name="an import that is as declared",
        when=lambda f: f.importing,
        action=Action.ADOPT,
        reason=Reason.IMPORTED,
        why="as far as it can be read back it is as declared: record it",
    ),
    Rule(
        name="a field that cannot change in place changed outside",
        when=lambda f: f.forced > 0 and f.drifted_only,
        action=Action.REPLACE,
        reason=Reason.DRIFTED,
        why="the live object differs from what was applied",
    ),
    Rule(
        name="a field that cannot change in place changed",
        when=lambda f: f.forced > 0,
        action=Action.REPLACE,
        reason=Reason.CONFIG_CHANGED,
        why="the backend fixes this field at creation",
    ),
    Rule(
        name="fields changed outside",
        when=lambda f: f.changed > 0 and f.drifted_only,
        action=Action.UPDATE,
        reason=Reason.DRIFTED,
        why="the live object differs from what was applied, and can be put back without a restart",
    ),
    Rule(
        name="fields changed",
        when=lambda f: f.changed > 0,
        action=Action.UPDATE,
        reason=Reason.CONFIG_CHANGED,
        why="all of them can change in place",
    ),
    Rule(
        name="an update was interrupted, or failed",
        when=lambda f: f.half_updated,
        action=Action.UPDATE,
        reason=Reason.UNFINISHED,
        why="nobody knows which half of it happened; doing it again is harmless, and replacing it would lose what it holds",
    ),
    Rule(
        name="live, ours, not recorded",
        when=lambda f: f.recorded is None or not f.is_recorded,
        action=Action.ADOPT,
        reason=Reason.FOUND,
        why="the labels say it is ours and it is as declared: record it instead of making it again",
    ),
    Rule(
        name="created, readiness never awaited",
        when=lambda f: f.recorded in (Status.PENDING, Status.CREATED),
        action=Action.ADOPT,
        reason=Reason.UNFINISHED,
        why="an earlier run was interrupted before it answered: wait for it now",
    ),
    Rule(
        name="labelled with the address it had before",
        when=lambda f: f.relabel,
        action=Action.UPDATE,
        reason=Reason.MOVED,
        why="it moved; with the right labels it is found again even without a state",
    ),
    Rule(
        name="as declared",
        when=lambda _: True,
        action=None,
        reason=None,
        why="nothing to do",
    ),
)


@lru_cache(maxsize=256)  # of a thousand sandboxes, hardly one is in a situation of its own
def decide(facts: Facts) -> Rule:
    """The first rule that matches; the last one always does."""
    return next(rule for rule in RULES if rule.when(facts))
