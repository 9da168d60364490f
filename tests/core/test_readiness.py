"""The readiness decision, in virtual time."""

from __future__ import annotations

import statistics

import pytest

from reconciler.core.readiness import (
    LONGEST_DELAY,
    Again,
    Fleet,
    GaveUp,
    Ready,
    Verdict,
    Waiting,
    decide,
    first_probe,
    probe_timeout,
)
from reconciler.model.desired import Readiness


def waiting(**readiness: object) -> Waiting:
    return Waiting(readiness=Readiness(**{"timeout": 30.0, **readiness}), started=100.0)  # type: ignore[arg-type]


def no(
    at: float, of: Waiting, *, dead: bool = False, detail: str = "", fleet: Fleet | None = None
) -> Verdict:
    return decide(of, ready=False, dead=dead, detail=detail, now=at, fleet=fleet)


def notice(ready_after: float, **readiness: object) -> tuple[float, int]:
    """How late readiness is noticed when a probe takes no time, and how many probes it took."""
    of, now, probes = waiting(**readiness), 100.0, 0
    while True:
        probes += 1
        verdict = decide(of, ready=now >= 100.0 + ready_after, dead=False, detail="", now=now)
        if isinstance(verdict, Ready):
            return now - 100.0 - ready_after, probes
        assert isinstance(verdict, Again)
        assert verdict.at > now
        of, now = verdict.waiting, verdict.at


def test_a_good_answer_is_ready() -> None:
    assert isinstance(decide(waiting(), ready=True, dead=False, detail="", now=101.0), Ready)


def test_successes_must_be_in_a_row() -> None:
    of = waiting(successes=2)
    first = decide(of, ready=True, dead=False, detail="", now=101.0)
    assert isinstance(first, Again)
    between = no(102.0, first.waiting)
    assert isinstance(between, Again)
    third = decide(between.waiting, ready=True, dead=False, detail="", now=103.0)
    assert isinstance(third, Again)
    assert isinstance(decide(third.waiting, ready=True, dead=False, detail="", now=104.0), Ready)


def test_dead_gives_up_at_once() -> None:
    assert no(100.1, waiting(), dead=True, detail="exit code 3") == GaveUp("exit code 3")


def test_the_deadline_gives_up_and_repeats_the_last_answer() -> None:
    assert no(130.0, waiting(), detail="HTTP 503") == GaveUp("not ready after 30s; last answer: HTTP 503")


def test_a_good_answer_at_the_deadline_counts() -> None:
    assert isinstance(decide(waiting(), ready=True, dead=False, detail="", now=130.0), Ready)


def test_the_last_probe_is_at_the_deadline() -> None:
    verdict = no(129.9, waiting())
    assert isinstance(verdict, Again)
    assert verdict.at == 130.0


@pytest.mark.parametrize(("now", "timeout"), [(100.0, 5.0), (127.0, 3.0), (130.0, 0.0), (140.0, 0.0)])
def test_a_probe_never_gets_more_time_than_is_left(now: float, timeout: float) -> None:
    assert probe_timeout(waiting(), now) == timeout


def test_an_explicit_interval_is_kept() -> None:
    verdict = no(100.0, waiting(interval=0.7))
    assert isinstance(verdict, Again)
    assert verdict.at == pytest.approx(100.7)


def test_readiness_is_noticed_within_20_ms_in_the_median() -> None:
    lags = [notice(after / 1000)[0] for after in range(20, 1000, 7)]
    assert statistics.median(lags) < 0.020


def test_probes_stay_few_and_far_between_at_last() -> None:
    lag, probes = notice(29.0)
    assert lag <= LONGEST_DELAY
    assert probes < 300


class TestFleet:
    def test_a_small_one_is_asked_at_once(self) -> None:
        assert first_probe(Readiness(), 5.0, Fleet(size=3, typical=0.5)) == 5.0

    def test_a_large_one_is_asked_when_the_siblings_were_ready(self) -> None:
        assert first_probe(Readiness(), 5.0, Fleet(size=500, typical=0.5)) == 5.5

    def test_experience_is_never_waited_for_past_the_deadline(self) -> None:
        assert first_probe(Readiness(timeout=1.0), 5.0, Fleet(size=500, typical=9.0)) == 6.0

    def test_quicker_ones_teach_at_once_slower_ones_slowly(self) -> None:
        fleet = Fleet(size=100)
        fleet.learn(2.0)
        fleet.learn(1.0)
        assert fleet.typical == 1.0
        fleet.learn(9.0)
        assert fleet.typical == pytest.approx(1.02)

    def test_all_of_a_large_one_are_asked_less_often_each(self) -> None:
        verdict = no(101.0, waiting(), fleet=Fleet(size=2000))
        assert isinstance(verdict, Again)
        assert verdict.at == pytest.approx(103.0)
