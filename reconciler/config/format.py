"""The canonical layout of a configuration file, for `reconciler fmt`.

Two spaces a level, lists indented, keys in the schema's order, one empty line between top-level blocks. Comments
stay with their key; quotes, anchors and long lines stay as they are. Must never change what the file means: the
result is read again and compared, and refused when it is not the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.config.diagnostics import Problems
from reconciler.config.layout import Block, Comment, Entry, Inexpressible, Layout, Value
from reconciler.config.load import compose
from reconciler.config.nodes import Node, Source
from reconciler.config.schema import config_schema
from reconciler.errors import ConfigError

_STEP = 2
_ROUNDS = 4
_EDITOR_LINE = re.compile(r"#\s*yaml-language-server\s*:")
_HEADER = re.compile(r"((?:[&!]\S*[ \t]+)*[|>])([-+]?)([1-9]?)([-+]?)([ \t]*#.*|[ \t]*)$")


def format_text(text: str, name: str) -> str:
    """The file in canonical layout, ending in one line break; the same for what is canonical already.

    Raises ConfigError when the file is not well formed, or cannot be laid out without changing its meaning.
    """
    meaning = _meaning(text, name)
    for ordered in (True, False):  # anchors may force an order of their own
        try:
            laid_out = _settled(text, ordered)
        except Inexpressible as error:
            raise _refused(name, f"it holds {error}") from None
        if laid_out is not None and _same(text, laid_out, name, meaning):
            return laid_out
    raise _refused(name, "its layout cannot be changed without changing its meaning")


def _refused(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"{name} cannot be formatted: {reason}", hint="nothing was written; lay this part out by hand"
    )


def _settled(text: str, ordered: bool) -> str | None:
    """Laid out until that changes nothing more."""
    for _ in range(_ROUNDS):
        try:
            laid_out = _Writer(Layout(text), ordered).text()
        except (AssertionError, IndexError, ValueError, _yaml_error()):
            return None
        if laid_out == text:
            return text
        text = laid_out
    return None


def _yaml_error() -> type[Exception]:
    import yaml

    return yaml.YAMLError


# --- what must stay the same -----------------------------------------------------------------------------------


def _meaning(text: str, name: str) -> object:
    problems = Problems()
    root = compose(Source(name, Path(name), text), problems)
    problems.raise_if_any()
    assert root is not None
    return _content(root)


def _content(node: Node) -> object:
    """The values with the text they were written as, whatever their order in mappings."""
    if node.kids is not None:
        return {key: _content(kid) for key, kid in node.kids.items()}
    if node.items is not None:
        return [_content(item) for item in node.items]
    return (type(node.data).__name__, node.text)


def _same(before: str, after: str, name: str, meaning: object) -> bool:
    try:
        return _meaning(after, name) == meaning and _comments(after) == _comments(before)
    except ConfigError:
        return False


def _comments(text: str) -> Counter[str]:
    return Counter(comment.text for comment in Layout(text).comments)


# --- writing ---------------------------------------------------------------------------------------------------


class _Writer:
    """Writes a layout out."""

    def __init__(self, layout: Layout, ordered: bool) -> None:
        self._layout = layout
        self._ordered = ordered
        self._lines: list[str] = []

    def text(self) -> str:
        root = self._layout.root
        if not isinstance(root, Block):
            assert root.flow is not None
            self._lines += [comment.text for comment in self._layout.comments]
            self._lines += self._flat(root, 0, 0)
        elif root.is_list:
            raise Inexpressible("a list instead of a mapping")
        else:
            self._top_level(root)
        while self._lines and not self._lines[-1]:
            self._lines.pop()
        return "\n".join(self._lines) + "\n"

    def _top_level(self, root: Block) -> None:
        if root.properties:
            raise Inexpressible("an anchor or tag on the whole file")
        header, gap = _split_header(root.entries[0]) if root.entries else ([], False)
        self._comments(header, 0, first=True)
        was_long = False
        for index, entry in enumerate(self._in_order(root, _TOP)):
            lines = self._apart(entry)
            is_long = len(lines) > 1
            if gap if index == 0 else (_blank_before(entry) or was_long or is_long):
                self._blank()
            self._comments(entry.lead, 0, first=True)
            if entry.lead and entry.blank:
                self._blank()
            self._lines += lines
            was_long = is_long
        if root.trail:
            if was_long or root.trail[0].blank:
                self._blank()
            self._comments(root.trail, 0, first=True)

    def _apart(self, entry: Entry) -> list[str]:
        """One top-level entry's lines, without the comments above it."""
        kept, self._lines = self._lines, []
        self._entry(entry, 0, (entry.key is not None and self._word(entry.key)) or "")
        made, self._lines = self._lines, kept
        return made

    def _block(self, block: Block, indent: int, path: tuple[str, ...], lead: str = "") -> None:
        """A block at an indentation. `lead` is what stands on the first line already: `- ` of an outer list."""
        for index, entry in enumerate(self._in_order(block, _order_of(path))):
            if not (index == 0 and lead):
                if index and _blank_before(entry):
                    self._blank()
                self._comments(entry.lead, indent, first=True)
                if index and entry.lead and entry.blank:
                    self._blank()
            self._entry(entry, indent, *path, lead=lead if index == 0 else "")
        self._comments(block.trail, indent, first=False)

    def _entry(self, entry: Entry, indent: int, *path: str, lead: str = "") -> None:
        start = lead or " " * indent
        if entry.key is None:
            head = f"{start}-"
        else:
            head = f"{start}{self._word(entry.key)}:"
            path = path if indent == 0 else (*path, self._word(entry.key))
        value = entry.value
        if not isinstance(value, Block):
            self._plain_entry(entry, value, head, indent)
            return
        if entry.key is None:
            self._nested_item(value, head, indent, path)
            return
        head += f" {value.properties}" if value.properties else ""
        self._lines.append(head + _behind(entry.inline))
        self._block(value, indent + _STEP, path)

    def _nested_item(self, value: Block, head: str, indent: int, path: tuple[str, ...]) -> None:
        """A block as an item of a list: it begins behind the dash, its comments go above."""
        if value.properties:
            self._lines.append(f"{head} {value.properties}")
            self._block(value, indent + _STEP, path)
            return
        order = self._in_order(value, _order_of(path))
        if order and order[0].lead:
            dash = head.rindex("-")
            self._comments(order[0].lead, dash, first=True)
            order[0].lead = []
        self._block(value, indent + _STEP, path, lead=f"{head} ")

    def _plain_entry(self, entry: Entry, value: Value, head: str, indent: int) -> None:
        lines = self._flat(value, indent, entry.column)
        head += f" {lines[0]}" if lines[0] else ""
        if len(lines) == 1:
            self._lines.append(head + _behind(entry.inline))
        else:
            self._lines += [head, *lines[1:]]
            self._lines[-1] += _behind(entry.inline)

    def _flat(self, value: Value, indent: int, column: int) -> list[str]:
        """A value's lines; the first without indentation."""
        raw = self._layout.slice(value.start, value.end)
        header = _HEADER.fullmatch(raw[0])
        if header and value.flow is None:
            return self._block_scalar(header, raw[1:], indent)
        if len(raw) == 1:
            return [self._brackets(value)]
        if value.opener:
            shift = indent - column
            rest = [" " * max(_indent_of(line) + shift, indent) + line.strip() for line in raw[1:]]
        else:
            rest = [" " * (indent + _STEP) + line.lstrip() if line.strip() else "" for line in raw[1:]]
        return [raw[0].rstrip() if value.opener else raw[0], *rest]

    def _block_scalar(self, header: re.Match[str], body: Sequence[str], indent: int) -> list[str]:
        filled = [line for line in body if line.strip()]
        old = min((_indent_of(line) for line in filled), default=0)
        first = _indent_of(filled[0]) if filled else 0
        digit = str(_STEP) if header[3] or first > old else ""
        while body and not body[-1].strip() and "+" not in header[2] + header[4]:
            body = body[:-1]
        made = [" " * (indent + _STEP) + line[old:] if line[old:] else "" for line in body]
        return [f"{header[1]}{header[2]}{digit}{header[4]}{header[5].rstrip()}", *made]

    def _brackets(self, value: Value) -> str:
        """A value on one line, with one space after each comma and colon in brackets."""
        raw = self._layout.slice(value.start, value.end)[0]
        parts = []
        if value.flow is None:
            return raw
        for key, item in value.flow:
            texts = [self._brackets(part) for part in (key, item) if part is not None]
            if not all(texts):
                return raw
            spaced = " " if key is not None and texts[0].startswith("*") else ""
            parts.append(f"{spaced}: ".join(texts))
        close = "]" if value.opener == "[" else "}"
        return f"{value.opener}{', '.join(parts)}{close}"

    def _word(self, key: Value) -> str:
        word = " ".join(self._layout.slice(key.start, key.end))
        return f"{word} " if word.startswith("*") else word

    def _in_order(self, block: Block, order: Mapping[str, int] | None) -> list[Entry]:
        if order is None or not self._ordered or block.is_list:
            return block.entries

        def rank(entry: Entry) -> int:
            word = "" if entry.key is None else self._word(entry.key).strip("\"' ")
            free = order.get("x-", len(order)) if word.startswith("x-") else len(order)
            return order.get(word, free)

        return sorted(block.entries, key=rank)

    def _comments(self, comments: Sequence[Comment], indent: int, *, first: bool) -> None:
        for index, comment in enumerate(comments):
            if comment.blank and (index or not first):
                self._blank()
            self._lines.append(" " * indent + comment.text)

    def _blank(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append("")


def _split_header(first: Entry) -> tuple[list[Comment], bool]:
    """Comments at the top that are about the file and not about its first key, taken off that key; and whether an
    empty line follows them."""
    lead = first.lead
    count = 0
    for index, comment in enumerate(lead):
        following_blank = lead[index + 1].blank if index + 1 < len(lead) else first.blank
        if following_blank or _EDITOR_LINE.match(comment.text):
            count = index + 1
    header, first.lead = lead[:count], lead[count:]
    gap = bool(header) and _blank_before(first)
    if first.lead:
        first.lead[0].blank = False
    else:
        first.blank = False
    return header, gap


def _blank_before(entry: Entry) -> bool:
    """Whether an empty line stands above an entry and its comments."""
    return entry.lead[0].blank if entry.lead else entry.blank


def _behind(comment: Comment | None) -> str:
    return "" if comment is None else " " * max(comment.gap, 1) + comment.text


def _indent_of(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _ranks(keys: Sequence[str]) -> dict[str, int]:
    return {key: index for index, key in enumerate(keys)}


def _order_of(path: tuple[str, ...]) -> Mapping[str, int] | None:
    """The order of keys in a block at this path; None leaves the author's."""
    is_block = path[:1] == ("defaults",) and len(path) == 1
    is_entry = len(path) == 2 and path[0] in ("sandboxes", "templates")
    return _BLOCK if is_block or is_entry else None


_TOP_KEYS = list(config_schema()["properties"])
_TOP = _ranks([*_TOP_KEYS[:2], "x-", *_TOP_KEYS[2:]])
_BLOCK = _ranks(["<<", *config_schema()["$defs"]["sandbox"]["properties"]])
