"""What a YAML syntax error means, in plain words, and which characters a file may hold.

Knows the wording of both parsers (C and pure Python). Must never quote the file: a broken line may hold a secret.
"""

from __future__ import annotations

import re

# Text, not compiled: most files are plain, and need neither.
LINE_BREAK = "\r\n|[\r\n\x85\u2028\u2029]"  # what the parser counts as one line break
CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]"


def lines(text: str) -> list[str]:
    """As the parser counts them, without their breaks; the last one is empty where the text ends with a break."""
    if text.isascii():
        return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return re.split(LINE_BREAK, text)


def is_storable(text: str) -> bool:
    """No NUL and no lone surrogate: what an environment, a file and a label can carry."""
    if text.isascii():
        return "\x00" not in text
    return "\x00" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


_QUOTE_FLOW = 'close it; inside [ ] and { } put text with ${…}, commas or colons in "quotes"'
_INDENT = "line the key up with its neighbours: same parent, same number of spaces"

_MEANINGS: tuple[tuple[str, str, str], ...] = (
    # (what the parser says, what we say, what to do); the first match counts
    (r"flow (sequence|mapping).*(',' or|expected node)", "this list or mapping in brackets is not closed here", _QUOTE_FLOW),
    (r"cannot start any token|violates indentation", "this character cannot begin a value here", "put the text in quotes"),
    (r"quoted scalar.*(end of stream|document (separator|indicator))", "this quoted text is never closed", "add the closing quote"),
    (r"escape (character|code)|hexadecimal", "there is no such escape in double-quoted text", r"write \\ for a backslash, or use single quotes"),
    (r"mapping values are not allowed", "a `:` is not expected here", 'put text that contains ": " in quotes, or check the indentation, and the line above for a missing `:`'),
    (r"(block )?sequence entries are not allowed", "a `-` list cannot begin on this line", "begin the list on the next line, indented"),
    (r"block mapping.*(expected key|block end)", "this line does not fit the mapping it stands in", _INDENT + "; check the line above for a stray quote"),
    (r"block collection", "this line does not fit the list it stands in", _INDENT + "; each entry begins with `- `"),
    (r"could not find expected ':'|simple key", "a key without `:`", "write `key: value`"),
    (r"(scanning|parsing) (an alias|an anchor)", "`&` and `*` begin anchors and aliases", "put the text in quotes if no anchor is meant"),
    (r"block scalar|chomping|indentation indicator", "the text block after `|` or `>` is not well formed", "begin the text on the next line, indented with spaces"),
    (r"undefined tag handle|while (scanning|parsing) a tag", "this tag is not known", "remove the tag, or put the text in quotes"),
    (r"directive|document start", "this line does not belong to the document", "remove it; a file holds one document"),
    (r"duplicate anchor", "this anchor is defined twice", "rename one of the two"),
    (r"node content", "a value is missing here", "write the value, or remove the stray bracket"),
)  # fmt: skip


def explain(context: str, problem: str, character: str) -> tuple[str, str]:
    """(summary, fix) of a parser's complaint; `character` is the one it stopped at."""
    if character == "\t":
        return "a tab character is used for indentation", "indent with spaces: two per level"
    if character == "${":
        return "inside [ ] and { } an interpolation must be in quotes", 'write "${…}"'
    said = f"{context} {problem}"
    for pattern, summary, fix in _MEANINGS:
        if re.search(pattern, said):
            if "begin a value" in summary and character.isprintable() and character.strip():
                return f"`{character}` cannot begin a value here", fix
            return summary, fix
    return (
        "this is not well-formed YAML",
        "check quotes, brackets and the indentation of this line and the one above",
    )
