"""`policy`: limits and protected patterns, with the place of the block."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model.diagnostic import Severity
from reconciler.model.lifecycle import Policy
from reconciler.model.position import Position
from tests.config.written import HEAD, configured, desired, wrong

FLEET = "sandboxes: {db: {labels: {tier: critical}}, r: {replicas: 2}, e: {for_each: [eu]}}\n"
AT = Position("sandboxes.yaml", 4, 9)


def test_without_it_nothing_is_limited(tmp_path: Path) -> None:
    assert desired(tmp_path, FLEET).policy == Policy()


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        pytest.param("{}", Policy(position=AT), id="nothing said"),
        pytest.param("{max_destroy: 0}", Policy(max_destroy=0, position=AT), id="nothing may go"),
        pytest.param("{max_destroy: 5, max_destroy_percent: 12.5}", Policy(max_destroy=5, max_destroy_percent=12.5, position=AT), id="both limits"),
        pytest.param("{max_drift_percent: 50}", Policy(max_drift_percent=50.0, position=AT), id="the limit of drift"),
        pytest.param(
            "{protected: [db, r, \"e['eu']\", 'r[01]', 'd*', 'r[?]', 'label:tier=critical', 'label:tier', gone, db]}",
            Policy(
                protected=("db", "r", 'e["eu"]', "r[1]", "d*", "r[?]", "label:tier=critical", "label:tier", "gone"),
                position=AT,
            ),
            id="protected",
        ),
        pytest.param("{x-why: because}", Policy(position=AT), id="a key of one's own"),
    ],
)  # fmt: skip
def test_policies(tmp_path: Path, said: str, policy: Policy) -> None:
    made = configured(tmp_path, f"{HEAD}{FLEET}policy: {said}\n")

    assert made.desired.policy == policy
    assert made.warnings == ()


def test_variables_are_filled_in(tmp_path: Path) -> None:
    text = (
        HEAD + "variables: {n: {type: number}, all: {type: list, default: [db]}}\n" + FLEET
        + 'policy: {max_destroy: "${var.n}", max_drift_percent: "${var.n}", protected: "${var.all}"}\n'
    )  # fmt: skip

    made = configured(tmp_path, text, var=["n=3"]).desired.policy

    assert (made.max_destroy, made.max_drift_percent, made.protected) == (3, 3.0, ("db",))


@pytest.mark.parametrize(
    ("said", "says", "column"),
    [
        pytest.param("{max_destroy: -1}", "0 or more", 23, id="fewer than none"),
        pytest.param("{max_destroy: 1.5}", "a whole number", 23, id="half a sandbox"),
        pytest.param("{max_destroy_percent: 101}", "a number from 0 to 100", 31, id="more than all"),
        pytest.param("{max_drift_percent: many}", "a number from 0 to 100", 29, id="a word"),
        pytest.param("{max_drift_percent: '$${x}'}", "a number from 0 to 100", 29, id="an escape"),
        pytest.param('{max_destroy: "${var.word}"}', "a whole number", 23, id="a variable that is a word"),
        pytest.param("{protected: db}", "a list of addresses", 21, id="no list"),
        pytest.param("{protected: [db, 'a b']}", "`a b` is not a pattern", 26, id="two words"),
        pytest.param("{protected: ['r[']}", "`r[` is not a pattern", 22, id="half an address"),
        pytest.param("{protected: ['label:']}", "`label:` is not a pattern", 22, id="no label"),
        pytest.param("{protected: ['']}", "is not a pattern", 22, id="nothing"),
        pytest.param("{protect: [db]}", "unknown key `protect`", 10, id="a misspelt key"),
    ],
)  # fmt: skip
def test_it_is_refused(tmp_path: Path, said: str, says: str, column: int) -> None:
    found = wrong(tmp_path, f"{HEAD}variables: {{word: {{default: few}}}}\n{FLEET}policy: {said}\n")

    assert [item.position for item in found] == [Position("sandboxes.yaml", 5, column)]
    assert says in found[0].summary
    assert found[0].fix


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    found = wrong(tmp_path, f"{HEAD}{FLEET}policy: {{max_destroy: -1, protected: ['a b', db, 'label:=x']}}\n")

    assert [item.code for item in found] == ["wrong-value", "pattern", "pattern"]


def test_a_slip_that_would_protect_nothing_is_warned_of(tmp_path: Path) -> None:
    fleet = "sandboxes: {researcher: {replicas: 2}, other: {}}\n"

    made = configured(tmp_path, f"{HEAD}{fleet}policy: {{protected: [reseacher, 'researcher[7]', x]}}\n")

    [warning] = made.warnings
    assert warning.severity is Severity.WARNING
    assert "`reseacher`" in warning.summary
    assert "`researcher`" in warning.fix
    assert warning.position == Position("sandboxes.yaml", 4, 22)
