"""A problem or a remark, with its place: what configuration errors and warnings are made of."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from reconciler.model.position import Position


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Diagnostic(Struct, frozen=True, kw_only=True):
    """`summary` is one sentence without a full stop; `fix` is the next step, in the imperative. `snippet` is the
    source line as it stands and `width` how many characters the caret underlines from `position.column`.
    `code` is stable and for machines ("unknown-key")."""

    severity: Severity
    code: str
    summary: str
    fix: str = ""
    position: Position | None = None
    snippet: str = ""
    width: int = 1
    related: tuple[tuple[str, Position], ...] = ()  # ("first declared here", …)

    @property
    def in_short(self) -> str:
        """Place and summary, in one line of a log."""
        return f"{self.position.short}: {self.summary}" if self.position else self.summary
