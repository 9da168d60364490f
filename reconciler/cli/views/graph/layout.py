"""Where the boxes of a graph go: in layers from left to right, what is needed to the right of what needs it.

Pure geometry over sizes and index pairs; deterministic, and bounded: a thousand boxes take a fraction of a second. The way
is that of Sugiyama: break circles, assign layers, order them by barycentres, then move boxes towards their neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import fmean, median_high

from msgspec import Struct

from reconciler.cli.views.graph.layers import Layered, layered

Point = tuple[float, float]

GAP_X, GAP_Y = 76.0, 18.0
GAP_BETWEEN = 40.0  # parts of the graph that have nothing to do with each other
_COMFORTABLE = 1080.0  # wide; what is wider is begun in a new row
_LANE = 8.0  # what an arrow needs that passes between boxes
_SETTLING = 6  # sweeps; more moves nothing that an eye would see


class Layout(Struct, frozen=True, kw_only=True):
    """`corners` are the upper left ones of the boxes, in the order of the sizes. `routes` are the points that the arrow of
    each pair goes through, in the order of the pairs, from the right edge of one box to the left edge of another."""

    width: float
    height: float
    corners: tuple[Point, ...]
    routes: tuple[tuple[Point, ...], ...]


def lay_out(sizes: Sequence[Point], pairs: Sequence[tuple[int, int]]) -> Layout:
    """`sizes` are (width, height); each of `pairs` is (what needs, what is needed)."""
    corners: list[Point] = [(0.0, 0.0)] * len(sizes)
    routes: list[tuple[Point, ...]] = [()] * len(pairs)
    shelf = _Shelf()
    alone: list[int] = []
    for part in _parts(len(sizes), pairs):
        if len(part.boxes) == 1:
            alone += part.boxes
            continue
        placed = _place(part, sizes, pairs)
        left, top = shelf.put(placed.width, placed.height)
        for box, (x, y) in zip(part.boxes, placed.corners, strict=True):
            corners[box] = (left + x, top + y)
        for pair, points in zip(part.pairs, placed.routes, strict=True):
            routes[pair] = tuple((left + x, top + y) for x, y in points)
    if alone:
        shelf.next_row()
        column = _column([sizes[box][0] for box in alone]) + GAP_Y
        for box in alone:
            width, height = sizes[box]
            corners[box] = shelf.put(ceil((width + GAP_Y) / column) * column - GAP_Y, height, gap=GAP_Y)
    return Layout(width=shelf.width, height=shelf.height, corners=tuple(corners), routes=tuple(routes))


def _column(widths: Sequence[float]) -> float:
    """A width that most of them fit in; what is much wider than the others takes several columns."""
    return max(width for width in widths if width <= 1.5 * median_high(widths))


class _Shelf:
    """Rows that are filled from left to right."""

    def __init__(self) -> None:
        self.width = self.height = 0.0
        self._x = self._top = 0.0
        self._gap = GAP_BETWEEN

    def next_row(self) -> None:
        if self._x:
            self._x, self._top = 0.0, self.height + self._gap

    def put(self, width: float, height: float, *, gap: float = GAP_BETWEEN) -> Point:
        if self._x and self._x + width > max(_COMFORTABLE, self.width):
            self._gap = gap
            self.next_row()
        corner = (self._x, self._top)
        self._x += width + gap
        self._gap = gap
        self.width = max(self.width, self._x - gap)
        self.height = max(self.height, self._top + height)
        return corner


class _Part(Struct, kw_only=True):
    """Boxes that hang together, and the pairs between them, by index."""

    boxes: list[int]
    pairs: list[int]


def _parts(count: int, pairs: Sequence[tuple[int, int]]) -> list[_Part]:
    root = list(range(count))

    def find(box: int) -> int:
        while root[box] != box:
            root[box] = root[root[box]]
            box = root[box]
        return box

    for one, other in pairs:
        first, second = sorted((find(one), find(other)))
        root[second] = first
    parts: dict[int, _Part] = {}
    for box in range(count):
        parts.setdefault(find(box), _Part(boxes=[], pairs=[])).boxes.append(box)
    for index, (one, _) in enumerate(pairs):
        parts[find(one)].pairs.append(index)
    return list(parts.values())


def _place(part: _Part, sizes: Sequence[Point], pairs: Sequence[tuple[int, int]]) -> Layout:
    """One part by itself, from (0, 0) on."""
    local = {box: index for index, box in enumerate(part.boxes)}
    made = layered(len(part.boxes), [(local[pairs[i][0]], local[pairs[i][1]]) for i in part.pairs])
    widths = [sizes[box][0] for box in part.boxes]
    heights = [sizes[box][1] for box in part.boxes]
    extents = heights + [_LANE] * (made.count - len(heights))  # bends of long arrows come after the boxes
    middles = _middles(made, extents)
    lefts, columns, x = [], [], 0.0
    for layer in made.layers:
        column = max((widths[box] for box in layer if box < len(widths)), default=0.0)
        lefts.append(x)
        columns.append(column)
        x += column + GAP_X
    layer_of = made.layer_of
    corners = tuple((lefts[layer_of[box]], middles[box] - heights[box] / 2) for box in range(len(part.boxes)))
    routes = tuple(_route(chain, corners, widths, middles, lefts, columns, layer_of) for chain in made.chains)
    bottom = max(middle + extent / 2 for middle, extent in zip(middles, extents, strict=True))
    return Layout(width=x - GAP_X, height=bottom, corners=corners, routes=routes)


def _route(
    chain: Sequence[int],
    corners: Sequence[Point],
    widths: Sequence[float],
    middles: Sequence[float],
    lefts: Sequence[float],
    columns: Sequence[float],
    layer_of: Sequence[int],
) -> tuple[Point, ...]:
    """Out of the right edge of the first box, straight through each column in between, into the left of the last; or the
    other way round, for what had to be turned around."""
    first, *bends, last = chain
    backward = layer_of[first] > layer_of[last]
    start, end = (last, first) if backward else (first, last)
    points = [(corners[start][0] + widths[start], middles[start])]
    for bend in reversed(bends) if backward else bends:
        left = lefts[layer_of[bend]]
        points += [(left, middles[bend]), (left + columns[layer_of[bend]], middles[bend])]
    points.append((corners[end][0], middles[end]))
    return tuple(reversed(points) if backward else points)


def _middles(made: Layered, extents: Sequence[float]) -> list[float]:
    """Vertical middles: each wants to be level with its neighbours, none may come too close to the next."""
    middles = [0.0] * made.count
    for layer in made.layers:
        y = 0.0
        for box in layer:
            middles[box] = y + extents[box] / 2
            y += extents[box] + GAP_Y
    for sweep in range(_SETTLING):
        rightward = sweep % 2 == 0
        beside = made.before if rightward else made.after
        for layer in made.layers if rightward else reversed(made.layers):
            _settle(layer, beside, extents, middles)
    top = min(middle - extent / 2 for middle, extent in zip(middles, extents, strict=True))
    return [middle - top for middle in middles]


def _settle(
    layer: Sequence[int],
    beside: Mapping[int, Sequence[int]],
    extents: Sequence[float],
    middles: list[float],
) -> None:
    """Move a layer's boxes to where they want to be, the sum of squares as small as the gaps allow.

    With the gaps taken off it is a regression that must not decrease: neighbours that overlap are pooled, and share their mean.
    """
    offsets, offset = [], 0.0
    for before, box in zip([None, *layer], layer, strict=False):
        if before is not None:
            offset += (extents[before] + extents[box]) / 2 + GAP_Y
        offsets.append(offset)
    pools: list[tuple[float, int]] = []  # mean, how many
    for box, off in zip(layer, offsets, strict=True):
        near = beside.get(box)
        wish = fmean(middles[other] for other in near) if near else middles[box]
        mean, count = wish - off, 1
        while pools and pools[-1][0] >= mean:
            other, more = pools.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        pools.append((mean, count))
    placed = iter(zip(layer, offsets, strict=True))
    for mean, count in pools:
        for _ in range(count):
            box, off = next(placed)
            middles[box] = mean + off
