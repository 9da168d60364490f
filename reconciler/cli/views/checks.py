"""What `doctor` found: one block per subject, a mark per check, and what to fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reconciler.cli.views.style import GREEN, RED, Style, harmless, wrapped
from reconciler.cli.views.values import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`detail` says more when it is well, and what to do when it is not."""

    subject: str
    what: str
    ok: bool
    detail: str = ""


def checks_text(checks: Sequence[Check], *, width: int, style: Style) -> str:
    lines: list[str] = []
    subject = ""
    for check in checks:
        if check.subject != subject:
            subject = check.subject
            lines += [""] * bool(lines) + [style.bold(line) for line in wrapped(harmless(subject), width)]
        mark = style.paint("ok  ", GREEN) if check.ok else style.paint("FIX ", RED)
        detail = f": {check.detail}" if check.detail else ""
        first, *rest = wrapped(harmless(f"{check.what}{detail}"), width - 6)
        lines += [f"  {mark}{first}", *(f"      {line}" for line in rest)]
    wrong = sum(not check.ok for check in checks)
    verdict = f"{counted(wrong, 'thing')} to fix." if wrong else "All is well."
    return "\n".join([*lines, "", style.bold(verdict)]) + "\n"
