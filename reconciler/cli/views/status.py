"""The fleet as a table: address, backend, phase, ready, url, age, drift. Sees rows, asks nobody anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cli.views.style import CYAN, DIM, GREEN, RED, YELLOW, Style, wrapped
from reconciler.cli.views.table import Column, table
from reconciler.cli.views.values import age, counted
from reconciler.model.desired import address_order
from reconciler.model.observed import Phase

if TYPE_CHECKING:
    from reconciler.engine.inspect import StatusRow

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
            values=[_phase(row.phase) for row in rows],
            weight=8,
            codes=[_CODES[row.phase] if row.phase else (RED,) for row in rows],
        ),
        Column(title="READY", values=[_ready(row) for row in rows], weight=7),
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
                "phase": _phase(row.phase),
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


def _phase(phase: Phase | None) -> str:
    return "absent" if phase is None else str(phase)


def _ready(row: StatusRow) -> str:
    if row.ready is None:
        return "-"
    return "yes" if row.ready else "no"


def _drift(row: StatusRow) -> str:
    if row.phase is None:
        return "-"
    if not row.drift:
        return "none"
    more = f" +{len(row.drift) - 1}" if len(row.drift) > 1 else ""
    return row.drift[0].path + more


def _count(rows: Sequence[StatusRow]) -> str:
    phases = Counter(row.phase for row in rows)
    parts = [f"{phases[phase]} {_phase(phase)}" for phase in (*Phase, None) if phases[phase]]
    drifted = sum(bool(row.drift) for row in rows)
    parts += [f"{drifted} drifted"] if drifted else []
    return f"{counted(len(rows), 'sandbox', 'sandboxes')}: {', '.join(parts)}."
