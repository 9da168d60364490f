"""Every row of the rule table: the facts that reach it, and that a neighbour does not."""

from __future__ import annotations

import pytest

from reconciler.core.rules import RULES, Facts, decide
from reconciler.model.observed import Phase
from reconciler.model.state import Status

UP = Phase.STARTING

CASES: dict[str, Facts] = {
    "exists elsewhere, and is not wanted any more": Facts(
        declared=False, recorded=Status.READY, phase=UP, elsewhere=True
    ),
    "exists elsewhere, not recorded": Facts(declared=True, phase=UP, elsewhere=True),
    "exists elsewhere, never seen ready": Facts(
        declared=True, recorded=Status.TAINTED, phase=UP, elsewhere=True, changed=1
    ),
    "exists elsewhere, and is declared otherwise": Facts(
        declared=True, recorded=Status.READY, phase=UP, elsewhere=True, changed=1
    ),
    "exists elsewhere, and does not answer": Facts(
        declared=True, recorded=Status.READY, phase=Phase.UNREADY, elsewhere=True
    ),
    "exists elsewhere": Facts(declared=True, recorded=Status.READY, phase=UP, elsewhere=True, asked=True),
    "destroy everything that is live": Facts(
        declared=False, destroy_all=True, recorded=Status.READY, phase=UP
    ),
    "not declared, to be let go": Facts(declared=False, recorded=Status.READY, phase=UP, let_go=True),
    "not declared, recorded, live": Facts(declared=False, recorded=Status.READY, phase=UP),
    "not declared, not recorded, live": Facts(declared=False, phase=UP),
    "not declared, gone": Facts(declared=False, recorded=Status.READY),
    "declared, gone, create was interrupted": Facts(declared=True, recorded=Status.PENDING),
    "declared, gone, its last create failed": Facts(declared=True, recorded=Status.PENDING, failed=True),
    "declared, gone, recorded": Facts(declared=True, recorded=Status.READY),
    "declared, never there": Facts(declared=True),
    "live on another backend": Facts(declared=True, recorded=Status.READY, phase=UP, same_backend=False),
    "somebody is removing it": Facts(
        declared=True, recorded=Status.READY, phase=Phase.TERMINATING, changed=1
    ),
    "nobody can tell how it is": Facts(declared=True, recorded=Status.READY, phase=Phase.UNKNOWN, changed=1),
    "its replacement was asked for": Facts(declared=True, recorded=Status.READY, phase=UP, asked=True),
    "too old": Facts(declared=True, recorded=Status.READY, phase=Phase.FAILED, expired=True),
    "what it is replaced with was replaced": Facts(
        declared=True, recorded=Status.READY, phase=UP, triggered=True, changed=1
    ),
    "half destroyed": Facts(declared=True, recorded=Status.DESTROYING, phase=UP),
    "dead": Facts(declared=True, recorded=Status.READY, phase=Phase.FAILED),
    "paused, and can go on": Facts(declared=True, recorded=Status.READY, phase=Phase.PAUSED, resumable=True),
    "paused": Facts(declared=True, recorded=Status.READY, phase=Phase.PAUSED),
    "runs, and does not answer": Facts(
        declared=True, recorded=Status.READY, phase=UP, silent=True, changed=1
    ),
    "never became ready, must not be replaced, and is to be changed in place": Facts(
        declared=True, recorded=Status.TAINTED, phase=UP, changed=1, protected=True
    ),
    "never became ready": Facts(declared=True, recorded=Status.TAINTED, phase=UP),
    "an import that cannot become as declared in place": Facts(
        declared=True, phase=UP, is_recorded=False, importing=True, changed=2, forced=1
    ),
    "an import to be changed in place": Facts(
        declared=True, phase=UP, is_recorded=False, importing=True, changed=1
    ),
    "an import that is as declared": Facts(declared=True, phase=UP, is_recorded=False, importing=True),
    "a field that cannot change in place changed outside": Facts(
        declared=True, recorded=Status.READY, phase=UP, changed=1, outside=1, forced=1
    ),
    "a field that cannot change in place changed": Facts(
        declared=True, recorded=Status.READY, phase=UP, changed=2, outside=1, forced=1
    ),
    "fields changed outside": Facts(declared=True, recorded=Status.READY, phase=UP, changed=1, outside=1),
    "fields changed": Facts(declared=True, recorded=Status.READY, phase=UP, changed=1),
    "an update was interrupted, or failed": Facts(
        declared=True, recorded=Status.CREATED, phase=UP, half_updated=True
    ),
    "live, ours, not recorded": Facts(declared=True, phase=UP),
    "created, readiness never awaited": Facts(declared=True, recorded=Status.CREATED, phase=UP),
    "labelled with the address it had before": Facts(
        declared=True, recorded=Status.READY, phase=UP, relabel=True
    ),
    "as declared": Facts(declared=True, recorded=Status.READY, phase=UP),
}


@pytest.mark.parametrize("name", CASES)
def test_the_facts_reach_their_rule(name: str) -> None:
    assert decide(CASES[name]).name == name


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == {rule.name for rule in RULES}


def test_names_are_unique_and_every_rule_says_why() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.why for rule in RULES)


def test_a_rule_has_an_action_exactly_when_it_has_a_reason() -> None:
    assert all((rule.action is None) == (rule.reason is None) for rule in RULES)


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("phase", [None, *Phase])
def test_a_declared_sandbox_is_never_destroyed_or_forgotten(status: Status, phase: Phase | None) -> None:
    action = decide(Facts(declared=True, recorded=status, phase=phase)).action
    assert action not in ("destroy", "forget")


@pytest.mark.parametrize("changed", [0, 1])
def test_what_cannot_be_told_is_left_alone(changed: int) -> None:
    facts = Facts(declared=True, recorded=Status.READY, phase=Phase.UNKNOWN, changed=changed, forced=changed)
    assert decide(facts).action is None
