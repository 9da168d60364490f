"""How single values are shown to people: settings of a sandbox, durations, ages, durations of steps.

Never shows a sensitive value, and never lets a value's bytes reach the terminal as they are.
"""

from __future__ import annotations

from reconciler.cli.views.style import harmless
from reconciler.model.desired import Scalar
from reconciler.model.plan import UNKNOWN_VALUE

MASK = "•••"
NOT_SET = "(not set)"

_BYTES = ("resources.memory", "resources.shm")
_UNITS = (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))


def show_value(path: str, value: Scalar, *, sensitive: bool = False) -> str:
    """A field's value on one line: strings quoted, sizes in the unit they were most likely written in."""
    import json

    if value is None:
        return NOT_SET
    if sensitive or is_secret(path):
        return MASK
    if value == UNKNOWN_VALUE:
        return UNKNOWN_VALUE
    if isinstance(value, bool):
        return "true" if value else "false"
    if path in _BYTES and isinstance(value, int | float):
        return size(int(value))
    if isinstance(value, str):
        return harmless(json.dumps(value, ensure_ascii=False))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return repr(value)  # the shortest form that is exact: two different numbers never look the same


def is_secret(path: str) -> bool:
    """Whether the field holds a secret's digest, which is nobody's business."""
    return path.startswith("secrets.") and not path.endswith(".as")


def size(count: int) -> str:
    """1073741824 as `1Gi`; what is no whole number of a unit stays a number of bytes."""
    for unit, factor in _UNITS:
        if count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def about(count: int | None) -> str:
    """Bytes in three figures: 31Mi, 1.2Gi; a dash when it is not known."""
    if count is None:
        return "-"
    for unit, factor in _UNITS:
        if count >= factor:
            amount = count / factor
            return f"{amount:.1f}{unit}" if amount < 9.95 else f"{amount:.0f}{unit}"
    return str(count)


def duration(seconds: float) -> str:
    """0.4s, 12.3s, 3m05s, 2h07m."""
    if seconds < 99.95:
        return f"{max(0.0, seconds):.1f}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def span(seconds: float) -> str:
    """A length of time as it would be declared: 250ms, 10s, 1m30s, 8h."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60 and not float(seconds).is_integer():
        return f"{seconds:g}s"
    left, text = round(seconds), ""
    for unit, factor in (("h", 3600), ("m", 60), ("s", 1)):
        text += f"{left // factor}{unit}" if left >= factor else ""
        left %= factor
    return text


def age(seconds: float | None) -> str:
    """42s, 5m, 3h, 12d; a dash when it is not known."""
    if seconds is None:
        return "-"
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * factor or (unit == "m" and seconds >= 120):
            return f"{int(seconds // factor)}{unit}"
    return f"{int(max(0.0, seconds))}s"


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 step`, `3 steps`."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
