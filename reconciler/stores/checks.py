"""What the stores' checks for `reconciler doctor` have in common: (what was checked, is it well, detail). A fix stands on a
line of its own below the detail. Raises nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reconciler.errors import StoreError
from reconciler.model.state import State

Answer = tuple[str, bool, str]


def asked(what: str, ask: Callable[[], str]) -> Answer:
    """What `ask` says of `what`, or why the store cannot tell."""
    try:
        return what, True, ask()
    except StoreError as error:
        return what, False, told(error)


def state(read: Callable[[], State | None]) -> Answer:
    return asked("state is readable", lambda: _size(read()))


def encrypted(clear: Sequence[str]) -> Answer:
    """For a store that encrypts: `clear` names what is there and is not sealed yet."""
    said = f"not yet: {', '.join(clear)}; the next write does it" if clear else "all of it"
    return "state is encrypted", True, said


def told(error: StoreError) -> str:
    return f"{error.message}\n{error.hint}" if error.hint else error.message


def _size(found: State | None) -> str:
    return "none yet" if found is None else f"serial {found.serial}, {len(found.sandboxes)} sandboxes"
