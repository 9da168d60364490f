"""The fleet as a table: address, backend, phase, ready, url, age, cpu, memory, drift. Sees rows, asks nobody anything.

In a narrow window the columns give way in the order of what one can do without: first the detail, which then stands
under the table, then backend, memory, cpu, age and drift; how a sandbox is and where it answers stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cli.views.style import CYAN, DIM, GREEN, RED, YELLOW, Style, harmless, wrapped
from reconciler.cli.views.table import Column, table, without_room
from reconciler.cli.views.values import about, age, counted
from reconciler.model.desired import address_order
from reconciler.model.observed import Phase

if TYPE_CHECKING:
    from reconciler.engine.inspect import StatusRow

_DETAIL = "DETAIL"
_MOST_DETAILS = 12  # under the table; the JSON has all of them

_CODES: dict[Phase, tuple[int, ...]] = {
    Phase.PENDING: (CYAN,),
    Phase.STARTING: (CYAN,),
    Phase.READY: (GREEN,),
    Phase.UNREADY: (YELLOW,),
    Phase.PAUSED: (YELLOW,),
    Phase.STOPPED: (RED,),
    Phase.FAILED: (RED,),
    Phase.TERMINATING: (RED,),
    Phase.UNKNOWN: (YELLOW,),
}


def status_text(rows: Sequence[StatusRow], *, width: int, style: Style) -> str:
    """The table, sorted by address, and under it one line that counts the phases."""
    if not rows:
        return "No sandboxes: none is declared, and none is live.\n"
    rows = sorted(rows, key=lambda row: address_order(row.address))
    columns = _columns(rows)
    if without_room(columns, width=width)[-1:] != [_DETAIL]:
        lines = table(columns, width=width, style=style)
    else:
        lines = [*table(columns[:-1], width=width, style=style), "", *_details(rows, width, style)]
    return "\n".join([*lines, "", *wrapped(_count(rows), width)]) + "\n"


def _columns(rows: Sequence[StatusRow]) -> list[Column]:
    return [
        Column(title="ADDRESS", values=[row.address for row in rows], weight=10, least=16),
        Column(title="BACKEND", values=[row.backend for row in rows], weight=2),
        Column(
            title="PHASE",
            values=[_phase(row.phase) for row in rows],
            weight=9,
            codes=[_CODES[row.phase] if row.phase else (RED,) for row in rows],
        ),
        Column(title="READY", values=[_ready(row) for row in rows], weight=8),
        Column(title="URL", values=[row.url for row in rows], weight=7),
        Column(title="AGE", values=[age(row.age) for row in rows], weight=5),
        Column(title="CPU", values=[_cpu(row.cpu) for row in rows], weight=4, right=True),
        Column(title="MEM", values=[about(row.memory) for row in rows], weight=3, right=True),
        Column(
            title="DRIFT",
            values=[_drift(row) for row in rows],
            weight=6,
            least=10,
            codes=[(YELLOW,) if row.drift else (DIM,) for row in rows],
        ),
        Column(title=_DETAIL, values=[_detail(row) for row in rows], weight=1, least=32),
    ]


def _details(rows: Sequence[StatusRow], width: int, style: Style) -> Iterator[str]:
    """Address and detail of those that have one."""
    told = [row for row in rows if _detail(row)]
    for row in told[:_MOST_DETAILS]:
        first, *rest = wrapped(harmless(f"{row.address}: {_detail(row)}"), width)
        yield style.dim(first)
        yield from (style.dim(line) for more in rest for line in wrapped(more, width, indent="  "))
    if len(told) > _MOST_DETAILS:
        yield style.dim(f"… and {len(told) - _MOST_DETAILS} more")


def status_dict(stack: str, rows: Sequence[StatusRow]) -> dict[str, Any]:
    """What `status --json` prints: one object; ages in seconds, memory in bytes, what is not known null."""
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
                "cpu_cores": None if row.cpu is None else round(row.cpu, 3),
                "memory_bytes": row.memory,
                "detail": row.detail,
                "expires_in": row.expires,
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


def _detail(row: StatusRow) -> str:
    """What the phase does not say; else when its `max_lifetime` is over."""
    return row.detail or ("" if row.expires is None else f"expires in {age(row.expires)}")


def _cpu(cores: float | None) -> str:
    return "-" if cores is None else f"{cores:.2f}"


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
