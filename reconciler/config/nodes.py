"""YAML text to nodes: plain data with the place of every key and value, made in one pass over the parser's events.

Scalars follow the YAML 1.2 core schema: `yes`, `on`, `12:30` and `0755` are text, not booleans, sixties and octals;
each scalar also keeps the text the user wrote. Must never build objects from tags, follow an alias without counting
it, or recurse deeper than `MAX_DEPTH`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from reconciler.config import events, syntax

MAX_DEPTH = 64
MAX_NODES = 1_000_000  # after aliases and merge keys are written out

Fault = Callable[..., None]


class Mark(Protocol):
    """A place in a text, counted from 0 in lines and characters."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class Source:
    """One file: its name for messages, where it is, and its text."""

    __slots__ = ("_lines", "_masked", "name", "opaque", "path", "text")

    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name = name
        self.path = path
        self.text = text
        self._masked: dict[int, list[tuple[int, int | None]]] = {}
        self._lines: list[str] | None = None
        self.opaque = False  # no line of it may be shown at all

    @property
    def masked(self) -> bool:
        """Whether anything of it is not to be shown."""
        return bool(self._masked) or self.opaque

    def mask(self, line: int, start: int, end: int | None) -> None:
        """Never show this part of a line (None: to its end); counted from 0."""
        self._masked.setdefault(line, []).append((start, end))

    def line(self, number: int) -> str:
        """The line counted from 0, "" beyond the end, with masked parts as dots of the same length."""
        if self._lines is None:
            self._lines = syntax.lines(self.text)
        if self.opaque or not 0 <= number < len(self._lines):
            return ""
        text = self._lines[number]
        for start, end in self._masked.get(number, ()):
            stop = len(text) if end is None else min(end, len(text))
            text = text[:start] + "•" * max(0, stop - start) + text[stop:]
        return text


class Node:
    """A value with its place. `data` is what JSON Schema sees; `kids` the nodes of a mapping or a list; `keys` the
    places of a mapping's keys; `text` a scalar as written; `end` where it ends, and for a mapping or list without
    brackets where the next thing begins; `live` says that a `${` is somewhere inside; `size` counts nodes with aliases
    written out; `damaged` that an invalid part was taken out; `secret` that no message may quote it.
    """

    __slots__ = (
        "damaged", "data", "end", "items", "keys", "kids", "live", "mark", "secret", "size", "source", "text",
    )  # fmt: skip

    def __init__(self, source: Source, mark: Mark, end: Mark, data: Any, text: str | None = None) -> None:
        self.source = source
        self.mark = mark
        self.end = end
        self.data = data
        self.text = text
        self.kids: dict[str, Node] | None = None
        self.items: list[Node] | None = None
        self.keys: dict[str, Node] = _NO_KEYS
        self.live = text is not None and "${" in text
        self.size = 1
        self.damaged = False
        self.secret = False

    def get(self, key: str) -> Node | None:
        return None if self.kids is None else self.kids.get(key)

    def named(self) -> Mapping[str, Node]:
        """The mapping's nodes; empty for anything else."""
        return self.kids or {}

    def listed(self) -> list[Node]:
        """The list's nodes; empty for anything else."""
        return self.items or []

    def put(self, key: str, at: Node, kid: Node) -> None:
        """Set a key of a mapping; `at` is where the key stands."""
        if self.kids is None:
            self.kids, self.keys, self.data = {}, {}, {}
        self.kids[key] = kid
        self.keys[key] = at
        self.data[key] = kid.data
        self.live = self.live or kid.live
        self.damaged = self.damaged or kid.damaged


_NO_KEYS: dict[str, Node] = {}


def new_mapping(like: Node) -> Node:
    """An empty mapping that stands where `like` stands."""
    node = Node(like.source, like.mark, like.end, {})
    node.kids, node.keys, node.damaged = {}, {}, like.damaged
    return node


