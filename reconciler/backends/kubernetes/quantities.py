"""Amounts as a cluster writes them ("500m", "1Gi", "1e3"), and as numbers. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

_SHAPE = re.compile(r"([+-]?[0-9]*\.?[0-9]+|[+-]?[0-9]+\.)(?:([eE][+-]?[0-9]{1,3})|([A-Za-z]{0,2}))")
_SCALE = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip


def amount(text: object) -> Decimal | None:
    """The number that a quantity means; None for what is none."""
    shape = _SHAPE.fullmatch(str(text).strip())
    if shape is None or (shape[3] or "") not in _SCALE:
        return None
    return Decimal(shape[1] + (shape[2] or "")) * _SCALE[shape[3] or ""]


def cores(text: object) -> float | None:
    """Of a `cpu`: "1" and "1000m" are the same."""
    found = amount(text)
    return None if found is None else float(found)


def size(text: object) -> int | None:
    """Of a `memory`, in bytes; a fraction counts as a whole one, as it does for a cluster."""
    found = amount(text)
    return None if found is None else int(found.to_integral_value(rounding="ROUND_CEILING"))


def of_cores(value: float) -> str:
    """ "500m" for 0.5. A cluster knows no finer step than a thousandth: see `is_exact`."""
    thousandths = round(value * 1000)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def is_exact(value: float) -> bool:
    """Whether a cluster can hold this number of cores."""
    return value > 0 and cores(of_cores(value)) == value
