"""Where in the user's YAML something was said."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct


class Position(Struct, frozen=True, order=True):
    """A place in a file. `line` and `column` count from 1, as editors do."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def short(self) -> str:
        """`file:line`, what a plan prints beside a field."""
        return f"{self.file}:{self.line}"


class Block(Struct, frozen=True, kw_only=True):
    """A part of a file that sandboxes take values from without saying them: `title` is "template NAME" or "defaults".

    Lines and columns count from 1, the last ones are inside. `last_column` None is the end of the line.
    """

    title: str
    file: str
    first: int
    last: int
    first_column: int = 1
    last_column: int | None = None

    def holds(self, position: Position) -> bool:
        """Whether a place lies inside."""
        if position.file != self.file or not self.first <= position.line <= self.last:
            return False
        if position.line == self.first and position.column < self.first_column:
            return False
        ends_here = position.line == self.last and self.last_column is not None
        return not ends_here or position.column <= (self.last_column or 0)


def origin(blocks: Iterable[Block], position: Position) -> str:
    """The title of the block that a place lies in; "" when it is none of them, so the sandbox says it itself."""
    return next((block.title for block in blocks if block.holds(position)), "")
