"""Why one sandbox is as it is, section by section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cli.views.style import Style, harmless, wrapped

if TYPE_CHECKING:
    from reconciler.engine.explain import Explanation

_INDENT = "  "


def explanation_text(made: Explanation, *, width: int, style: Style) -> str:
    lines = [style.bold(line) for line in wrapped(harmless(made.address), width)]
    for section in made.sections:
        lines += ["", *_section(section.title, section.lines, width, style)]
    return "\n".join(lines) + "\n"


def explanation_dict(made: Explanation) -> dict[str, Any]:
    """What `why --json` prints; `action` and `reason` are null when nothing is to do."""
    return {
        "type": "why",
        "address": made.address,
        "action": made.action or None,
        "reason": made.reason or None,
        "sections": [{"title": section.title, "lines": list(section.lines)} for section in made.sections],
    }


def _section(title: str, lines: Sequence[str], width: int, style: Style) -> list[str]:
    shown = [style.bold(harmless(title))]
    for line in lines:
        deeper = line[: len(line) - len(line.lstrip(" "))]
        shown += wrapped(harmless(line.lstrip(" ")), width, indent=_INDENT + deeper)
    return shown
