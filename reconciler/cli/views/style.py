"""Colour, and text made safe and short for a terminal. The only place that knows an escape sequence.

Never decides anything from the text it is given, and never reads the environment: whether there is colour is told.
"""

from __future__ import annotations

import re

from msgspec import Struct

from reconciler.model.harmless import harmless as harmless

RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, BOLD, DIM = 31, 32, 33, 34, 35, 36, 1, 2

ELLIPSIS = "…"
HOME_AND_CLEAR = "\x1b[H\x1b[J"
SHOW_CURSOR = "\x1b[?25h"

_ESCAPE = re.compile("\x1b\\[[0-9;]*m")


class Style(Struct, frozen=True, kw_only=True):
    """Paints text when `colour`, and hands it back as it is otherwise."""

    colour: bool = False

    def paint(self, text: str, *codes: int) -> str:
        if not self.colour or not text or not codes:
            return text
        return f"\x1b[{';'.join(map(str, codes))}m{text}\x1b[0m"

    def bold(self, text: str) -> str:
        return self.paint(text, BOLD)

    def dim(self, text: str) -> str:
        return self.paint(text, DIM)


PLAIN = Style()


def cells(text: str) -> int:
    """Columns that the text takes on a terminal; colour takes none."""
    if text.isascii() and "\x1b" not in text:
        return len(text)
    from unicodedata import east_asian_width

    return sum(1 + (east_asian_width(char) in "WF") for char in _ESCAPE.sub("", text))


def fit(text: str, width: int) -> str:
    """The uncoloured text in at most `width` columns, the end cut off with an ellipsis."""
    if cells(text) <= width:
        return text
    if width <= 0:
        return ""
    kept, used = [], 0
    for char in text:
        used += cells(char)
        if used > width - 1:
            break
        kept.append(char)
    return "".join(kept).rstrip() + ELLIPSIS


def fit_middle(text: str, width: int) -> str:
    """Like `fit`, but the middle goes: `researcher-with-…[12]` still says which one it is."""
    if cells(text) <= width or width < 8:
        return fit(text, width)
    tail = text[-(width // 3) :]
    return fit(text, width - cells(tail)) + tail if cells(tail) < width - 1 else fit(text, width)


def pad(text: str, width: int) -> str:
    """The text filled up with spaces to `width` columns."""
    return text + " " * max(0, width - cells(text))


def wrapped(text: str, width: int, *, indent: str = "") -> list[str]:
    """The text in lines of at most `width` columns, broken at spaces where there are any; all of it is kept."""
    lines: list[str] = []
    line = ""
    room = max(8, width - cells(indent))
    for word in text.split(" "):
        rest = word
        if line and cells(line) + 1 + cells(rest) <= room:
            line += " " + rest
            continue
        if line:
            lines.append(line)
        while cells(rest) > room:
            head = _head(rest, room)
            lines.append(head)
            rest = rest[len(head) :]
        line = rest
    return [(indent + line).rstrip() for line in [*lines, line]]


def _head(text: str, width: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += cells(char)
        if used > width:
            return text[: max(1, index)]
    return text
