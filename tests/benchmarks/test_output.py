"""What a run writes: JSON by its schema, a page, a plot."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jsonschema_rs
import pytest

from benchmarks import chart, results, tables
from benchmarks.__main__ import NAMES, failed, main, section
from benchmarks.figures import Figure, Relation
from benchmarks.measure import once
from benchmarks.results import Run, Section

ROOT = Path(__file__).parents[2]
FIGURES = (
    Figure(name="alone", unit="MB", samples=(10.0, 20.0), goal=15.0, note="a remark"),
    Figure(
        name="quicker <&|", unit="s", samples=(0.01, 0.02), peer="Terraform", peer_samples=(1.0, 2.0),
        relation=Relation.TIMES, goal=0.02,
    ),
    Figure(
        name="slower", unit="s", samples=(3.0,), peer="the SDK", peer_samples=(1.0,), relation=Relation.TIMES, goal=1.2
    ),
    Figure(name="no goal", unit="s", samples=(1.0,), peer="p", peer_samples=(2.0,), relation=Relation.TIMES),
    Figure(name="lonely", unit="s", samples=(1.0,), peer="docker-compose", absent="not installed", relation=Relation.TIMES),
)  # fmt: skip
RUN = Run(
    began="2026-01-02T03:04:05Z",
    seconds=90.04,
    quick=False,
    machine={"machine": "2 × A", "Terraform": "1.2.3", "docker-compose": "not installed"},
    sections=(
        Section(name="some", about="Something: measured.", figures=FIGURES),
        Section(name="engine", about="Docker.", figures=(), left_out="no engine answers"),
    ),
)


def test_the_json_is_as_its_schema_says_and_a_run_is_a_file(tmp_path: Path) -> None:
    path = results.write(RUN, tmp_path / "results")
    assert path.name == "2026-01-02T030405Z.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    schema = json.loads((ROOT / "benchmarks" / "results.schema.json").read_text(encoding="utf-8"))
    jsonschema_rs.validator_for(schema).validate(written)
    verdicts = [figure["verdict"] for figure in written["sections"][0]["figures"]]
    assert verdicts == ["met", "met", "not met", "no goal", "peer absent"]
    assert written["sections"][0]["figures"][1]["samples"] == [0.01, 0.02]
    assert written["sections"][1]["left_out"] == "no engine answers"


def test_the_page_names_the_machine_every_figure_and_what_is_absent() -> None:
    page = tables.page(RUN, "make bench")
    assert "| Terraform | 1.2.3 |" in page
    assert "Goals: 2 met, 1 not met, 1 peer absent, 1 no goal." in page
    assert (
        "| quicker <&/ | 2 | 15 ms (10–20) | Terraform | 1.50 s (1–2) | 0.01 × (0.01–0.01) | ≤ 0.02 × | met |"
        in page
    )
    assert "| lonely | 1 | 1 s | docker-compose | absent: not installed |  |  | peer absent |" in page
    assert "* alone: a remark." in page
    assert "Left out: no engine answers" in page


def test_a_line_says_all_of_a_figure() -> None:
    assert tables.line(FIGURES[2]) == (
        "  slower: 3 s; the SDK: 1 s; ratio 3 ×; 3 × for a goal of ≤ 1.20 ×: not met"
    )


# -- the plot

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*figures: Figure) -> ET.Element:
    return ET.fromstring(chart.svg(figures, caption="a & b"))


def test_the_plot_has_a_bar_for_each_ratio_and_a_mark_for_each_goal() -> None:
    root = drawn(*FIGURES)
    classes = [bar.get("class") for bar in root.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    assert classes == ["met", "missed", "plain"], "those alone and those without their peer have none"
    assert sum(line.get("class") == "goal" for line in root.iter(f"{SVG}line")) == 2 + 1  # and the legend's
    text = [each.text for each in root.iter(f"{SVG}text")]
    assert "quicker <&| / Terraform" in text
    assert "0.01 × (goal ≤ 0.02 ×)" in text


def test_bars_go_left_of_one_where_we_are_quicker_and_right_where_slower() -> None:
    along = chart.axis([0.01, 3.0], [f"{each.name} / {each.peer}" for each in chart.drawable(FIGURES)])
    assert (along.low, along.high) == (-2, 1)
    middle = along.x(1.0)
    quick, slow, _ = [
        bar for bar in drawn(*FIGURES).iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None
    ]
    assert float(quick.get("x", "")) + float(quick.get("width", "")) == pytest.approx(middle)
    assert float(slow.get("x", "")) == pytest.approx(middle)
    assert float(slow.get("width", "")) == pytest.approx(along.x(3.0) - middle)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [([], (0, 1)), ([0.5], (-1, 0)), ([2.0], (0, 1)), ([0.0033, 2.7], (-3, 1)), ([0.01], (-2, 0)), ([10.0], (0, 1))],
)  # fmt: skip
def test_the_axis_goes_from_one_power_of_ten_to_another(
    ratios: list[float], expected: tuple[int, int]
) -> None:
    along = chart.axis(ratios)
    assert (along.low, along.high) == expected
    for ratio in (*ratios, 1.0):
        assert along.left <= along.x(ratio) <= chart.WIDTH - chart.MARGIN


def test_a_plot_of_nothing_and_one_on_dark_ground_are_whole() -> None:
    assert drawn().tag == f"{SVG}svg"
    assert "prefers-color-scheme: dark" in chart.svg(FIGURES, caption="")


# -- the runner


def test_an_unknown_benchmark_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["startup", "warp"]) == 64
    assert "no such benchmark: warp" in capsys.readouterr().err
    for part in (["--quick"], ["startup"]):
        assert main(["--docs", *part]) == 64
        assert "from a whole run" in capsys.readouterr().err


def test_a_section_that_fails_keeps_what_it_has_and_the_run_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def measure(quick: bool) -> Iterator[Figure]:
        yield FIGURES[0]
        once(["sh", "-c", "echo no disk left >&2; exit 9"])

    half = ModuleType("half", "Half of it.")
    half.measure = measure  # type: ignore[attr-defined]
    made = section("half", half, False)
    assert failed(made)
    assert made.figures == FIGURES[:1]
    assert "ended with 9:\nno disk left" in made.left_out
    assert "left out: a command failed" in capsys.readouterr().out


def test_a_section_that_lacks_something_says_so_and_is_no_failure() -> None:
    lacking = ModuleType("lacking", "Of an engine.")
    lacking.lacks, lacking.measure = lambda: "no engine answers", None  # type: ignore[attr-defined]
    made = section("lacking", lacking, False)
    assert (made.left_out, made.figures, failed(made)) == ("no engine answers", (), False)


def test_every_section_of_the_page_is_a_module_of_its_own() -> None:
    for name in NAMES:
        text = (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        assert "def measure(quick: bool) -> Iterator[Figure]:" in text
