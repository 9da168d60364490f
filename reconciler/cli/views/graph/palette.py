"""Colours of the graph, readable on light and on dark ground. Colour never says what no word says too."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from reconciler.model.plan import Action


class Paint(Struct, frozen=True, kw_only=True):
    """Fill and line on light ground, and both on dark ground. Dark text reads on `fill`, light text on `dark_fill`."""

    fill: str
    line: str
    dark_fill: str
    dark_line: str


UNTOUCHED = Paint(fill="#ffffff", line="#8c959f", dark_fill="#161b22", dark_line="#6e7681")

ACTIONS: Mapping[Action, Paint] = {
    Action.DESTROY: Paint(fill="#ffebe9", line="#cf222e", dark_fill="#3c1618", dark_line="#f85149"),
    Action.REPLACE: Paint(fill="#ffefe2", line="#bc4c00", dark_fill="#3a1d0c", dark_line="#f0883e"),
    Action.REPAIR: Paint(fill="#fbefff", line="#8250df", dark_fill="#291745", dark_line="#bc8cff"),
    Action.UPDATE: Paint(fill="#fff8c5", line="#9a6700", dark_fill="#302507", dark_line="#d29922"),
    Action.CREATE: Paint(fill="#dafbe1", line="#1a7f37", dark_fill="#0f2d1a", dark_line="#3fb950"),
    Action.ADOPT: Paint(fill="#ddf4ff", line="#0969da", dark_fill="#0c2742", dark_line="#58a6ff"),
    Action.FORGET: Paint(fill="#eaeef2", line="#59636e", dark_fill="#212830", dark_line="#9198a1"),
}

# Of backends, by their order; the seventh begins again, and its name is on every node anyway.
BACKENDS = ("#0969da", "#bf8700", "#1a7f37", "#8250df", "#cf222e", "#1b7c83")
DARK_BACKENDS = ("#58a6ff", "#d29922", "#3fb950", "#bc8cff", "#ff7b72", "#39c5cf")
