"""The versions of a state: which can be had, how old they are, and what is wrong with those that cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from reconciler.cli.views.records import moment
from reconciler.cli.views.style import GREEN, RED, Style
from reconciler.cli.views.table import Column, table
from reconciler.cli.views.values import about

if TYPE_CHECKING:
    from reconciler.stores.base import Version


def history_text(versions: Sequence[Version], *, width: int, style: Style) -> str:
    """One line per version. A lineage is shown only of those that are of another than the newest."""
    lineage = next((version.lineage for version in versions if version.lineage), "")
    told = [_told(version, lineage) for version in versions]
    columns = [
        Column(title="SERIAL", values=[str(v.serial) for v in versions], weight=9, right=True),
        Column(title="WRITTEN", values=[moment(v.at) for v in versions], weight=8),
        Column(
            title="SANDBOXES", values=[_known(v, str(v.sandboxes)) for v in versions], weight=6, right=True
        ),
        Column(title="SIZE", values=[_known(v, about(v.size)) for v in versions], weight=5, right=True),
        Column(
            title="NOTE",
            values=told,
            weight=7,
            least=12,
            codes=[(RED,) if v.damage else (GREEN,) if v.current else () for v in versions],
        ),
    ]
    return "\n".join(table(columns, width=width, style=style)) + "\n"


def _told(version: Version, lineage: str) -> str:
    if version.damage:
        return f"damaged: {version.damage}"
    other = "" if version.lineage == lineage else f"of lineage {version.lineage}"
    return ", ".join(part for part in ("current" if version.current else "", other) if part)


def _known(version: Version, value: str) -> str:
    return "-" if version.damage else value


def version_dict(version: Version) -> dict[str, Any]:
    """For programs: `damage` is null for a version that is well, and then everything else is known."""
    return {
        "serial": version.serial,
        "current": version.current,
        "written_at": version.at,
        "sandboxes": version.sandboxes,
        "size": version.size,
        "lineage": version.lineage,
        "damage": version.damage or None,
    }
