"""Single values of a sandbox's block, and what its keys are built into: `Built`, with the place of each value.

Gets values that are valid and filled in already. What only the meaning shows to be wrong raises `Wrong`, which the
caller turns into a diagnostic.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, field

from reconciler.config import quantities
from reconciler.config.diagnostics import at, quote
from reconciler.config.nodes import Node
from reconciler.model.desired import Address, Port
from reconciler.model.position import Position


class Wrong(Exception):
    """A value that means nothing here."""

    def __init__(
        self, node: Node, code: str, summary: str, fix: str, related: tuple[tuple[str, Node], ...] = ()
    ) -> None:
        super().__init__(summary)
        self.node = node
        self.code = code
        self.summary = summary
        self.fix = fix
        self.related = related


class Built(Struct, frozen=True):
    """Some of a spec's fields, and where in the YAML each path of the canonical form was said."""

    values: Mapping[str, Any]
    where: Mapping[str, Position] = field(default_factory=dict)


class Surroundings(Struct, frozen=True, kw_only=True):
    """What a field may need besides its own value. `tell` is for what is wrong where more may be wrong beside it.
    `triggers` answers the addresses that an entry of `replace_triggered_by` means, and has told what is wrong with it."""

    environ: Mapping[str, str]
    tell: Callable[[Wrong], None]
    triggers: Callable[[Node], tuple[Address, ...]]
    ports: tuple[Port, ...] | None = ()  # None: not known, because of an error told before
    places: bool = True  # whether anybody asks where the values of a mapping stand


def unreadable(node: Node, expected: str) -> Wrong:
    found = (
        "a mapping"
        if node.kids is not None
        else "a list"
        if node.items is not None
        else quote(node.text or '""')
    )
    return Wrong(node, "wrong-value", f"this must be {expected}, not {found}", f"write {expected}")


def text(node: Node) -> str:
    """A scalar as it was written."""
    if node.text is None or node.data is None:
        raise unreadable(node, "text")
    return node.text


def words(node: Node) -> tuple[str, ...]:
    if node.items is None:
        raise unreadable(node, "a list")
    return tuple(text(item) for item in node.items)


def whole(node: Node) -> int:
    if isinstance(node.data, bool) or not isinstance(node.data, int | float) or int(node.data) != node.data:
        raise unreadable(node, "a whole number")
    return int(node.data)


def flag(node: Node) -> bool:
    if not isinstance(node.data, bool):
        raise unreadable(node, "true or false")
    return node.data


def duration(node: Node) -> float:
    value = quantities.seconds(node.text or "")
    if value is None:
        raise unreadable(node, "a duration such as 250ms, 60s or 1h30m")
    return value


def size(node: Node) -> int:
    value = quantities.size(str(node.data) if isinstance(node.data, int) else node.text or "")
    if not value:
        raise unreadable(node, "a size such as 512M, 1Gi or 1g")
    return value


def cores(node: Node) -> float:
    value = quantities.cores(node.text or "")
    if value is None and isinstance(node.data, int | float) and 0 < node.data <= 1_000_000:
        value = float(node.data)
    if value is None:
        raise unreadable(node, "a number of cores such as 1, 0.5 or 500m")
    return value


_DRIVE = r"[A-Za-z]:[\\/]"


def absolute_path(node: Node, environ: Mapping[str, str]) -> str:
    """A path as absolute: relative to the file that says it, `~` to the user's home."""
    path = text(node)
    if path == "~" or path.startswith("~/"):
        home = environ.get("HOME", "")
        if not home:
            raise Wrong(node, "path", "`~` means nothing here, because HOME is not set", "write the path out")
        path = home + path[1:]
    if re.match(_DRIVE, path):
        return path
    return os.path.normpath(os.path.join(node.source.path.parent, path))


def note_places(
    where: dict[str, Position], prefix: str, keys: Mapping[str, Node], names: tuple[str, ...]
) -> None:
    """Where each of the names that are there was said, under `prefix`."""
    for name in names:
        if name in keys:
            where[f"{prefix}.{name}"] = at(keys[name])
