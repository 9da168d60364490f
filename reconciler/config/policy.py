"""The limits of `policy`: what one run may destroy, and what it may never touch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from reconciler.config.diagnostics import at, closest, quote
from reconciler.config.groups import parse_address
from reconciler.config.interpolate import Scope
from reconciler.config.nodes import Node
from reconciler.config.settings import filled_block
from reconciler.config.values import Wrong, text, unreadable, whole
from reconciler.model.desired import DesiredSandbox
from reconciler.model.lifecycle import Policy


def make_policy(node: Node, scope: Scope, sandboxes: Collection[DesiredSandbox]) -> Policy:
    """The policy; no limit where nothing is said."""
    filled = filled_block(node, scope, "policy") if node.live else node
    values: dict[str, Any] = {}
    for name, value in filled.named().items() if filled is not None else ():
        try:
            if name in _NUMBERS:
                values[name] = _NUMBERS[name](value)
            elif name == "protected":
                values[name] = _protected(value, scope, sandboxes)
        except Wrong as wrong:
            scope.problems.error(wrong.node, wrong.code, wrong.summary, wrong.fix)
    return Policy(**values, position=at(node))


def _number(node: Node) -> float:
    if isinstance(node.data, bool) or not isinstance(node.data, int | float):
        raise unreadable(node, "a number from 0 to 100")
    return float(node.data)


_NUMBERS: Mapping[str, Callable[[Node], float]] = {
    "max_destroy": whole,
    "max_destroy_percent": _number,
    "max_drift_percent": _number,
}


def _protected(node: Node, scope: Scope, sandboxes: Collection[DesiredSandbox]) -> tuple[str, ...]:
    """The patterns, with addresses as they are written everywhere. Every wrong one is told."""
    if node.items is None:
        raise unreadable(node, "a list")
    patterns = {}
    for item in node.items:
        try:
            pattern = _pattern(item)
        except Wrong as wrong:
            scope.problems.error(wrong.node, wrong.code, wrong.summary, wrong.fix)
            continue
        patterns[pattern] = item
        if (found := parse_address(pattern)) is not None:
            _warn_of_a_slip(pattern, found[0], item, scope, sandboxes)
    return tuple(patterns)


def _pattern(node: Node) -> str:
    """An address, a group's name, a glob, or `label:key=value`."""
    pattern = text(node)
    if pattern.startswith("label:"):
        if pattern.removeprefix("label:").partition("=")[0]:
            return pattern
    elif "*" in pattern or "?" in pattern:
        return pattern
    elif (found := parse_address(pattern)) is not None:
        return "".join(found)
    raise Wrong(
        node, "pattern", f"{quote(pattern) if pattern else 'an empty text'} is not a pattern of addresses",
        'write an address such as `db` or `db["eu"]`, a glob such as `db*`, or `label:tier=critical`',
    )  # fmt: skip


def _warn_of_a_slip(
    pattern: str, name: str, node: Node, scope: Scope, sandboxes: Collection[DesiredSandbox]
) -> None:
    """What protects nothing that is declared may be meant for what is declared no more. Close to a declared name it is
    more likely a slip, which would protect nothing and say nothing."""
    groups = {sandbox.group for sandbox in sandboxes}
    meant = "" if name in groups else closest(name, groups)
    if meant:
        scope.problems.warning(
            node, "protects-nothing", f"no declared sandbox is protected by {quote(pattern)}",
            f"did you mean {quote(meant)}?",
        )  # fmt: skip
