"""Medians, spreads, ratios and verdicts; the fit of growth; numbers in words. All pure."""

from __future__ import annotations

import pytest

from benchmarks.figures import Figure, Relation, Spread, Verdict, percentile, spread
from benchmarks.growth import exponent
from benchmarks.measure import by_turns
from benchmarks.plans import growth
from benchmarks.words import goal, measured, number, times, value


def figure(**fields: object) -> Figure:
    return Figure(**{"name": "a", "unit": "s", "samples": (2.0,), **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        pytest.param((3.0,), (3, 3, 3, 3, 3), id="one is all of them"),
        pytest.param((4.0, 1.0), (1, 1.75, 2.5, 3.25, 4), id="between two"),
        pytest.param((5.0, 1.0, 2.0, 4.0, 3.0), (1, 2, 3, 4, 5), id="of five, whatever their order"),
    ],
)
def test_a_spread(samples: tuple[float, ...], expected: tuple[float, ...]) -> None:
    least, lower, median, upper, most = expected
    assert spread(samples) == Spread(least=least, lower=lower, median=median, upper=upper, most=most)


def test_no_samples_have_no_spread() -> None:
    with pytest.raises(ValueError, match="no samples"):
        spread(())
    with pytest.raises(ValueError, match="no samples"):
        percentile((), 99)


@pytest.mark.parametrize(
    ("count", "percent", "expected"), [(100, 99, 99), (100, 50, 50), (40, 99, 40), (1, 99, 1), (200, 99, 198)]
)
def test_a_percentile_is_a_sample_that_so_many_do_not_exceed(count: int, percent: int, expected: int) -> None:
    assert percentile([float(n) for n in range(count, 0, -1)], percent) == expected


TIMES, MORE, ITSELF = Relation.TIMES, Relation.MORE, Relation.ITSELF


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"goal": 2.0}, (2.0, Verdict.MET), id="alone, just met"),
        pytest.param({"goal": 1.9}, (2.0, Verdict.NOT_MET), id="alone, not met"),
        pytest.param({}, (2.0, Verdict.NO_GOAL), id="alone, no goal"),
        pytest.param(
            {"peer": "p", "peer_samples": (4.0,), "relation": TIMES, "goal": 0.5}, (0.5, Verdict.MET), id="half"
        ),
        pytest.param(
            {"peer": "p", "peer_samples": (4.0,), "relation": TIMES, "goal": 0.01}, (0.5, Verdict.NOT_MET),
            id="not a hundred times quicker",
        ),
        pytest.param(
            {"peer": "p", "peer_samples": (1.5,), "relation": MORE, "goal": 0.5}, (0.5, Verdict.MET), id="more by that"
        ),
        pytest.param(
            {"peer": "p", "relation": TIMES, "goal": 0.5, "absent": "not installed"}, (None, Verdict.ABSENT),
            id="absent",
        ),
        pytest.param(
            {"peer": "p", "relation": MORE, "absent": "not installed"}, (None, Verdict.ABSENT), id="absent, no goal"
        ),
        pytest.param(
            {"peer": "p", "peer_samples": (4.0,), "relation": TIMES}, (0.5, Verdict.NO_GOAL), id="beside, no goal"
        ),
        pytest.param(
            {"peer": "p", "peer_samples": (4.0,), "goal": 2.0}, (2.0, Verdict.MET), id="beside, the goal is alone's"
        ),
    ],
)  # fmt: skip
def test_a_verdict(fields: dict[str, object], expected: tuple[float | None, Verdict]) -> None:
    made = figure(**fields)
    assert (made.value, made.verdict) == expected


def test_a_ratio_is_of_the_medians_and_spreads_over_the_turns() -> None:
    made = figure(samples=(1.0, 2.0, 9.0), peer="p", peer_samples=(2.0, 2.0, 3.0), relation=TIMES)
    assert made.ratio == 1.0
    assert made.ratios is not None
    assert (made.ratios.least, made.ratios.most) == (0.5, 3.0)
    assert figure(samples=(1.0, 2.0), peer="p", peer_samples=(2.0,)).ratios is None, "no turns in common"


