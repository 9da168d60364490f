"""`make bench`: every figure of the project, beside its peers, on this machine; or those of the sections that are named."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from rich.console import Console

from benchmarks import chart, machine, results, tables
from benchmarks.figures import Figure
from benchmarks.results import Run, Section

NAMES = (
    "startup", "plans", "journal", "fleet", "processes", "cluster", "containers", "readiness", "correction",
)  # fmt: skip
FAILED = "a command failed"
DOCS = Path(__file__).parents[1] / "docs"


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 64
    if options.docs and (options.quick or options.names):
        print(
            "the page is written from a whole run: --docs goes with neither --quick nor a name",
            file=sys.stderr,
        )
        return 64
    began, started = datetime.now(UTC), time.monotonic()
    here = machine.machine()
    print("\n".join(f"{what:14} {which}" for what, which in here.items()))
    sections = [
        section(name, importlib.import_module(f"benchmarks.{name}"), options.quick)
        for name in options.names or NAMES
    ]
    run = Run(
        began=began.strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds=time.monotonic() - started,
        quick=options.quick,
        machine=here,
        sections=sections,
    )
    print()
    tables.show(run, Console(width=None if sys.stdout.isatty() else 200))
    print(f"{run.seconds:.0f} s; written to {results.write(run)}")
    if options.docs:
        caption = f"{run.machine['machine']}, {run.machine['kernel']}, {run.began[:10]}; to the left of 1 × we are quicker"
        (DOCS / "benchmarks.md").write_text(tables.page(run, "make bench"), encoding="utf-8")
        (DOCS / "benchmarks.svg").write_text(chart.svg(run.figures, caption=caption), encoding="utf-8")
    return int(any(map(failed, sections)))


def failed(of: Section) -> bool:
    return of.left_out.startswith(FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repetitions, under two minutes")
    parser.add_argument("--docs", action="store_true", help="write docs/benchmarks.md and its plot anew")
    return parser


def section(name: str, module: ModuleType, quick: bool) -> Section:
    """All figures of a benchmark, each printed as soon as it is there."""
    about = (module.__doc__ or "").strip().splitlines()[0]
    measure: Callable[[bool], Iterable[Figure]] = module.measure
    lacks: Callable[[], str] = getattr(module, "lacks", lambda: "")
    print(f"\n# {name}: {about}", flush=True)
    began, left_out, figures = time.monotonic(), lacks(), []
    try:
        for figure in () if left_out else measure(quick):
            print(tables.line(figure), flush=True)
            figures.append(figure)
    except SystemExit as error:  # what was measured so far is kept, and the others still have their turn
        left_out = f"{FAILED}: {error}"
    if left_out:
        print(f"  left out: {left_out}", flush=True)
    seconds = time.monotonic() - began
    return Section(name=name, about=about, figures=tuple(figures), left_out=left_out, seconds=seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
