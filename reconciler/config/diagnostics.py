"""Diagnostics: made from nodes, collected, sorted, and printed as plain text.

Must never show a value that may be a secret, nor let a control character of a file reach the output.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from reconciler.config.nodes import Mark, Node, Source
from reconciler.errors import ConfigError
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.position import Position

MAX_REPORTED = 1_000
_LONGEST_SHOWN = 60
_UNSEEN = (
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\U000e0100-\U000e01ef]"  # fillers, selectors
)


def clean(text: str) -> str:
    """The text with every character that does not print (control, format, unassigned, odd spaces) or prints as nothing
    written as an escape; tabs become spaces."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char == "\t":
        return " "
    return char if char.isprintable() and not re.match(_UNSEEN, char) else ascii(char)[1:-1]


def quote(text: str) -> str:
    """A word of the user's in a message: clean, short, in backticks."""
    text = clean(text[: _LONGEST_SHOWN + 1])
    return f"`{text[:_LONGEST_SHOWN]}…`" if len(text) > _LONGEST_SHOWN else f"`{text}`"


def position(source: Source, mark: Mark) -> Position:
    return Position(source.name, mark.line + 1, mark.column + 1)


def at(node: Node) -> Position:
    """Where a value stands."""
    return Position(node.source.name, node.mark.line + 1, node.mark.column + 1)


_VALUE = r"""\"[^"]*"|'[^']*'|[^\s,\[\]{}]+"""


def illustrated(diagnostic: Diagnostic, sources: Iterable[Source]) -> Diagnostic:
    """With the source line and a caret under the value, for a diagnostic that was made where there is only a position."""
    where = diagnostic.position
    source = None if where is None else next((s for s in sources if s.name == where.file), None)
    if where is None or source is None or diagnostic.snippet:
        return diagnostic
    snippet = source.line(where.line - 1)
    value = re.compile(_VALUE).match(snippet, where.column - 1)
    # A word that ends with a colon is the first key of a mapping: a mapping is pointed at with one caret.
    width = len(value[0]) if value is not None and not value[0].endswith(":") else 1
    return replace(diagnostic, snippet=snippet, width=width)


