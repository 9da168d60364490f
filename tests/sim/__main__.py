"""`python -m tests.sim --seed 0 --runs 1000 --seconds 600`: live many hours with a watch, and tell how they were.

`--story` prints what happened in an hour that broke a rule. Ends with 1 when any did.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter

from tests.sim.script import hour
from tests.sim.simulated import live


def main() -> int:
    options = _options()
    begun, tally, broken, seen = time.monotonic(), Counter[str](), Counter[str](), 0
    for seed in range(options.seed, options.seed + options.runs):
        if options.seconds and time.monotonic() - begun > options.seconds:
            break
        seen += 1
        referee = live(hour(seed))
        tally += referee.tally
        if referee.fouls:
            broken[re.sub(r"\b[bn]?\d[\d.]*|stray\d+", "#", referee.fouls[0])] += 1
            print(f"# seed {seed}: {referee.fouls[0]}", flush=True)
            if options.story:
                print("\n".join([hour(seed).text(), *referee.story]), flush=True)
    for rule, count in broken.most_common():
        print(f"{count:>6} {rule}")
    lived = ", ".join(f"{count} {what}" for what, count in sorted(tally.items()))
    print(f"{seen} hours in {time.monotonic() - begun:.0f}s: {lived}; {sum(broken.values())} broke a rule")
    return 1 if broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--runs", type=int, default=1000, help="how many hours, one seed each")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so long; 0 is never")
    parser.add_argument("--story", action="store_true", help="print what happened where a rule was broken")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
