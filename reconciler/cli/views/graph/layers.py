"""Layers of a graph that hangs together: who stands in which, and in what order, so that few arrows cross.

Pure and deterministic; circles are broken by turning arrows around for the purpose of the layers alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

_MOST_BENDS = 4000  # beyond, long arrows go straight, whatever they cross
_SWEEPS = 8


class Layered(Struct, frozen=True, kw_only=True):
    """Numbers below the number of boxes are boxes, those from there on are bends of long arrows. `chains` are the arrows in
    the order they were given: box, bends, box. `before` and `after` are neighbours in the layer to the left and right."""

    count: int
    layers: tuple[tuple[int, ...], ...]
    layer_of: tuple[int, ...]
    chains: tuple[tuple[int, ...], ...]
    before: Mapping[int, Sequence[int]]
    after: Mapping[int, Sequence[int]]


def layered(count: int, pairs: Sequence[tuple[int, int]]) -> Layered:
    """`pairs` are (left, right), as far as no circle forbids it."""
    forward = _forward(count, pairs)
    layer_of = _layers(count, forward)
    chains = _chains(pairs, layer_of)
    before: dict[int, list[int]] = defaultdict(list)
    after: dict[int, list[int]] = defaultdict(list)
    for chain in chains:
        for one, other in pairwise(chain):
            left, right = (one, other) if layer_of[one] < layer_of[other] else (other, one)
            after[left].append(right)
            before[right].append(left)
    rows: list[list[int]] = [[] for _ in range(max(layer_of) + 1)]
    for number, layer in enumerate(layer_of):
        rows[layer].append(number)
    _order(rows, before, after)
    return Layered(
        count=len(layer_of),
        layers=tuple(map(tuple, rows)),
        layer_of=tuple(layer_of),
        chains=tuple(map(tuple, chains)),
        before=before,
        after=after,
    )


def _forward(count: int, pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs with those turned around that would close a circle."""
    out: dict[int, list[int]] = defaultdict(list)
    for left, right in pairs:
        out[left].append(right)
    position: dict[int, int] = {}  # in the order in which a search from the left is done with them
    for start in range(count):
        if start in position:
            continue
        stack, open_now = [(start, iter(out[start]))], {start}
        while stack:
            box, rest = stack[-1]
            following = next(
                (other for other in rest if other not in position and other not in open_now), None
            )
            if following is None:
                stack.pop()
                open_now.discard(box)
                position[box] = len(position)
            else:
                open_now.add(following)
                stack.append((following, iter(out[following])))
    return [
        (left, right) if position[left] > position[right] else (right, left)
        for left, right in pairs
        if left != right
    ]


def _layers(count: int, forward: Sequence[tuple[int, int]]) -> list[int]:
    """The longest way from the left; who is needed by nobody stands right before what it needs."""
    after: dict[int, list[int]] = defaultdict(list)
    open_before = [0] * count
    for left, right in forward:
        after[left].append(right)
        open_before[right] += 1
    starts = [box for box in range(count) if not open_before[box]]
    layer_of, todo = [0] * count, list(starts)
    for box in todo:  # grows while it is walked
        for right in after[box]:
            layer_of[right] = max(layer_of[right], layer_of[box] + 1)
            open_before[right] -= 1
            if not open_before[right]:
                todo.append(right)
    for box in starts:
        if after[box]:
            layer_of[box] = min(layer_of[right] for right in after[box]) - 1
    return layer_of


def _chains(pairs: Sequence[tuple[int, int]], layer_of: list[int]) -> list[list[int]]:
    """Each arrow with its bends, which are added to `layer_of`; the shortest arrows get theirs first."""
    chains: list[list[int]] = [[left, right] for left, right in pairs]
    spans = [abs(layer_of[left] - layer_of[right]) for left, right in pairs]
    left_over = _MOST_BENDS
    for index in sorted(range(len(pairs)), key=lambda number: (spans[number], number)):
        left, right = pairs[index]
        left_over -= max(0, spans[index] - 1)
        if left_over < 0:
            break
        step = 1 if layer_of[left] < layer_of[right] else -1
        for layer in range(layer_of[left] + step, layer_of[right], step):
            chains[index].insert(-1, len(layer_of))
            layer_of.append(layer)
    return chains


def _order(
    rows: list[list[int]], before: Mapping[int, Sequence[int]], after: Mapping[int, Sequence[int]]
) -> None:
    """Sort each layer by the mean place of the neighbours, to and fro; the order with the fewest turns is not sought."""
    place = {box: (index + 0.5) / len(row) for row in rows for index, box in enumerate(row)}
    for sweep in range(_SWEEPS):
        rightward = sweep % 2 == 0
        beside = before if rightward else after
        for row in rows if rightward else reversed(rows):
            row.sort(key=lambda box: (_mean(box, beside, place), place[box]))
            for index, box in enumerate(row):
                place[box] = (index + 0.5) / len(row)


def _mean(box: int, beside: Mapping[int, Sequence[int]], place: Mapping[int, float]) -> float:
    near = beside.get(box)
    return sum(place[other] for other in near) / len(near) if near else place[box]
