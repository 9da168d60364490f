"""What an import recorded, and what the next plan makes of it. Sees the report, asks nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reconciler.cli.views.fields import rows_text
from reconciler.cli.views.grouping import rows_of
from reconciler.cli.views.planned import change_dicts, diagnostic_dict
from reconciler.cli.views.records import record_dict
from reconciler.cli.views.style import Style, harmless, wrapped
from reconciler.cli.views.values import counted
from reconciler.model.plan import Action

if TYPE_CHECKING:
    from reconciler.engine.importing import ImportReport

_NEXT = {
    None: "It is as declared: the next plan leaves it alone.",
    Action.ADOPT: "It is as declared, but did not answer: the next plan would wait for it.",
    Action.UPDATE: "The next plan would change it in place.",
    Action.REPLACE: "The next plan would replace it: destroy it, and create a new one.",
}


def import_text(report: ImportReport, *, width: int, style: Style) -> str:
    """What was recorded, the fields that differ from the declaration, and what happens next."""
    record = report.record
    url = f", at {record.info.sandbox_url}" if record.info and record.info.sandbox_url else ""
    told = (
        f"{record.address} is {record.sandbox_id} on {record.backend} now: recorded as {record.status}{url}."
    )
    lines = wrapped(harmless(told), width)
    if report.changes:
        lines += [
            "",
            *wrapped(f"It differs from the declaration in {counted(len(report.changes), 'field')}:", width),
        ]
        lines += [*rows_text(rows_of(report.changes), width, style), ""]
    lines += wrapped(_NEXT[report.then], width)
    return "\n".join(lines) + "\n"


def import_dict(report: ImportReport) -> dict[str, Any]:
    """What `import --json` prints: one object; `next` is null when nothing is to do."""
    return {
        "type": "import",
        "record": record_dict(report.record),
        "next": None if report.then is None else str(report.then),
        "changes": change_dicts(report.changes),
        "diagnostics": [diagnostic_dict(remark) for remark in report.diagnostics],
    }