def from_data(data: Any, like: Node) -> Node:
    """Plain data (of a variable) as a node that stands where `like` stands."""
    if isinstance(data, dict):
        node = new_mapping(like)
        for key, value in data.items():
            node.put(str(key), like, from_data(value, like))
        return node
    if isinstance(data, list):
        node = Node(like.source, like.mark, like.end, data)
        node.items = [from_data(value, like) for value in data]
        return node
    node = Node(like.source, like.mark, like.end, data, spell(data))
    node.live = False
    return node


def spell(data: Any) -> str:
    """A scalar as one would write it in YAML."""
    if data is None:
        return "null"
    if isinstance(data, bool):
        return "true" if data else "false"
    if isinstance(data, float) and data.is_integer() and abs(data) < 1e15:
        return str(int(data))
    return str(data)


_NUMBER = re.compile(
    r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?|[-+]?\.[0-9]+([eE][-+]?[0-9]{1,3})?"
)
_RADIX = r"0o[0-7]+|0x[0-9a-fA-F]+"
_WORDS: Mapping[str, Any] = {
    **dict.fromkeys(("~", "null", "Null", "NULL", ""), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAY_BE_MORE = frozenset("-+.0123456789tTfFnN~")


def resolve_plain(text: str) -> Any:
    """What an unquoted scalar means: null, boolean, number or text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= 18:
        if _NUMBER.fullmatch(text):
            number = float(text) if not text.lstrip("-+").isdigit() else int(text)
            return number if math.isfinite(number) else text
        if re.fullmatch(_RADIX, text):
            return int(text, 0)
    return text


class Unreadable(Exception):
    """The file cannot be made into nodes any further; the fault has been told already."""


_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(_TAG + word for word in ("int", "float", "bool", "null"))
_KNOWN_TAGS = _PLAIN_TAGS | {_TAG + "str", _TAG + "map", _TAG + "seq", "!"}


class Composer:
    """Makes the nodes of one file of its events. `fault(source, mark, end, code, summary, fix, related=())` is told each problem;
    what makes going on pointless also raises Unreadable."""

    def __init__(self, source: Source, fault: Fault, told: Iterator[events.Event]) -> None:
        self.source = source
        self.fault = fault
        self.anchors: dict[str, Node | None] = {}  # None while the anchored node is still being read
        self.total = 0
        self.next: Callable[[], Any] = told.__next__

    def document(self) -> Node | None:
        """The file's one document, None when there is none."""
        self.next()
        event = self.next()
        if type(event) is events.StreamEnd:
            return None
        node = self.node(self.next(), 1)
        self.next()
        event = self.next()
        if type(event) is not events.StreamEnd:
            self.fault(
                self.source, event.start_mark, event.end_mark, "several-documents",
                "there is a second YAML document in this file",
                "remove the `---` line, or put each document into a file of its own",
            )  # fmt: skip
        return node

    def node(self, event: Any, depth: int) -> Node:
        kind = type(event)
        if kind is events.Scalar:
            node = self.scalar(event)
        elif kind is events.Alias:
            return self.alias(event)
        else:
            self.start(event, depth)
            node = Node(self.source, event.start_mark, event.end_mark, None)
            if kind is events.MappingStart:
                self.mapping(node, depth)
            else:
                self.sequence(node, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def start(self, event: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            self.stop(
                event,
                "too-deep",
                f"nested more than {MAX_DEPTH} levels deep",
                "flatten this part of the file",
            )
        if event.anchor:
            self.anchors[event.anchor] = None
        self.check_tag(event)

    def check_tag(self, event: Any) -> None:
        if event.tag and event.tag not in _KNOWN_TAGS:
            tag = event.tag.replace(_TAG, "!!")
            self.fault(
                self.source, event.start_mark, event.end_mark, "tag", f"the tag `{tag}` is not allowed",
                "remove the tag; values are plain text, numbers, booleans, lists and mappings",
            )  # fmt: skip

    def stop(self, event: Any, code: str, summary: str, fix: str) -> None:
        self.fault(self.source, event.start_mark, event.end_mark, code, summary, fix)
        raise Unreadable

    def count(self, event: Any, nodes: int) -> None:
        self.total += nodes
        if self.total > MAX_NODES:
            self.stop(
                event, "too-large", f"more than {MAX_NODES:,} values once aliases are written out",
                "use fewer aliases, or `replicas` and `for_each` instead of repeated text",
            )  # fmt: skip

    def scalar(self, event: Any) -> Node:
        text: str = event.value
        data: Any = text
        tag = event.tag
        if tag:
            self.check_tag(event)
        if (tag in _PLAIN_TAGS if tag else event.plain) and (not text or text[0] in _MAY_BE_MORE):
            data = resolve_plain(text)
        elif event.style == '"' and not syntax.is_storable(text):
            self.stop(
                event, "control-character", "this text holds a character that no environment or file can carry (NUL)",
                "remove the escape sequence",
            )  # fmt: skip
        self.total += 1
        return Node(self.source, event.start_mark, event.end_mark, data, text)

    def alias(self, event: Any) -> Node:
        if event.anchor not in self.anchors:
            self.stop(
                event, "unknown-anchor", f"there is no anchor `&{event.anchor}` above this line",
                f"define `&{event.anchor}` first, or quote the text if no alias is meant",
            )  # fmt: skip
        target = self.anchors[event.anchor]
        if target is None:
            self.stop(
                event,
                "recursion",
                f"`*{event.anchor}` refers to a value that contains itself",
                "remove the alias",
            )
            raise AssertionError
        self.count(event, target.size)
        return target

    def sequence(self, node: Node, depth: int) -> None:
        items: list[Node] = []
        size = 1
        while type(event := self.next()) is not events.SequenceEnd:
            kid = self.node(event, depth + 1)
            items.append(kid)
            size += kid.size
            node.live = node.live or kid.live
        closing: Any = event
        node.items, node.data, node.size = items, [kid.data for kid in items], size
        node.end = closing.end_mark
        self.count(event, 1)

    def mapping(self, node: Node, depth: int) -> None:
        kids: dict[str, Node] = {}
        keys: dict[str, Node] = {}
        merged: list[Node] = []
        size = 1
        while type(event := self.next()) is not events.MappingEnd:
            key = self.node(event, depth + 1)
            kid = self.node(self.next(), depth + 1)
            size += kid.size + 1
            if key.text is None or key.kids is not None:
                self.fault(
                    key.source, key.mark, key.end, "key", "a key must be text",
                    "quote it; a value such as {{ x }} or [x] as a key is usually a missing quote",
                )  # fmt: skip
            elif key.text == "<<" and type(event) is events.Scalar and not event.style:
                merged.append(kid)
            elif key.text in keys:
                self.duplicate(key, keys[key.text])
            else:
                kids[key.text] = kid
                keys[key.text] = key
                if kid.live:
                    node.live = True
        closing: Any = event
        node.kids, node.keys, node.size, node.end = kids, keys, size, closing.end_mark
        for other in merged:
            self.merge(node, other)
        node.data = {name: kid.data for name, kid in kids.items()}
        self.count(event, 1)

    def duplicate(self, key: Node, first: Node) -> None:
        self.fault(
            key.source, key.mark, key.end, "duplicate-key", f"the key `{key.text}` is here twice",
            "remove one of the two", (("first here", first),),
        )  # fmt: skip

    def merge(self, node: Node, other: Node) -> None:
        """`<<: other`: what the mapping says itself wins, then the earlier of several."""
        if other.items is not None:
            for item in other.items:
                self.merge(node, item)
            return
        if other.kids is None or node.kids is None:
            self.fault(
                other.source, other.mark, other.end, "merge-key", "`<<` takes a mapping or a list of mappings",
                "write `<<: *anchor` with the anchor on a mapping",
            )  # fmt: skip
            return
        for name, kid in other.kids.items():
            if name not in node.kids:
                node.kids[name] = kid
                node.keys[name] = other.keys[name]
                node.live = node.live or kid.live
