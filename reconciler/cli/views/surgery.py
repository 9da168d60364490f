"""What an edit of the records did, or would do, and how to undo it. Sees the edit, asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from reconciler.cli.views.style import harmless, wrapped
from reconciler.cli.views.values import counted
from reconciler.model.desired import Address, address_order
from reconciler.model.state import SandboxRecord

if TYPE_CHECKING:
    from reconciler.engine.surgery import Edit

_SIGNS = {"added": "+", "changed": "~", "removed": "-"}


def moved_text(edit: Edit, where: str, *, width: int) -> str:
    """From where to where, one a line."""
    count = counted(len(edit.moved), "record")
    rows = [f"{source} → {target}" for source, target in edit.moved]
    return _text(rows, _ended(edit, where, f"{count} moved", f"would move {count}"), width)


def forgotten_text(edit: Edit, where: str, *, width: int) -> str:
    """Which objects were let go, one a line."""
    count = counted(len(edit.forgotten), "record")
    rows = [f"{record.address}  {record.sandbox_id} on {record.backend}" for record in edit.forgotten]
    return _text(rows, _ended(edit, where, f"{count} removed", f"would remove {count}"), width)


def pushed_text(edit: Edit, where: str, *, width: int) -> str:
    """How the records differ from those before, one a line."""
    rows = [f"{_SIGNS[what]} {address}" for what, found in _differences(edit).items() for address in found]
    count = counted(len(edit.after.sandboxes), "record")
    return _text(rows, _ended(edit, where, f"{count} stored", f"would store {count}"), width)


def rolled_back_text(edit: Edit, where: str, *, width: int) -> str:
    """The same for a version that is the state again."""
    return pushed_text(edit, where, width=width)


def rollback_question(edit: Edit, serial: int, *, width: int) -> str:
    """What would become of the records, and what is asked."""
    rows = [f"{_SIGNS[what]} {address}" for what, found in _differences(edit).items() for address in found]
    question = f"Make serial {serial} the state again? No sandbox is touched. Only `yes` is a yes."
    return _text(rows, question, width).rstrip("\n")


def rollback_told(edit: Edit) -> str:
    """What the next plan will be about."""
    changes = _differences(edit)
    told = [
        (changes["removed"], "what is not recorded any more is an orphan of ours: adopted where it is declared, else destroyed"),
        (changes["added"], "what is recorded again is looked for, and made again where it is declared and gone"),
        (changes["changed"], "what is recorded otherwise is compared with what is declared and what is live"),
    ]  # fmt: skip
    said = "; ".join(text for found, text in told if found)
    return f"Next: `reconciler plan`: {said}." if said else ""


def undo_text(edit: Edit) -> str:
    """The way back; "" when there is nothing to go back to."""
    if edit.backup is None:
        if edit.written and edit.before is not None and not edit.kept:
            return (
                f"No older version is kept here. Serial {edit.before.serial}, from before, may be had from the server that "
                "keeps the state, for `reconciler state push --force`."
            )
        return ""
    return f"The version before is serial {edit.backup}. To undo: {_undo(edit.backup)}"


def edit_dict(edit: Edit, kind: str) -> dict[str, Any]:
    """One object: what changed, the serial now, and the serial and the command that undo it (null when nothing was
    written, or the store keeps no versions)."""
    return {
        "type": kind,
        "written": edit.written,
        "serial": edit.after.serial if edit.written or edit.before is None else edit.before.serial,
        "backup": edit.backup,
        "undo": None if edit.backup is None else _undo(edit.backup),
        **_changes(edit, kind),
    }


def _changes(edit: Edit, kind: str) -> dict[str, Any]:
    if kind == "state_mv":
        records = edit.before.sandboxes if edit.before else {}
        return {
            "moved": [
                {"from": source, "to": target, **_object(records[source])} for source, target in edit.moved
            ]
        }
    if kind == "state_rm":
        return {
            "removed": [{"address": record.address, **_object(record)} for record in edit.forgotten],
        }
    return _differences(edit)


def _object(record: SandboxRecord) -> dict[str, str]:
    return {"backend": record.backend, "sandbox_id": record.sandbox_id}


def _differences(edit: Edit) -> dict[str, list[Address]]:
    before: Mapping[Address, SandboxRecord] = edit.before.sandboxes if edit.before else {}
    after = edit.after.sandboxes
    return {
        "added": _sorted(after.keys() - before.keys()),
        "changed": _sorted(a for a in after.keys() & before.keys() if after[a] != before[a]),
        "removed": _sorted(before.keys() - after.keys()),
    }


def _sorted(addresses: Iterable[Address]) -> list[Address]:
    return sorted(addresses, key=address_order)


def _ended(edit: Edit, where: str, done: str, would: str) -> str:
    if edit.written:
        return f"{done} in {where}, serial {edit.after.serial} now. No sandbox was touched."
    if edit.before == edit.after:
        return f"{where} says so already, at serial {edit.after.serial}: nothing was written."
    return f"A dry run: it {would} in {where}. Nothing was written."


def _text(rows: Iterable[str], end: str, width: int) -> str:
    lines = [harmless(row) for row in rows]
    return "\n".join([*lines, *([""] if lines else []), *wrapped(harmless(end), width)]) + "\n"


def _undo(serial: int) -> str:
    return f"reconciler state rollback {serial}"
