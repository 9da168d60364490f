"""Whether an object that has an id already is the one that is meant. Pure; knows no backend.

Protection is no part of it: an object stays the same one when it becomes protected, or is not any more.
"""

from __future__ import annotations

from msgspec.structs import replace

from reconciler.errors import Conflict
from reconciler.model.desired import Owner


def check_owner(sandbox_id: str, found: Owner | None, wanted: Owner | None, *, dead: bool) -> None:
    """Raises Conflict unless an object that has the id already may be handed out again, or, when it is dead, be
    made anew: same stack, lineage and address, and while it lives the same specification."""
    if _who(found) != _who(wanted):
        raise Conflict(
            f"sandbox {sandbox_id} belongs to {_name(found)}, not to {_name(wanted)}",
            hint="use another id, or destroy that one where it is declared",
        )
    if not dead and _made_from(found) != _made_from(wanted):
        raise Conflict(
            f"sandbox {sandbox_id} runs already, made from another specification", hint="destroy it first"
        )


def _who(owner: Owner | None) -> tuple[str, str, str] | None:
    return None if owner is None else (owner.stack, owner.lineage, owner.address)


def _made_from(owner: Owner | None) -> Owner | None:
    return None if owner is None else replace(owner, protected=False)


def _name(owner: Owner | None) -> str:
    return "nobody" if owner is None else f"{owner.address} of stack {owner.stack} ({owner.lineage})"
