"""The declared sandboxes as a graph: a node for each group, an arrow from what depends to what it needs.

Replicas of a group are one node with a count. A plan may colour the nodes, and adds those that are no longer declared.
Sorted everywhere: the same configuration gives the same graph.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from reconciler.cli.views.grouping import split
from reconciler.model.address import Address
from reconciler.model.desired import Desired, DesiredSandbox
from reconciler.model.plan import Action, Plan


class Arrow(StrEnum):
    """Why one needs another; the most telling one is drawn, since a reference is a dependency too."""

    DEPENDS_ON = "depends_on"
    REFERENCE = "reference"  # a value of one is in the other: ${sandbox.db.url}
    TRIGGER = "trigger"  # replaced together with it: replace_triggered_by


# What a node is coloured by when its replicas have different things to do: what costs most.
GRAVEST = (
    Action.DESTROY,
    Action.REPLACE,
    Action.REPAIR,
    Action.UPDATE,
    Action.CREATE,
    Action.ADOPT,
    Action.FORGET,
)
DOING: Mapping[Action, str] = {
    Action.DESTROY: "to destroy",
    Action.REPLACE: "to replace",
    Action.REPAIR: "to repair",
    Action.UPDATE: "to change",
    Action.CREATE: "to create",
    Action.ADOPT: "to adopt",
    Action.FORGET: "to forget",
}


class Node(Struct, frozen=True, kw_only=True):
    """A group on one backend. `count` is of its declared sandboxes, 0 when none is declared any more; `replicas` says
    whether it has instances at all. `actions` counts what a plan does to them."""

    name: str
    backend: str
    count: int = 1
    replicas: bool = False
    actions: Mapping[Action, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """`researcher (3×)`"""
        return f"{self.name} ({self.count}×)" if self.replicas and self.count else self.name

    @property
    def gravest(self) -> Action | None:
        return next((action for action in GRAVEST if self.actions.get(action)), None)

    @property
    def doing(self) -> str:
        """`2 to replace, 1 to create`; empty without a plan, or when it has nothing to do."""
        return ", ".join(
            f"{self.actions[action]} {DOING[action]}" for action in GRAVEST if self.actions.get(action)
        )


class Edge(Struct, frozen=True, kw_only=True):
    """`source` needs `target`: indexes into the nodes."""

    source: int
    target: int
    kind: Arrow


class Graph(Struct, frozen=True, kw_only=True):
    """`planned`: nodes are coloured by what a plan does."""

    stack: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    planned: bool = False

    @property
    def backends(self) -> tuple[str, ...]:
        return tuple(sorted({node.backend for node in self.nodes}))

    def to_dict(self) -> dict[str, Any]:
        """What `graph --json` prints."""
        return {
            "type": "graph",
            "stack": self.stack,
            "nodes": [
                {
                    "group": node.name,
                    "backend": node.backend,
                    "count": node.count,
                    "planned": {str(action): count for action, count in sorted(node.actions.items())}
                    if self.planned
                    else None,
                }
                for node in self.nodes
            ],
            "edges": [
                {
                    "from": {"group": source.name, "backend": source.backend},
                    "to": {"group": target.name, "backend": target.backend},
                    "kind": str(edge.kind),
                }
                for edge in self.edges
                for source, target in [(self.nodes[edge.source], self.nodes[edge.target])]
            ],
        }


_Key = tuple[str, str]  # group, backend


def graph_of(desired: Desired, plan: Plan | None = None) -> Graph:
    """The graph of a configuration, and of what `plan` does to it."""
    actions: dict[_Key, Counter[Action]] = {}
    instances = {(one.group, one.backend): "[" in one.address for one in desired.sandboxes.values()}
    for step in plan.steps if plan else ():
        group, key = split(step.address)
        instances.setdefault((group, step.backend), bool(key))
        actions.setdefault((group, step.backend), Counter())[step.action] += 1
    counts = Counter((one.group, one.backend) for one in desired.sandboxes.values())
    keys = sorted(instances)
    index = {key: number for number, key in enumerate(keys)}
    return Graph(
        stack=desired.stack,
        nodes=tuple(
            Node(
                name=group,
                backend=backend,
                count=counts[group, backend],
                replicas=instances[group, backend],
                actions=dict(sorted(actions.get((group, backend), Counter()).items())),
            )
            for group, backend in keys
        ),
        edges=tuple(_edges(desired.sandboxes, index)),
        planned=plan is not None,
    )


def _edges(sandboxes: Mapping[Address, DesiredSandbox], index: Mapping[_Key, int]) -> Iterator[Edge]:
    kinds: dict[tuple[int, int], Arrow] = {}
    seen: set[tuple[int, Arrow, int]] = set()
    for wanted in sandboxes.values():
        source = index[wanted.group, wanted.backend]
        for kind, addresses in (
            (Arrow.TRIGGER, wanted.lifecycle.replace_triggered_by),
            (Arrow.REFERENCE, wanted.references),
            (Arrow.DEPENDS_ON, wanted.depends_on),
        ):
            # Replicas that need the same share one sequence, which is looked at once for all of them.
            if not addresses or (source, kind, id(addresses)) in seen:
                continue
            seen.add((source, kind, id(addresses)))
            for target in _targets(addresses, sandboxes, index):
                known = kinds.get((source, target))
                if target != source and (known is None or known is Arrow.TRIGGER):
                    kinds[source, target] = kind
    for (source, target), kind in sorted(kinds.items()):
        yield Edge(source=source, target=target, kind=kind)


def _targets(
    addresses: Iterable[Address], sandboxes: Mapping[Address, DesiredSandbox], index: Mapping[_Key, int]
) -> Iterator[int]:
    for address in addresses:
        needed = sandboxes.get(address)
        if needed is not None:
            yield index[needed.group, needed.backend]
