"""What the state holds, for people and programs. Digests of secrets are masked: they help nobody who reads this."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from reconciler.cli.views.style import GREEN, RED, YELLOW, Style, harmless
from reconciler.cli.views.table import Column, table
from reconciler.cli.views.values import MASK, counted, is_secret, show_value
from reconciler.model.desired import address_order
from reconciler.model.state import SandboxRecord, State, Status

_CODES: dict[Status, tuple[int, ...]] = {
    Status.PENDING: (YELLOW,),
    Status.CREATED: (YELLOW,),
    Status.READY: (GREEN,),
    Status.TAINTED: (RED,),
    Status.DESTROYING: (YELLOW,),
}


def state_text(state: State, where: str, *, width: int, style: Style) -> str:
    """Where the state is, how old, and one line per sandbox."""
    records = sorted(state.sandboxes.values(), key=lambda record: address_order(record.address))
    lines = [
        f"stack    {harmless(state.stack)}",
        f"state    {harmless(where)}, serial {state.serial}",
        f"lineage  {harmless(state.lineage)}",
        f"written  {moment(state.updated_at)}",
        "",
    ]
    columns = [
        Column(title="ADDRESS", values=[r.address for r in records], weight=9, least=16),
        Column(title="BACKEND", values=[r.backend for r in records], weight=5),
        Column(
            title="STATUS",
            values=[str(r.status) for r in records],
            weight=8,
            codes=[_CODES[r.status] for r in records],
        ),
        Column(title="ID", values=[r.sandbox_id for r in records], weight=4),
        Column(title="URL", values=[r.info.sandbox_url if r.info else "" for r in records], weight=6),
    ]
    if records:
        lines += table(columns, width=width, style=style)
        lines.append("")
    lines.append(f"{counted(len(records), 'sandbox', 'sandboxes')} recorded.")
    return "\n".join(lines) + "\n"


def record_text(record: SandboxRecord, *, style: Style) -> str:
    """One record in full."""
    return "\n".join(_record(record, style)) + "\n"


def state_dict(state: State) -> dict[str, Any]:
    """The state for programs, digests masked."""
    return {
        **state.to_dict(),
        "sandboxes": {address: record_dict(record) for address, record in sorted(state.sandboxes.items())},
    }


def record_dict(record: SandboxRecord) -> dict[str, Any]:
    spec = {path: MASK if is_secret(path) else value for path, value in sorted(record.spec.items())}
    return {"address": record.address, **record.to_dict(), "spec": spec}


def moment(seconds: float) -> str:
    """A time in UTC; a dash for one that is not known."""
    if not seconds:
        return "-"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # a state may hold any number
        return "no time"


def _record(record: SandboxRecord, style: Style) -> Iterator[str]:
    yield style.bold(harmless(record.address))
    info = record.info
    rows = [
        ("status", str(record.status)),
        ("backend", record.backend),
        ("id", record.sandbox_id),
        ("generation", str(record.generation)),
        ("url", info.sandbox_url if info else ""),
        ("container", (info.container_name or info.container_id or "") if info else ""),
        ("ports", ", ".join(f"{name} {port}" for name, port in sorted(info.ports.items())) if info else ""),
        ("depends on", ", ".join(record.depends_on)),
        ("made by", "others: it was imported" if record.imported else ""),
        ("created", moment(record.created_at)),
        ("updated", moment(record.updated_at)),
        ("error", record.error),
    ]
    yield from (f"  {name:<11} {harmless(value)}" for name, value in rows if value)
    if record.spec:
        yield "  spec"
        column = max(len(path) for path in record.spec)
        for path, value in sorted(record.spec.items()):
            yield f"    {harmless(path):<{column}}  {show_value(path, value)}"
