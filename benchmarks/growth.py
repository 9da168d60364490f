"""How cost grows with size: the exponent of a line fitted on log–log. Pure.

A command costs something before it does anything: to start Python, to import. That constant is measured, as the same
command on one sandbox, and subtracted from every cost before the fit; else it would flatten the line and hide growth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


def exponent(costs: Mapping[int, float], constant: float = 0.0) -> float:
    """Least squares of log(cost - constant) over log(size): 1 is linear, 2 quadratic.

    Raises ValueError for fewer than two sizes that cost more than the constant.
    """
    points = [(math.log(size), math.log(cost - constant)) for size, cost in costs.items() if cost > constant]
    if len(points) < 2:
        raise ValueError("a line needs two points: take larger sizes, whose cost exceeds the constant")
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    across = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / across
