"""The style sheet of the picture, and text and numbers as SVG takes them."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from reconciler.cli.views.graph.palette import ACTIONS, BACKENDS, DARK_BACKENDS, UNTOUCHED
from reconciler.cli.views.style import harmless

MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
SANS = "-apple-system, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif"
_NOT_XML = re.compile("[\ufffe\uffff]")


def style() -> Iterator[str]:
    """Light as the rule, dark where it is preferred; of this picture alone, also inside a page."""
    yield "<style>"
    yield f".fleet text {{ font: 12px {SANS}; fill: #1f2328 }}"
    yield f".fleet .name {{ font: 600 14px {MONO} }}"
    yield f".fleet .count {{ font: 14px {MONO}; text-anchor: end; fill: #59636e }}"
    yield f".fleet .stack {{ font: 600 18px {SANS} }}"
    yield ".fleet .small { fill: #59636e }"
    yield ".fleet .ground { fill: #ffffff }"
    yield f".fleet .box {{ fill: {UNTOUCHED.fill}; stroke: {UNTOUCHED.line}; stroke-width: 1.25 }}"
    yield ".fleet .gone { stroke-dasharray: 5 4 }"
    yield ".fleet .arrow { fill: none; stroke: #59636e; stroke-width: 1.25 }"
    yield ".fleet .reference { stroke-dasharray: 6 4 }"
    yield ".fleet .trigger { stroke-dasharray: 1.5 4; stroke-linecap: round }"
    yield ".fleet .head { fill: #59636e }"
    yield from (
        f".fleet .{action} {{ fill: {paint.fill}; stroke: {paint.line} }}"
        for action, paint in ACTIONS.items()
    )
    yield from (f".fleet .b{index} {{ fill: {colour} }}" for index, colour in enumerate(BACKENDS))
    yield "@media (prefers-color-scheme: dark) {"
    yield ".fleet text { fill: #e6edf3 }"
    yield ".fleet .small, .fleet .count { fill: #9198a1 }"
    yield ".fleet .ground { fill: #0d1117 }"
    yield f".fleet .box {{ fill: {UNTOUCHED.dark_fill}; stroke: {UNTOUCHED.dark_line} }}"
    yield ".fleet .arrow { stroke: #9198a1 }"
    yield ".fleet .head { fill: #9198a1 }"
    yield from (
        f".fleet .{action} {{ fill: {paint.dark_fill}; stroke: {paint.dark_line} }}"
        for action, paint in ACTIONS.items()
    )
    yield from (f".fleet .b{index} {{ fill: {colour} }}" for index, colour in enumerate(DARK_BACKENDS))
    yield "}"
    yield "</style>"


def escaped(text: str) -> str:
    """Text between tags or in an attribute, whatever it holds."""
    return html.escape(_NOT_XML.sub("\ufffd", harmless(text)))


def number(value: float) -> str:
    """At most one decimal, and none that says nothing."""
    return f"{value:.1f}".removesuffix(".0")
