"""The fleet as a table: address, backend, phase, ready, url, age, drift. Sees rows, asks nobody anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cli.views.grouping import address_order
from reconciler.cli.views.style import CYAN, DIM, GREEN, RED, YELLOW, Style, fit, wrapped
from reconciler.cli.views.table import Column, table
from reconciler.cli.views.values import age, counted, show_value
from reconciler.model.observed import Phase

if TYPE_CHECKING:
    from reconciler.engine.workflow import StatusRow

_CODES: dict[Phase, tuple[int, ...]] = {
    Phase.PENDING: (CYAN,),
    Phase.STARTING: (CYAN,),
    Phase.READY: (GREEN,),
    Phase.UNREADY: (YELLOW,),
    Phase.PAUSED: (YELLOW,),
    Phase.STOPPED: (RED,),
    Phase.FAILED: (RED,),
    Phase.UNKNOWN: (YELLOW,),
}


def status_text(rows: Sequence[StatusRow], *, width: int, style: Style) -> str:
    """The table, sorted by address, and under it one line that counts the phases."""
    if not rows:
        return "No sandboxes: none is declared, and none is live.\n"
    rows = sorted(rows, key=lambda row: address_order(row.address))
    columns = [
        Column(title="ADDRESS", values=[row.address for row in rows], weight=9, least=16),
        Column(title="BACKEND", values=[row.backend for row in rows], weight=4),
        Column(
            title="PHASE",
            values=[str(row.phase) for row in rows],
            weight=8,
            codes=[_CODES[row.phase] for row in rows],
        ),
        Column(title="READY", values=[_ready(row.ready) for row in rows], weight=7),
        Column(title="URL", values=[row.url for row in rows], weight=5),
        Column(title="AGE", values=[age(row.age) for row in rows], weight=3),
        Column(
            title="DRIFT",
            values=[_drift(row) for row in rows],
            weight=6,
            least=10,
            codes=[(YELLOW,) if row.drift else (DIM,) for row in rows],
        ),
        Column(title="DETAIL", values=[row.detail for row in rows], weight=1, least=20),
    ]
    lines = table(columns, width=width, style=style)
    return "\n".join([*lines, "", *wrapped(_count(rows), width)]) + "\n"


def status_dict(stack: str, rows: Sequence[StatusRow]) -> dict[str, Any]:
    """What `status --json` prints: one object; ages in seconds, unknown ones null."""
    return {
        "type": "status",
        "stack": stack,
        "sandboxes": [
            {
                "address": row.address,
                "backend": row.backend,
                "sandbox_id": row.sandbox_id,
                "phase": str(row.phase),
                "ready": row.ready,
                "url": row.url,
                "age": row.age,
                "detail": row.detail,
                "drift": [
                    {
                        "path": change.path,
                        "before": None if change.sensitive else change.before,
                        "after": None if change.sensitive else change.after,
                        "sensitive": change.sensitive,
                    }
                    for change in row.drift
                ],
            }
            for row in sorted(rows, key=lambda row: address_order(row.address))
        ],
    }


def drift_lines(rows: Sequence[StatusRow], *, width: int) -> list[str]:
    """Each drifted field on a line of its own, for `show`."""
    return [
        fit(
            f"  {change.path}  {show_value(change.path, change.before, sensitive=change.sensitive)} live, declared "
            f"{show_value(change.path, change.after, sensitive=change.sensitive)}",
            width,
        )
        for row in rows
        for change in row.drift
    ]


def _ready(ready: bool | None) -> str:
    return "?" if ready is None else "yes" if ready else "no"


def _drift(row: StatusRow) -> str:
    return ", ".join(change.path for change in row.drift) or "none"


def _count(rows: Sequence[StatusRow]) -> str:
    phases = Counter(row.phase for row in rows)
    parts = [f"{phases[phase]} {phase}" for phase in Phase if phases[phase]]
    drifted = sum(bool(row.drift) for row in rows)
    parts += [f"{drifted} drifted"] if drifted else []
    return f"{counted(len(rows), 'sandbox', 'sandboxes')}: {', '.join(parts)}."