def closest(word: str, choices: Iterable[str]) -> str:
    """The choice that was probably meant, "" when none is close."""
    known = sorted(choices)
    lowered = {choice.lower(): choice for choice in known}
    import difflib  # only who mistyped something pays for it

    found = difflib.get_close_matches(word.lower()[:80], lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else ""


def one_of(choices: Iterable[str], limit: int = 8) -> str:
    """`a`, `b` or `c`."""
    words = [quote(choice) for choice in choices]
    if len(words) > limit:
        words = [*words[:limit], f"{len(words) - limit} more"]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "nothing"


class Problems:
    """Collects diagnostics. The same complaint at the same place counts once."""

    def __init__(self) -> None:
        self.found: list[Diagnostic] = []
        self._seen: set[tuple[object, ...]] = set()
        self._order: dict[str, int] = {}

    def __bool__(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self.found)

    def is_full(self) -> bool:
        """Whether there is more than will be shown."""
        return len(self.found) > MAX_REPORTED

    def file_order(self, names: Sequence[str]) -> None:
        self._order = {name: index for index, name in enumerate(names)}

    def fault(
        self,
        source: Source,
        mark: Mark,
        end: Mark | None,
        code: str,
        summary: str,
        fix: str = "",
        related: Sequence[tuple[str, Node]] = (),
        severity: Severity = Severity.ERROR,
    ) -> None:
        """A problem at a place of a file."""
        snippet = source.line(mark.line)
        same_line = end is not None and end.line == mark.line
        width = (end.column if end is not None and same_line else len(snippet.rstrip())) - mark.column
        self.add(
            Diagnostic(
                severity=severity,
                code=code,
                summary=clean(summary),
                fix=clean(fix),
                position=position(source, mark),
                snippet=snippet,
                width=max(1, min(width, len(snippet.rstrip()) - mark.column)),
                related=tuple((text, at(node)) for text, node in related),
            )
        )

    def error(
        self, node: Node, code: str, summary: str, fix: str = "", related: Sequence[tuple[str, Node]] = ()
    ) -> None:
        """A problem with a value. A mapping or list is pointed at with one caret."""
        self.fault(
            node.source,
            node.mark,
            node.end if node.text is not None else node.mark,
            code,
            summary,
            fix,
            related,
        )

    def warning(self, node: Node, code: str, summary: str, fix: str = "") -> None:
        end = node.end if node.text is not None else node.mark
        self.fault(node.source, node.mark, end, code, summary, fix, (), Severity.WARNING)

    def general(self, code: str, summary: str, fix: str = "", where: Position | None = None) -> None:
        """A problem that no line of a file shows: an option, a variable of the environment, a missing file."""
        self.add(
            Diagnostic(
                severity=Severity.ERROR, code=code, summary=clean(summary), fix=clean(fix), position=where
            )
        )

    def add(self, diagnostic: Diagnostic) -> None:
        key = (diagnostic.position, diagnostic.code, diagnostic.summary)
        if key not in self._seen:
            self._seen.add(key)
            self.found.append(diagnostic)

    def sorted(self, severity: Severity) -> tuple[Diagnostic, ...]:
        """Those without a place first, then in file order."""

        def order(item: Diagnostic) -> tuple[Any, ...]:
            where = item.position
            if where is None:
                return (-1, 0, 0)
            return (self._order.get(where.file, len(self._order)), where.line, where.column)

        return tuple(sorted((item for item in self.found if item.severity is severity), key=order))

    def warnings(self) -> tuple[Diagnostic, ...]:
        return self.sorted(Severity.WARNING)

    def raise_if_any(self) -> None:
        """Raise ConfigError with every error found, if there is one."""
        errors = self.sorted(Severity.ERROR)
        if not errors:
            return
        if len(errors) > MAX_REPORTED:
            more = Diagnostic(
                severity=Severity.ERROR,
                code="more",
                summary="there are more errors, which are not shown",
                fix="correct these first",
            )
            errors = (*errors[:MAX_REPORTED], more)
        more_than = "more than " if len(errors) > MAX_REPORTED else ""
        count = "1 error" if len(errors) == 1 else f"{more_than}{min(len(errors), MAX_REPORTED)} errors"
        raise ConfigError(f"the configuration has {count}", diagnostics=errors)


def render(diagnostic: Diagnostic, *, width: int = 100) -> str:
    """Plain text: the message, the place, the source line with a caret below, the fix. Safe for any terminal."""
    lines = [f"{diagnostic.severity}: {clean(diagnostic.summary)}"]
    where = diagnostic.position
    gutter = ""
    if where is not None:
        number = str(where.line)
        gutter = " " * len(number)
        lines.append(f"{gutter}--> {clean(str(where))}")
        if diagnostic.snippet:
            text, before, under = _window(diagnostic, max(20, width - len(number) - 3))
            lines += [f"{gutter} |", f"{number} | {text}".rstrip(), f"{gutter} | {' ' * before}{'^' * under}"]
    lines += [f"{gutter} = {clean(text)}: {clean(str(place))}" for text, place in diagnostic.related]
    if diagnostic.fix:
        lines.append(f"{gutter} = fix: {clean(diagnostic.fix)}")
    return "\n".join(lines)


def _window(diagnostic: Diagnostic, room: int) -> tuple[str, int, int]:
    """The part of the line that fits, the cells before the caret and the cells under it."""
    assert diagnostic.position is not None
    column = diagnostic.position.column - 1
    start = 0 if column < room - 10 else column - room // 3
    lead = "…" if start else ""
    head = clean(diagnostic.snippet[start:column])
    body = clean(diagnostic.snippet[column : column + diagnostic.width])
    tail = clean(diagnostic.snippet[column + diagnostic.width : start + room])
    text = _fit(lead + head + body + tail, room)
    before = _cells(lead + head)
    return text, before, max(1, min(_cells(body), room - before))


def _cells(text: str) -> int:
    """How many cells of a terminal the text takes."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _fit(text: str, room: int) -> str:
    if _cells(text) <= room:
        return text
    kept, used = [], 0
    for char in text:
        used += _cells(char)
        if used >= room:
            break
        kept.append(char)
    return "".join(kept) + "…"
