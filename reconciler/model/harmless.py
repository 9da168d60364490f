"""Text that others wrote, made safe to print: on a terminal, in a log, in somebody's chat."""

from __future__ import annotations

import re

# What moves the cursor, or changes the order of other text, or takes no room and can hide a message in a name: C0 and C1
# controls, DEL, marks and overrides of direction, line separators, fillers and joiners, the byte order mark, annotations,
# lone surrogates, tags and variation selectors beyond those of emoji.
_HARMFUL = (
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def harmless(text: str) -> str:
    """The text with everything that could move the cursor, hide or reorder other text written out."""
    if text.isascii() and text.isprintable():
        return text
    return re.sub(_HARMFUL, _written_out, text)


def _written_out(match: re.Match[str]) -> str:
    char = match[0]
    return _SHORT.get(char) or ascii(char)[1:-1]
