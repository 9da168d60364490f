"""The plot of the page: one bar a ratio on a logarithmic axis, the goal marked. An SVG of our own, pure text.

Readable on light and on dark: it brings its own ground and changes its colours with the reader's scheme.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from msgspec import Struct

from benchmarks.figures import Figure, Relation, Verdict
from benchmarks.words import goal, times

WIDTH, MARGIN, AXIS = 1000, 190, 300  # pixels: in all, right of the axis for the numbers, the axis at least
LETTER = 6.5  # pixels of an average one, of 12 pixels' height
TOP, ROW, BAR = 64, 26, 14
_CLASSES = {
    Verdict.MET: "met",
    Verdict.NOT_MET: "missed",
    Verdict.NO_GOAL: "plain",
    Verdict.ABSENT: "plain",
}
_STYLE = """
  .ground { fill: #ffffff } .text { fill: #1f2328 } .soft { fill: #59636e } .line { stroke: #d1d9e0 }
  .one { stroke: #59636e } .met { fill: #1a7f37 } .missed { fill: #cf222e } .plain { fill: #8c959f }
  .goal { stroke: #1f2328; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } .text { fill: #f0f6fc } .soft { fill: #9198a1 } .line { stroke: #3d444d }
    .one { stroke: #9198a1 } .met { fill: #3fb950 } .missed { fill: #f85149 } .plain { fill: #6e7681 }
    .goal { stroke: #f0f6fc }
  }
  text { font: 12px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif } .title { font-size: 15px; font-weight: 600 }
"""


def drawable(figures: Sequence[Figure]) -> list[Figure]:
    """Those that are about a ratio to a peer that was there."""
    return [figure for figure in figures if figure.relation is Relation.TIMES and figure.ratio]


def svg(figures: Sequence[Figure], *, caption: str) -> str:
    """Bars begin at 1 ×, as quick as the peer: to the left we are quicker, to the right slower."""
    return "\n".join(_svg(drawable(figures), caption)) + "\n"


class Axis(Struct, frozen=True, kw_only=True):
    """Logarithmic, between two powers of ten: `low` and `high` are their exponents, `left` where it begins."""

    left: float
    low: int
    high: int

    def x(self, ratio: float) -> float:
        part = (math.log10(ratio) - self.low) / (self.high - self.low)
        return round(self.left + (WIDTH - self.left - MARGIN) * part, 1)


def axis(ratios: Sequence[float], names: Sequence[str] = ()) -> Axis:
    """Around all of the ratios and around 1, right of all of the names."""
    left = min(30 + LETTER * max(map(len, names), default=0), WIDTH - MARGIN - AXIS)
    exponents = [math.log10(ratio) for ratio in (*ratios, 1.0)]
    low = math.floor(min(exponents))
    return Axis(left=left, low=low, high=max(math.ceil(max(exponents)), low + 1))


def _svg(figures: Sequence[Figure], caption: str) -> Iterator[str]:
    bottom = TOP + ROW * len(figures)
    height = bottom + 50
    names = list(map(_name, figures))
    along = axis([ratio for figure in figures for ratio in (figure.ratio, figure.goal) if ratio], names)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title caption">'
    )
    yield '<title id="title">Ratios to the peers</title>'
    yield f'<desc id="caption">{escape(caption)}</desc>'
    yield f"<style>{_STYLE}</style>"
    yield f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>'
    yield '<text class="text title" x="16" y="26">How long it takes, as a multiple of the peer</text>'
    yield f'<text class="soft" x="16" y="46">{escape(caption)}</text>'
    for exponent in range(along.low, along.high + 1):
        yield from _tick(along, exponent, bottom)
    for row, figure in enumerate(figures):
        yield from _bar(figure, TOP + ROW * row, along)
    yield from _legend(height - 12)
    yield "</svg>"


def _tick(along: Axis, exponent: int, bottom: int) -> Iterator[str]:
    x, kind = along.x(10.0**exponent), "line" if exponent else "line one"
    yield f'<line class="{kind}" x1="{x}" x2="{x}" y1="{TOP - 6}" y2="{bottom}"/>'
    yield f'<text class="soft" x="{x}" y="{bottom + 16}" text-anchor="middle">{times(10.0**exponent)}</text>'


def _name(figure: Figure) -> str:
    return f"{figure.name} / {figure.peer}".replace("`", "")


def _bar(figure: Figure, y: int, along: Axis) -> Iterator[str]:
    ratio = figure.ratio
    assert ratio is not None
    left, right = sorted((along.x(ratio), along.x(1.0)))
    baseline, kind = y + BAR - 3, _CLASSES[figure.verdict]
    name = _name(figure)
    yield f'<text class="text" x="{along.left - 12:g}" y="{baseline}" text-anchor="end">{escape(name)}</text>'
    yield (
        f'<rect class="{kind}" x="{left}" y="{y}" width="{max(1.0, round(right - left, 1))}" height="{BAR}" rx="2">'
        f"<title>{escape(f'{name}: {times(ratio)} {goal(figure)}'.strip())}</title></rect>"
    )
    told = times(ratio) + (f" (goal {goal(figure)})" if figure.goal else "")
    yield f'<text class="text" x="{WIDTH - MARGIN + 8}" y="{baseline}">{escape(told)}</text>'
    if figure.goal:
        x = along.x(figure.goal)
        yield f'<line class="goal" x1="{x}" x2="{x}" y1="{y - 3}" y2="{y + BAR + 3}"/>'


def _legend(y: int) -> Iterator[str]:
    x = 16
    for kind, words in (("met", "goal met"), ("missed", "goal not met"), ("plain", "no goal")):
        yield f'<rect class="{kind}" x="{x}" y="{y - 10}" width="12" height="12" rx="2"/>'
        yield f'<text class="soft" x="{x + 18}" y="{y}">{words}</text>'
        x += 36 + 7 * len(words)
    yield f'<line class="goal" x1="{x + 4}" x2="{x + 4}" y1="{y - 12}" y2="{y + 4}"/>'
    yield f'<text class="soft" x="{x + 14}" y="{y}">the goal</text>'
