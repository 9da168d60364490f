"""Durations, sizes and cpu shares as people write them. Pure; answers None for what it cannot read."""

from __future__ import annotations

import math
import re

_DURATION_PART = r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_SIZE = r"([0-9]{1,15}(?:\.[0-9]{1,6})?)([A-Za-z]{0,2})"
# Upper-case K, M, G, T are decimal as in Kubernetes; with an i, and the lower-case letters of the Docker command line,
# they are powers of 1024.
_BYTES = {"": 1, "b": 1, "B": 1} | {
    unit: factor
    for power, letter in enumerate("kmgt", start=1)
    for unit, factor in (
        (letter.upper(), 1000**power),
        (letter.upper() + "B", 1000**power),
        (letter.upper() + "i", 1024**power),
        (letter, 1024**power),
        (letter + "b", 1024**power),
    )
}
_CPU = r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(m?)"


def seconds(text: str) -> float | None:
    """`60s`, `250ms`, `1h30m`; a bare number is seconds."""
    try:
        plain = float(text) if len(text) <= 32 and not re.search(r"[a-z_]", text, re.IGNORECASE) else None
    except ValueError:
        plain = None
    if plain is not None:
        return plain if math.isfinite(plain) and plain >= 0 else None
    total, end = 0.0, 0
    for part in re.finditer(_DURATION_PART, text):
        if part.start() != end:
            return None
        total += float(part[1]) * _SECONDS[part[2]]
        end = part.end()
    return round(total, 9) if text and end == len(text) else None


def size(text: str) -> int | None:
    """Bytes: `1Gi`, `512M`, `1g`; a bare number is bytes."""
    match = re.fullmatch(_SIZE, text)
    if match is None or match[2] not in _BYTES:
        return None
    factor = _BYTES[match[2]]
    return int(match[1]) * factor if "." not in match[1] else int(float(match[1]) * factor)


def cores(text: str) -> float | None:
    """`1`, `0.5`, `500m`; None for zero too."""
    match = re.fullmatch(_CPU, text)
    if match is None:
        return None
    value = float(match[1]) / (1000 if match[2] else 1)
    return value if value > 0 else None
