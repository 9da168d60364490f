"""The fuzz itself: a planted bug is found, made small, and printed as a test that fails in the same way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.model.lifecycle import Policy, Rollout
from tests.fuzz.__main__ import smallest
from tests.fuzz.generate import generate
from tests.fuzz.live import RULES, Broken, live
from tests.fuzz.paste import pasteable, source
from tests.fuzz.rules import Happening, Rule
from tests.fuzz.scenario import Apply, Config, Declare, Fault, Group, Happens, Passes, Scenario, Stranger
from tests.fuzz.shrink import shrink

ROOT = Path(__file__).parents[2]

# A backend that says it changed what it did not change; the rest is noise.
LIED_TO = Scenario(
    operations=(
        Declare(
            config=Config(
                groups=(
                    Group(name="a", replicas=3, image="two", tier="x", rollout=Rollout(canary=1)),
                    Group(name="b", backend="liar", cpu=1.0, secret="v1", needs=("a",)),
                    Group(name="c", needs=("b",), refers=True, create_first=True),
                ),
                policy=Policy(max_drift_percent=90.0),
            )
        ),
        Apply(faults=(Fault(verb="create", how="transient", times=2), Fault(verb="look"))),
        Stranger(),
        Happens(what="kill"),
        Declare(
            config=Config(
                groups=(
                    Group(name="a", replicas=2, image="one"),
                    Group(name="b", backend="liar", cpu=2.0, secret="v1", needs=("a",)),
                )
            )
        ),
        Apply(parallelism=1),
        Passes(),
        Apply(refresh_only=True),
    ),
    store="file",
)


def broken_by(scenario: Scenario) -> Broken:
    broken = live(scenario)
    assert broken is not None
    return broken


@pytest.fixture(scope="module")
def printed() -> str:
    return smallest(LIED_TO, broken_by(LIED_TO), 1)


class TestShrinking:
    def test_a_planted_bug_becomes_a_handful_of_lines(self) -> None:
        rule = broken_by(LIED_TO).rule

        def fails(candidate: Scenario) -> bool:
            again = live(candidate)
            return again is not None and again.rule == rule

        small = shrink(LIED_TO, fails)
        assert fails(small)
        assert small.store == "memory"
        assert len(small.operations) <= 3
        groups = [g for o in small.operations if isinstance(o, Declare) for g in o.config.groups]
        assert {group.name for group in groups} == {"b"}
        assert all(group.replicas is group.secret is None and group.needs == () for group in groups)

    def test_a_rule_that_is_passed_in_is_shrunk_for_as_well(self) -> None:
        """No sandbox may ever be called `b`: one declaration and one apply are enough."""

        def no_b(now: Happening) -> str:
            return "there is b" if "b" in now.after.ours.values() else ""

        rules = (*RULES, Rule("nothing is called b", no_b))
        scenario = LIED_TO
        small = shrink(
            scenario, lambda s: (live(s, rules) or Broken(rule="", after=0, how="")).rule == rules[-1].name
        )
        assert small == Scenario(operations=(Declare(config=Config(groups=(Group(name="b"),))),))

    def test_what_cannot_be_smaller_stays(self) -> None:
        assert shrink(Scenario(), lambda _: True) == Scenario()
        assert shrink(LIED_TO, lambda candidate: candidate == LIED_TO) == LIED_TO

    def test_it_asks_no_more_often_than_it_may(self) -> None:
        asked: list[Scenario] = []

        def never(candidate: Scenario) -> bool:
            asked.append(candidate)
            return False

        shrink(LIED_TO, never, most=10)
        assert len(asked) == 10


class TestPrinting:
    def test_a_scenario_is_its_own_source(self) -> None:
        names = {"Rollout": Rollout, "Policy": Policy, **vars(sys.modules["tests.fuzz.scenario"])}
        for scenario in (LIED_TO, *map(generate, range(50))):
            assert eval(source(scenario), dict(names)) == scenario

    def test_what_is_printed_fails_in_the_same_way(self, printed: str, tmp_path: Path) -> None:
        assert run(printed, tmp_path) == (1, broken_by(LIED_TO).rule)

    def test_and_passes_once_the_bug_is_gone(self, printed: str, tmp_path: Path) -> None:
        assert run(printed.replace('backend="liar"', 'backend="able"'), tmp_path) == (0, "")

    def test_it_says_what_broke_and_where_it_comes_from(self, printed: str) -> None:
        assert "def test_it_converges" in printed or "def test_a_complete_apply" in printed
        assert '"""Found by seed 1. ' in printed
        assert printed.count("import") <= 4

    def test_nothing_that_is_the_default_is_printed(self) -> None:
        broken = Broken(rule="the rule", after=3, how='it said "no"')
        text = pasteable(Scenario(operations=(Passes(), Apply(after=True))), broken)
        assert "        Scenario(operations=(Passes(), Apply(after=True)))\n" in text
        assert "def test_the_rule() -> None:" in text
        compile(text, "pasted", "exec")


def run(text: str, folder: Path) -> tuple[int, str]:
    """The exit code of a pasted test, and the rule that it names as broken."""
    path = folder / "test_pasted.py"
    path.write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        str(path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    told = [
        rule
        for rule in (*(rule.name for rule in RULES), broken_by(LIED_TO).rule)
        if f"{rule}: not so" in done.stdout
    ]
    return done.returncode, told[0] if told else ""