@pytest.mark.parametrize(
    ("power", "constant"), [(1.0, 0.0), (1.0, 90.0), (2.0, 0.0), (2.0, 90.0), (1.1, 5.0), (0.5, 0.0)]
)
def test_the_exponent_of_growth_is_found_again_once_the_constant_is_subtracted(
    power: float, constant: float
) -> None:
    costs = {size: constant + 3 * size**power for size in (1000, 3000, 10_000)}
    assert exponent(costs, constant) == pytest.approx(power)


def test_a_constant_that_is_left_in_hides_growth() -> None:
    costs = {size: 1e6 + float(size) ** 2 for size in (10, 100, 1000)}
    assert exponent(costs) < 0.5 < 1.99 < exponent(costs, 1e6)


def test_what_does_not_exceed_the_constant_is_no_point_of_the_line() -> None:
    assert exponent({1: 1.0, 10: 11.0, 100: 101.0}, 1.0) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="two points"):
        exponent({10: 1.0, 100: 3.0}, 2.0)


def test_growth_is_fitted_where_work_exceeds_the_constant_and_said_so() -> None:
    [found] = growth("it", {10: 0.10, 1000: 0.2, 3000: 0.4, 10_000: 1.1}, 0.1)
    assert found.samples[0] == pytest.approx(1.0)
    assert found.note == "processor time at 1,000, 3,000, 10,000, less 100 ms of a run with one"
    assert list(growth("noise", {10: 0.1, 20: 0.09}, 0.1)) == []


def test_by_turns_each_way_begins_and_the_first_rounds_do_not_count() -> None:
    log: list[str] = []

    def way(name: str) -> int:
        log.append(name)
        return len(log)

    taken = by_turns({name: lambda name=name: way(name) for name in "abc"}, 2, warmup=1)  # type: ignore[misc]
    assert "".join(log) == "abc" + "bca" + "cab"
    assert taken == {"a": [6, 8], "b": [4, 9], "c": [5, 7]}


@pytest.mark.parametrize(
    ("amount", "unit", "expected"),
    [
        (1.234, "s", "1.23 s"),
        (0.0456, "s", "45.6 ms"),
        (0.06, "s", "60 ms"),
        (0.000287, "s", "287 µs"),
        (118.4, "MB", "118 MB"),
        (9.996, "MB", "10.0 MB"),
        (2095.2, "/s", "2,095/s"),
        (290, "", "290"),
        (0.15, "", "0.15"),
        (0.00033, "", "0.00033"),
    ],
)
def test_numbers_have_three_digits_and_their_unit(amount: float, unit: str, expected: str) -> None:
    assert number(amount, unit) == expected


def test_goals_and_values_in_words() -> None:
    peer = {"peer": "p", "peer_samples": (1.95,)}
    for fields, words in (
        ({"relation": TIMES, "goal": 2.0, **peer}, ("≤ 2 ×", "1.03 ×")),
        ({"relation": MORE, "goal": 0.06, **peer}, ("≤ 60 ms more", "50.0 ms more")),
        ({"relation": ITSELF, "goal": 1.5}, ("≤ 1.50 s", "2 s")),
        ({"relation": TIMES, "peer": "p"}, ("", "")),
    ):
        made = figure(**fields)
        assert (goal(made), value(made)) == words


def test_a_spread_in_words_says_its_unit_once_where_it_is_one() -> None:
    def told(*samples: float) -> str:
        return measured(spread(samples), "s", len(samples))

    assert told(1.234) == "1.23 s"
    assert told(1.0, 1.25, 1.5) == "1.25 s (1–1.50)"
    assert told(0.4, 1.25, 2.5) == "1.25 s (400 ms–2.50)"
    assert times(0.5) == "0.5 ×"
