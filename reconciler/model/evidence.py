"""A sentence and what speaks for it, put together the same way everywhere."""

from __future__ import annotations


def evidenced(what: str, detail: str) -> str:
    """`what (detail)`, or `what: detail` where the detail has brackets of its own. `what` alone without a detail."""
    if not detail:
        return what
    return f"{what}: {detail}" if "(" in detail else f"{what} ({detail})"
