"""How sandboxes are changed, from `lifecycle`, `rollout` and `drift`: rules of one sandbox, no part of its specification.

Gets blocks that are valid and filled in already. What only the meaning shows to be wrong is told, all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from reconciler.config.diagnostics import at, closest, one_of, quote
from reconciler.config.nodes import Node
from reconciler.config.values import (
    Built,
    Surroundings,
    Wrong,
    duration,
    flag,
    note_places,
    text,
    unreadable,
    whole,
)
from reconciler.model.desired import Network, Resources, SandboxSpec, Security
from reconciler.model.lifecycle import DriftPolicy, Lifecycle, Rollout
from reconciler.model.position import Position

_Reader = Callable[[Node, Surroundings], dict[str, Any]]

_NOT_ON_THE_OBJECT = ("readiness", "unsupported_warn", "owner", "lifetime")
_FIELDS = tuple(name for name in SandboxSpec.__struct_fields__ if name not in _NOT_ON_THE_OBJECT)
_SINGLE = ("image", "command", "entrypoint", "runtime", "restart", "thread_id")
_PARTS: Mapping[str, tuple[str, ...]] = {
    name: kind.__struct_fields__
    for name, kind in (("resources", Resources), ("network", Network), ("security", Security))
}


def build_lifecycle(node: Node, around: Surroundings) -> Built:
    return Built({"lifecycle": Lifecycle(**_values(node, _LIFECYCLE, around))}, _places("lifecycle", node))


def build_rollout(node: Node, around: Surroundings) -> Built:
    return Built({"rollout": Rollout(**_values(node, _ROLLOUT, around))}, _places("rollout", node))


def build_drift(node: Node, _around: Surroundings) -> Built:
    """A rule of one word, so its position is the key's."""
    try:
        return Built({"drift": DriftPolicy(node.text or "")}, {"drift": at(node)})
    except ValueError:
        raise unreadable(node, "`correct`, `report` or `ignore`") from None


def _values(node: Node, readers: Mapping[str, _Reader], around: Surroundings) -> dict[str, Any]:
    """What the keys say. Each that is wrong is told and left out."""
    values: dict[str, Any] = {}
    for key, read in readers.items():
        if key in node.named():
            try:
                values.update(read(node.named()[key], around))
            except Wrong as wrong:
                around.tell(wrong)
    return values


def _places(name: str, node: Node) -> dict[str, Position]:
    where = {name: at(node)}
    note_places(where, name, node.named(), (*_LIFECYCLE, *_ROLLOUT))
    return where


def _as(name: str, read: Callable[[Node], Any]) -> _Reader:
    return lambda node, _around: {name: read(node)}


def _creates_first(node: Node) -> bool:
    if node.text not in ("destroy_first", "create_first"):
        raise unreadable(node, "`destroy_first` or `create_first`")
    return node.text == "create_first"


def _items(node: Node) -> list[Node]:
    if node.items is None:
        raise unreadable(node, "a list")
    return node.items


def _triggers(node: Node, around: Surroundings) -> dict[str, Any]:
    """A single group's addresses are its own tuple, so that large groups share it."""
    entries = [around.triggers(entry) for entry in _items(node)]
    if len(entries) == 1:
        return {"replace_triggered_by": entries[0]}
    found = dict.fromkeys(address for addresses in entries for address in addresses)
    return {"replace_triggered_by": tuple(found)}


def _lifetime(node: Node) -> float:
    seconds = duration(node)
    if not seconds:
        raise Wrong(
            node, "wrong-value", "`max_lifetime` must be longer than nothing",
            "write a duration such as `8h`, or remove it",
        )  # fmt: skip
    return seconds


def _ignored(node: Node, around: Surroundings) -> dict[str, Any]:
    paths: dict[str, None] = {}
    for item in _items(node):
        try:
            paths[_field(item)] = None
        except Wrong as wrong:
            around.tell(wrong)
    return {"ignore_changes": tuple(paths)}


def _field(node: Node) -> str:
    """A path of the canonical form, a prefix of one, or a glob that can match one. What can match nothing is a slip:
    it would ignore nothing and say nothing."""
    path = text(node)
    stem, star, _ = path.partition("*")
    head, dot, rest = path.partition(".")
    if "*" in head:
        if any(name.startswith(stem) for name in _FIELDS):
            return path
        raise _no_field(node, head, _FIELDS, "")
    if head not in _FIELDS:
        raise _no_field(node, head, _FIELDS, rest and f".{rest}")
    if dot and not rest:
        raise Wrong(
            node, "unknown-field", f"{quote(path)} ends with a dot", f"write {quote(head)} for all of it"
        )
    if rest and head in _SINGLE:
        raise Wrong(node, "unknown-field", f"{quote(head)} has no parts", f"write {quote(head)}")
    parts = _PARTS.get(head)
    if rest and parts is not None:
        stem = stem.partition(".")[2]
        if not any(name.startswith(stem) if star else name == rest for name in parts):
            raise _no_field(node, path, [f"{head}.{name}" for name in parts], "")
    return path


def _no_field(node: Node, name: str, choices: Iterable[str], rest: str) -> Wrong:
    meant = "" if "*" in name else closest(name, choices)
    return Wrong(
        node, "unknown-field", f"{quote(name) if name else 'an empty text'} is no field of a sandbox that could differ",
        f"did you mean {quote(meant + rest)}?" if meant else f"choose one of {one_of(choices, 16)}",
    )  # fmt: skip


def _unavailable(node: Node, _around: Surroundings) -> dict[str, Any]:
    """A number of replicas, or a part of the group."""
    if not isinstance(node.data, str):
        return {"max_unavailable": whole(node)}
    number = node.data.removesuffix("%")
    if number == node.data or not number.isdecimal():  # an escaped `${`, which the schema lets through
        raise unreadable(node, "a whole number or a part such as 25%")
    return {"max_unavailable_percent": float(number)}


_LIFECYCLE: Mapping[str, _Reader] = {
    "prevent_destroy": _as("prevent_destroy", flag),
    "replace": _as("create_first", _creates_first),
    "ignore_changes": _ignored,
    "replace_triggered_by": _triggers,
    "max_lifetime": _as("max_lifetime", _lifetime),
}
_ROLLOUT: Mapping[str, _Reader] = {
    "max_unavailable": _unavailable,
    "min_healthy": _as("min_healthy", duration),
    "canary": _as("canary", whole),
    "auto_revert": _as("auto_revert", flag),
}
