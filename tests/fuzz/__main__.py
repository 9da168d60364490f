"""`python -m tests.fuzz --seed 0 --runs 1000 --seconds 600`: live many life cycles, and tell how they survived.

What breaks a rule is made small and printed as a test to paste. Ends with 1 when anything did.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.fuzz.generate import generate
from tests.fuzz.live import RULES, Broken, Tally, live
from tests.fuzz.paste import pasteable
from tests.fuzz.scenario import Scenario
from tests.fuzz.shrink import shrink


def main() -> int:
    options = _options()
    begun = time.monotonic()
    tally, broken, seen = Tally(), Counter[str](), 0
    for seed in range(options.seed, options.seed + options.runs):
        if options.seconds and time.monotonic() - begun > options.seconds:
            break
        seen += 1
        scenario = generate(seed)
        broke = live(scenario, tally=tally)
        if broke is None:
            continue
        broken[broke.rule] += 1
        print(f"# seed {seed}: {broke.rule}", flush=True)
        if broken[broke.rule] <= options.show:
            print(smallest(scenario, broke, seed), flush=True)
    print(table(tally, broken, seen, time.monotonic() - begun))
    return 1 if broken else 0


def smallest(scenario: Scenario, broke: Broken, seed: int | None = None) -> str:
    """The test to paste for a scenario that breaks a rule."""

    def fails(candidate: Scenario) -> bool:
        again = live(candidate)
        return again is not None and again.rule == broke.rule

    small = shrink(scenario, fails)
    return pasteable(small, live(small) or broke, seed=seed)


def table(tally: Tally, broken: Counter[str], seen: int, seconds: float) -> str:
    """How many scenarios each rule survived, and what they went through."""
    names = [*(rule.name for rule in RULES), *(name for name in broken if name not in _NAMES)]
    width = max(map(len, names))
    lines = [f"{name.ljust(width)}  {seen - broken[name]:>7} of {seen}" for name in names]
    lines.append(
        f"{seen} scenarios, {tally.operations} operations ({tally.refused} refused, {tally.killed} killed, "
        f"{tally.incomplete} incomplete) in {seconds:.0f}s; "
        f"{tally.slow} needed more than two applies to settle; {sum(broken.values())} broke a rule"
    )
    return "\n".join(lines)


_NAMES = frozenset(rule.name for rule in RULES)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--runs", type=int, default=1000, help="how many scenarios, one seed each")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so long; 0 is never")
    parser.add_argument("--show", type=int, default=2, help="tests to print per rule")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
