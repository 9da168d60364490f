"""A file's layout: blocks, entries, the text of every value as it stands, and which comment belongs to which entry.

For `format` alone; meaning is the business of `nodes`. Must never drop a comment: each is in exactly one place.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

import yaml
from msgspec import Struct, field

from reconciler.config import syntax

_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#.*")
_BLOCK_SCALAR = re.compile(r"(?:[&!]\S*[ \t]+)*[|>]([-+0-9]*)[ \t]*(#.*)?$")


class Inexpressible(Exception):
    """A layout that cannot be brought into the canonical form; the message says what and where."""


class Comment(Struct):
    """`gap` are the spaces before one that stands behind something on its line; `blank` an empty line above."""

    line: int
    column: int
    text: str
    gap: int
    own_line: bool
    blank: bool


class Value(Struct):
    """A value that is written as it stands: a scalar, an alias, or brackets with all that is in them."""

    start: tuple[int, int]
    end: tuple[int, int]
    flow: list[tuple[Value | None, Value]] | None = None  # of brackets: keys (None in lists) and values
    opener: str = ""


class Entry(Struct):
    """A key with its value, or an item of a list (`key` None)."""

    line: int
    column: int
    key: Value | None
    value: Value | Block
    blank: bool = False
    lead: list[Comment] = field(default_factory=list)
    inline: Comment | None = None


class Block(Struct):
    """A mapping or list in block style. `trail` are comments after its last entry; `properties` its anchor and tag."""

    is_list: bool
    column: int
    properties: str
    entries: list[Entry] = field(default_factory=list)
    trail: list[Comment] = field(default_factory=list)


class Layout:
    """The layout of a file that is known to be well formed. Raises Inexpressible."""

    def __init__(self, text: str) -> None:
        self.lines = syntax.lines(text)
        self._events = deque(_events(text))
        self._covered: list[tuple[tuple[int, int], tuple[int, int]]] = []
        self._next: Callable[[], Any] = self._events.popleft
        self._next()
        start = self._next()
        if start.version or start.tags:
            raise Inexpressible("a `%` directive at the top of the file")
        self.root = self._node(self._next(), -1)
        self.comments = self._find_comments()
        self._pending = deque(self.comments)
        if isinstance(self.root, Block):
            self._attach(self.root, -1, len(self.lines))

    def slice(self, start: tuple[int, int], end: tuple[int, int]) -> list[str]:
        """The text between two places, by lines."""
        if start[0] == end[0]:
            return [self.lines[start[0]][start[1] : end[1]]]
        middle = self.lines[start[0] + 1 : end[0]]
        last = [self.lines[end[0]][: end[1]]] if end[0] < len(self.lines) else []
        return [self.lines[start[0]][start[1] :], *middle, *last]

    # --- events to blocks ---

    def _node(self, event: Any, parent: int) -> Value | Block:
        kind = type(event)
        start = (event.start_mark.line, event.start_mark.column)
        if kind in (yaml.ScalarEvent, yaml.AliasEvent):
            value = Value(start, self._end_of(event, start, parent))
            self._covered.append((value.start, value.end))
            return value
        if event.flow_style:
            return self._brackets(event, start)
        properties = f"&{event.anchor}" if event.anchor else ""
        if event.tag:
            properties = f"{properties} {event.tag.replace('tag:yaml.org,2002:', '!!')}".strip()
        block = Block(kind is yaml.SequenceStartEvent, start[1], properties)
        if block.is_list:
            self._items(block, parent)
        else:
            self._pairs(block)
        return block

    def _pairs(self, block: Block) -> None:
        while type(event := self._next()) is not yaml.MappingEndEvent:
            key = self._node(event, -1)
            if isinstance(key, Block) or self._is_explicit(key):
                raise Inexpressible(f"a key written with `?` in line {event.start_mark.line + 1}")
            if not block.entries:
                block.column = key.start[1]
            value = self._node(self._next(), key.start[1])
            block.entries.append(
                Entry(key.start[0], key.start[1], key, value, self._blank_above(key.start[0]))
            )

    def _items(self, block: Block, parent: int) -> None:
        first = True
        after = None
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            line = event.start_mark.line
            dash = self._dash(line, event.start_mark.column, after)
            if first:
                block.column, first = dash[1], False
            value = self._node(event, dash[1])
            after = dash
            block.entries.append(Entry(dash[0], dash[1], None, value, self._blank_above(dash[0])))

    def _dash(self, line: int, column: int, after: tuple[int, int] | None) -> tuple[int, int]:
        """Where the `-` of an item stands: before its value, on that line or above it."""
        place = self.lines[line][:column] if line < len(self.lines) else ""
        while True:
            code = _COMMENT.sub("", place)
            found = code.rfind("-")
            if found >= 0 and not code[found + 1 :].strip():
                return (line, found)
            if line == 0 or (after is not None and line < after[0]):
                raise Inexpressible(f"a list item in line {line + 1}")
            line -= 1
            place = self.lines[line]

    def _brackets(self, event: Any, start: tuple[int, int]) -> Value:
        content: list[tuple[Value | None, Value]] = []
        is_list = type(event) is yaml.SequenceStartEvent
        closing: Any = yaml.SequenceEndEvent if is_list else yaml.MappingEndEvent
        opener = "[" if is_list else "{"
        simple = self.lines[start[0]][start[1] : start[1] + 1] == opener
        inner: Any = None
        while type(inner := self._next()) is not closing:
            key = None if is_list else self._node(inner, -1)
            value = self._node(self._next() if not is_list else inner, -1)
            assert isinstance(value, Value)
            assert not isinstance(key, Block)
            content.append((key, value))
        end = (inner.end_mark.line, inner.end_mark.column)
        self._covered.append((start, end))
        return Value(start, end, content if simple else None, opener)

    def _end_of(self, event: Any, start: tuple[int, int], parent: int) -> tuple[int, int]:
        end = (event.end_mark.line, event.end_mark.column)
        if getattr(event, "style", None) not in ("|", ">"):
            return end
        last = line = start[0]
        header = _BLOCK_SCALAR.search(self.lines[line][start[1] :])
        keeps = header is not None and "+" in header[1]
        while line + 1 < len(self.lines):
            text = self.lines[line + 1]
            if text.strip() and len(text) - len(text.lstrip(" ")) <= parent:
                break
            line += 1
            if text.strip() or keeps:
                last = line
            if line + 1 >= end[0] and not keeps and line + 1 >= len(self.lines):
                break
        last = min(last, max(end[0], start[0]) if end[1] else max(end[0] - 1, start[0]))
        return (last, len(self.lines[last]))

    def _is_explicit(self, key: Value) -> bool:
        return self.lines[key.start[0]][: key.start[1]].rstrip().endswith("?")

    def _blank_above(self, line: int) -> bool:
        return line > 0 and not self.lines[line - 1].strip()

    # --- comments ---

    def _find_comments(self) -> list[Comment]:
        """What begins with `#` outside of every value."""
        spans: dict[int, list[tuple[int, int]]] = {}
        for start, end in self._covered:
            for line in range(start[0], min(end[0], len(self.lines) - 1) + 1):
                first = start[1] if line == start[0] else 0
                last = end[1] if line == end[0] else len(self.lines[line]) + 1
                spans.setdefault(line, []).append((first, last))
        comments = []
        for number, text in enumerate(self.lines):
            taken = spans.get(number, ())
            for match in _COMMENT.finditer(text):
                if any(first <= match.start() < last for first, last in taken):
                    continue
                before = text[: match.start()]
                gap = len(before) - len(before.rstrip())
                comments.append(
                    Comment(
                        number,
                        match.start(),
                        match[0].rstrip(),
                        gap,
                        not before.strip(),
                        self._blank_above(number),
                    )
                )
                break
            else:
                # the pattern takes the rest of the line: look again behind each value
                comments += self._behind_values(number, text, taken)
        return comments

    def _behind_values(self, number: int, text: str, taken: Any) -> list[Comment]:
        if "#" not in text or not taken:
            return []
        start = max(last for _, last in taken)
        match = _COMMENT.search(text, start) if start <= len(text) else None
        if match is None:
            return []
        before = text[: match.start()]
        return [
            Comment(
                number, match.start(), match[0].rstrip(), len(before) - len(before.rstrip()), False, False
            )
        ]

    def _attach(self, block: Block, parent: int, until: int) -> None:
        """Give each comment its place: above the entry that follows, behind the value on its line, or, where it is
        indented like the entries before it, below the last of them."""
        pending = self._pending
        for index, entry in enumerate(block.entries):
            following = block.entries[index + 1].line if index + 1 < len(block.entries) else until
            while pending and pending[0].line < entry.line:
                entry.lead.append(pending.popleft())
            if isinstance(entry.value, Block):
                first = entry.value.entries[0].line if entry.value.entries else entry.line
                if (
                    pending
                    and pending[0].line == entry.line
                    and entry.line < first
                    and not pending[0].own_line
                ):
                    if entry.key is None:
                        entry.lead.append(pending.popleft())
                    else:
                        entry.inline = pending.popleft()
                self._attach(entry.value, block.column, following)
                continue
            while pending and pending[0].line < entry.value.start[0]:
                entry.lead.append(pending.popleft())
            if pending and pending[0].line == entry.value.end[0] and not pending[0].own_line:
                entry.inline = pending.popleft()
        while (
            pending
            and pending[0].line < until
            and pending[0].column >= block.column
            and pending[0].column > parent
        ):
            block.trail.append(pending.popleft())
        if parent < 0:
            block.trail.extend(pending)
            pending.clear()


def _events(text: str) -> list[Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    events: list[Any] = []
    while (event := loader.get_event()) is not None:
        events.append(event)
    return events
