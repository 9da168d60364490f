"""The named entries of a top-level section, and what is certain about names that are not among them."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from reconciler.config.nodes import Node


class Section(Struct, frozen=True, kw_only=True):
    """`entries` are the valid ones, without `x-…`. `mentioned` are all names, those taken out for an error too.
    `certain` False when more may have been declared where nothing could be read."""

    entries: Mapping[str, Node] = field(default_factory=dict)
    keys: Mapping[str, Node] = field(default_factory=dict)
    mentioned: frozenset[str] = frozenset()
    certain: bool = True
    present: bool = False

    def lacks(self, name: str) -> bool:
        """Whether nothing of that name was declared, for certain."""
        return self.certain and name not in self.mentioned


def section(root: Node, name: str, *, complete: bool = True) -> Section:
    """A section of the document after validation."""
    node = root.get(name)
    if node is None:
        return Section(certain=complete and name not in root.keys, present=name in root.keys)
    entries = {key: kid for key, kid in node.named().items() if not key.startswith("x-")}
    return Section(
        entries=entries,
        keys=node.keys,
        mentioned=frozenset(key for key in node.keys if not key.startswith("x-")),
        certain=complete,
        present=True,
    )
