"""What `doctor` found: one block per subject, a mark per check, and what to fix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from reconciler.cli.views.style import GREEN, RED, Style, harmless, wrapped
from reconciler.cli.views.values import counted


class Check(Struct, frozen=True, kw_only=True):
    """`detail` says more when it is well, and what is wrong when it is not; `fix` what to do about that."""

    subject: str
    what: str
    ok: bool
    detail: str = ""
    fix: str = ""


def checks_text(checks: Sequence[Check], *, width: int, style: Style) -> str:
    lines: list[str] = []
    subject = ""
    for check in checks:
        if check.subject != subject:
            subject = check.subject
            lines += [""] * bool(lines) + [style.bold(line) for line in wrapped(harmless(subject), width)]
        lines += _check(check, width, style)
    wrong = sum(not check.ok for check in checks)
    verdict = f"{counted(wrong, 'thing')} to fix." if wrong else "All is well."
    return "\n".join([*lines, "", style.bold(verdict)]) + "\n"


def _check(check: Check, width: int, style: Style) -> Iterator[str]:
    """What is wrong and what to do about it stand under each other, so that a command to run can be copied whole."""
    mark = style.paint("ok  ", GREEN) if check.ok else style.paint("FIX ", RED)
    detail = f": {check.detail}" if check.detail else ""
    first, *more = (check.what + detail).splitlines() or [""]
    told = wrapped(harmless(first), width - 6)
    told += [line for text in more for line in wrapped(harmless(text), width - 6)]
    if check.fix:
        told += wrapped(harmless(check.fix), width - 6, indent="→ ")[:1]
        told += wrapped(harmless(check.fix), width - 6, indent="  ")[1:]
    yield f"  {mark}{told[0]}"
    yield from (f"      {line}" for line in told[1:])
