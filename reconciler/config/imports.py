"""The entries of `imports`: which running sandboxes of others become which of ours. Asks no backend whether they are
there."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from reconciler.config.diagnostics import at, quote
from reconciler.config.groups import Directory
from reconciler.config.interpolate import Interpolator, Scope
from reconciler.config.nodes import Node
from reconciler.core.identity import is_sandbox_id
from reconciler.model.desired import Address, DesiredSandbox, Import

_Key = TypeVar("_Key", bound=Hashable)


def make_imports(
    node: Node, scope: Scope, directory: Directory, sandboxes: Mapping[Address, DesiredSandbox]
) -> dict[Address, Import]:
    """The imports by address, sorted; what has a problem is told and left out."""
    made: dict[Address, Import] = {}
    addresses: dict[Address, Node] = {}
    ids: dict[tuple[str, str], Node] = {}
    for entry in node.listed():
        to, name = _filled(entry.get("to"), scope), _filled(entry.get("id"), scope)
        address = None if to is None else directory.address(to)
        valid = name is not None and _checked(name, scope)
        if to is None or name is None or address is None:
            continue
        fresh = _once(addresses, address, to, f"{quote(address)} is imported twice", scope)
        backend = sandboxes[address].backend if address in sandboxes else ""
        what = f"{quote(name.text or '')} is imported twice: it can become one sandbox only"
        if valid and _once(ids, (backend, name.text or ""), name, what, scope) and fresh:
            made[address] = Import(id=name.text or "", position=at(name))
    return dict(sorted(made.items()))


def _filled(node: Node | None, scope: Scope) -> Node | None:
    """None when an error took it out, or filling it in is one."""
    if node is None:
        return None
    fill = Interpolator(scope)
    filled = fill.fill(node)
    return None if fill.failed else filled


def _checked(name: Node, scope: Scope) -> bool:
    if is_sandbox_id(name.text or ""):
        return True
    scope.problems.error(
        name, "bad-name", f"{quote(name.text or '')} cannot be the id of a sandbox",
        "write the name that the backend has for it, which needs to be 1 to 51 of a-z, 0-9 and -, "
        "such as deer-flow-sandbox-ab12cd34",
    )  # fmt: skip
    return False


def _once(seen: dict[_Key, Node], key: _Key, node: Node, summary: str, scope: Scope) -> bool:
    """Whether it is the first of its kind; a second one is told."""
    if key in seen:
        scope.problems.error(node, "twice", summary, "remove one of the two", (("first here", seen[key]),))
        return False
    seen[key] = node
    return True
