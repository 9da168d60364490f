"""Where the templates and the defaults of a file stand, so that it can be said of any value that it came from one.

Looks at one file at a time, before several are merged: a merged section has no place of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.config.nodes import Node
from reconciler.model.position import Block


def find_blocks(root: Node) -> Iterator[Block]:
    """The blocks of one file, from the key to the end of the value. What an alias brings in is none: it stands where
    its anchor is."""
    named = root.named()
    if "defaults" in named:
        yield from _block("defaults", root.keys["defaults"], named["defaults"])
    templates = named.get("templates")
    if templates is not None:
        for name, node in templates.named().items():
            if not name.startswith("x-"):
                yield from _block(f"template {name}", templates.keys[name], node)


def _block(title: str, key: Node, node: Node) -> Iterator[Block]:
    start = (key.mark.line, key.mark.column)
    if node.kids is None or (node.mark.line, node.mark.column) < start:
        return
    last, column = _end(node, key.mark.line)
    yield Block(
        title=title,
        file=key.source.name,
        first=key.mark.line + 1,
        first_column=key.mark.column + 1,
        last=last + 1,
        last_column=column,
    )


def _end(node: Node, first: int) -> tuple[int, int | None]:
    """The last line, counted from 0, and the last column where the line goes on behind a closing brace. A block without
    braces ends where the next thing begins: the empty lines and comments above that are nobody's."""
    line, column = node.end.line, node.end.column
    before = node.source.line(line)[:column].strip()
    if before:
        return line, column
    line -= 1
    while line > first and node.source.line(line).strip()[:1] in ("", "#"):
        line -= 1
    return line, None
