"""Pauses, votes and giving up of one sandbox. Times are the test's own."""

from __future__ import annotations

import pytest

from reconciler.core.damping import Damping, Patient

DAMPING = Damping(
    failures=3, of=5, pause=1.0, factor=2.0, longest=60.0, well_after=100.0, give_up=3, window=500.0
)


@pytest.mark.parametrize(
    ("attempts", "pause"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (1000, 60.0)]
)
def test_pauses_double_up_to_the_longest(attempts: int, pause: float) -> None:
    assert DAMPING.after(attempts) == pause


@pytest.mark.parametrize(("jitter", "pause"), [(0.0, 0.8), (0.5, 0.9), (1.0, 1.0)])
def test_jitter_spreads_the_last_fifth(jitter: float, pause: float) -> None:
    patient = Patient(DAMPING)
    patient.corrected(10.0, jitter)
    assert patient.not_before == pytest.approx(10.0 + pause)
    assert not patient.may_be_corrected(10.0 + pause - 0.01)
    assert patient.may_be_corrected(10.0 + pause)


@pytest.mark.parametrize(
    ("probes", "silent", "suspect"),
    [
        ("", False, False),
        ("+", False, False),
        ("-", False, True),
        ("--", False, True),
        ("---", True, False),
        ("-+--", True, False),
        ("---+", False, False),
        ("--++-", True, False),
        ("--+++-", False, True),
    ],
)
def test_votes(probes: str, silent: bool, suspect: bool) -> None:
    patient = Patient(DAMPING)
    for answer in probes:
        patient.probed(answer == "+")
    assert (patient.silent, patient.suspect) == (silent, suspect)


def test_corrections_of_long_ago_are_no_reason_to_give_up() -> None:
    patient = Patient(DAMPING)
    for at in (0.0, 300.0, 600.0, 900.0):
        patient.corrected(at, 1.0)
        assert not patient.gave_up
    patient.corrected(1000.0, 1.0)
    assert patient.gave_up


def test_what_fails_is_tried_on_with_the_longest_pause() -> None:
    """An engine that refuses for an hour must not leave the fleet to itself afterwards."""
    patient = Patient(DAMPING)
    for _ in range(20):
        patient.corrected(0.0, 1.0, worked=False)
    assert not patient.gave_up
    assert patient.not_before == DAMPING.longest


def test_what_was_put_off_waits_and_is_no_step_towards_giving_up() -> None:
    patient = Patient(DAMPING)
    for _ in range(5):
        patient.put_off(0.0, 1.0)
    assert patient.not_before == 16.0
    assert not patient.gave_up


def test_health_forgives_when_it_has_lasted() -> None:
    patient = Patient(DAMPING)
    patient.corrected(0.0, 1.0)
    patient.well(10.0)
    patient.well(109.0)
    assert patient.attempts == 1
    patient.drifted(109.5)
    patient.well(110.0)
    patient.well(209.0)
    assert patient.attempts == 1
    patient.well(210.0)
    assert patient.attempts == 0
