"""What a migration between stores did, or would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reconciler.cli.views.style import harmless, wrapped
from reconciler.cli.views.values import counted

if TYPE_CHECKING:
    from reconciler.engine.migrate import Migration


def migration_text(done: Migration, *, width: int) -> str:
    """In sentences."""
    records = counted(len(done.state.sandboxes), "record")
    older = counted(done.versions, "older version")
    if not done.written and not done.moved:
        told = f"A dry run: the state is in {done.target} already. Nothing was written."
    elif not done.written:
        told = (
            f"A dry run: it would move {records} of serial {done.state.serial} from {done.source} to {done.target}, and "
            f"as many of {older} as are kept there. Nothing was written."
        )
    elif not done.moved:
        told = f"The state was in {done.target} already; {done.source} is marked as left."
    else:
        told = (
            f"{records} moved from {done.source} to {done.target}, serial {done.state.serial} there, with {older}. "
            "No sandbox was touched. The old place keeps all of it, marked as left."
        )
    if done.behind:
        told += f" {counted(done.behind, 'older version')} can be had in the old place alone."
    return "\n".join(wrapped(harmless(told), width)) + "\n"


def migration_dict(done: Migration) -> dict[str, Any]:
    """One object; `moved` is false where the state was there already, `written` false for a dry run."""
    return {
        "type": "state_migrate",
        "written": done.written,
        "moved": done.moved,
        "from": done.source,
        "to": done.target,
        "serial": done.state.serial,
        "lineage": done.state.lineage,
        "sandboxes": len(done.state.sandboxes),
        "versions": done.versions,
        "versions_behind": done.behind,
    }
