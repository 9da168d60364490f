"""A run as data: `benchmarks/results/<date>.json`, as `benchmarks/results.schema.json` has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from benchmarks.figures import Figure, Spread

FOLDER = Path(__file__).parent / "results"
FORMAT = "1.0"


class Section(Struct, frozen=True, kw_only=True):
    """One benchmark: its name on the command line, what it is about, and its figures. `left_out` says why there are
    none, or not all."""

    name: str
    about: str
    figures: tuple[Figure, ...]
    left_out: str = ""
    seconds: float = 0.0  # that it took


class Run(Struct, frozen=True, kw_only=True):
    """All that was measured in one go. `began` is in ISO 8601, UTC; `seconds` is how long it took."""

    began: str
    seconds: float
    quick: bool
    machine: Mapping[str, str]
    sections: Sequence[Section]

    @property
    def figures(self) -> list[Figure]:
        return [figure for section in self.sections for figure in section.figures]


def document(run: Run) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "began": run.began,
        "seconds": round(run.seconds, 1),
        "quick": run.quick,
        "machine": dict(run.machine),
        "sections": [
            {
                "name": section.name,
                "about": section.about,
                "left_out": section.left_out,
                "seconds": round(section.seconds, 1),
                "figures": [_figure(figure) for figure in section.figures],
            }
            for section in run.sections
        ],
    }


def write(run: Run, folder: Path = FOLDER) -> Path:
    """One file a run; its name is when it began."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.began.replace(':', '')}{'-quick' if run.quick else ''}.json"
    path.write_text(json.dumps(document(run), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _figure(figure: Figure) -> dict[str, Any]:
    theirs, ratios = figure.theirs, figure.ratios
    return {
        "name": figure.name,
        "unit": figure.unit,
        "repetitions": len(figure.samples),
        "samples": list(figure.samples),
        "spread": _spread(figure.ours),
        "peer": figure.peer,
        "absent": figure.absent,
        "peer_samples": list(figure.peer_samples),
        "peer_spread": _spread(theirs) if theirs else None,
        "ratio": figure.ratio,
        "ratio_by_turns": _spread(ratios) if ratios else None,
        "relation": str(figure.relation),
        "goal": figure.goal,
        "value": figure.value,
        "verdict": str(figure.verdict),
        "note": figure.note,
    }


def _spread(of: Spread) -> dict[str, float]:
    return {name: getattr(of, name) for name in of.__struct_fields__}
