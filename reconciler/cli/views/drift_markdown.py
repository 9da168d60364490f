"""Drift as Markdown, for an issue or a chat: what differs, why, and what is done about it, under 60,000 characters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reconciler.cli.views.drift import grouped, what_then, why
from reconciler.cli.views.grouping import together
from reconciler.cli.views.markdown import LIMIT, code
from reconciler.cli.views.style import harmless
from reconciler.cli.views.values import counted, show_value
from reconciler.model.desired import Address, address_order
from reconciler.model.drift import Drift

_RESERVED = 2_000


def drift_markdown(
    found: Sequence[Drift],
    *,
    stack: str,
    fleet: int,
    pending: Mapping[Address, str],
    failures: Mapping[str, str],
    now: float,
) -> str:
    """Its first line is a mark by which a bot finds it again."""
    lines = [
        f"<!-- reconciler drift {re.sub('[^A-Za-z0-9_.-]', '-', stack)} -->",
        f"### Drift of stack {code(stack)}\n",
        f"**{_headline(found, fleet)}**\n",
    ]
    lines += [
        f"> ⚠️ backend {code(name)} cannot be looked at: {code(why_not)}\n"
        for name, why_not in sorted(failures.items())
    ]
    size, groups = sum(map(len, lines)), grouped(found)
    for index, group in enumerate(groups):
        told = "\n".join(_block(group, now))
        if size + len(told) > LIMIT - _RESERVED:
            lines.append(f"\n*… and {counted(len(groups) - index, 'more group')} of drifted sandboxes.*")
            break
        size += len(told) + 1
        lines.append(told)
    if pending:
        names = sorted(pending, key=address_order)
        shown = ", ".join(code(name) for name in names[:10]) + (
            f" and {len(names) - 10} more" if len(names) > 10 else ""
        )
        lines.append(f"\n*Waiting for an apply, and no drift: {shown}.*")
    return "\n".join(lines) + "\n"


def _headline(found: Sequence[Drift], fleet: int) -> str:
    if not found:
        return "Nothing drifted." if not fleet else f"Nothing drifted: all {fleet} are as last applied."
    return f"{len(found)} of {max(fleet, len(found))} drifted."


def _block(group: Sequence[Drift], now: float) -> list[str]:
    drift = group[0]
    lines = [f"- {code(together([one.address for one in group]))}: {code(why(drift, now))}"]
    for change in drift.changes:
        before = show_value(change.path, change.after, sensitive=change.sensitive)
        after = show_value(change.path, change.before, sensitive=change.sensitive)
        lines.append(f"  - {code(harmless(change.path))}: {code(before)} → {code(after)}")
    place = f" ({code(drift.position.short)})" if drift.position else ""
    lines.append(f"  - {what_then(drift)}{place}")
    return lines
