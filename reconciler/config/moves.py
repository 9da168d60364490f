"""The entries of `moved` and `removed`: what became of sandboxes that are no longer declared. Asks no state whether
they were ever there: such entries stay in a file for long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from reconciler.config.diagnostics import at, quote
from reconciler.config.groups import Directory
from reconciler.config.interpolate import Interpolator, Scope
from reconciler.config.nodes import Node
from reconciler.config.values import Wrong, flag
from reconciler.model.lifecycle import Move, Removal


class _End(Struct, frozen=True):
    """One end of an entry: the name of a group, and the index of one of it, "" without."""

    node: Node
    name: str
    index: str

    @property
    def text(self) -> str:
        return self.name + self.index


class _Pair(Struct, frozen=True):
    """A move as it is written."""

    source: _End
    target: _End

    @property
    def of_groups(self) -> bool:
        """Whether all of a group may move: neither end is one of several."""
        return not self.source.index and not self.target.index


class _Taken:
    """Which move takes what is recorded under a name: the one of that very name, else the one of its whole group."""

    def __init__(self, pairs: Iterable[_Pair] = ()) -> None:
        self._exact: dict[str, _Pair] = {}
        self._groups: dict[str, _Pair] = {}
        for pair in pairs:
            self.add(pair)

    def add(self, pair: _Pair) -> None:
        self._exact.setdefault(pair.source.text, pair)
        if pair.of_groups:
            self._groups.setdefault(pair.source.name, pair)

    def by(self, end: _End) -> _Pair | None:
        return self.exactly(end) or self.with_group(end)

    def exactly(self, end: _End) -> _Pair | None:
        return self._exact.get(end.text)

    def with_group(self, end: _End) -> _Pair | None:
        return self._groups.get(end.name) if end.index else None


class _Leaving(Struct, frozen=True):
    """A removal as it is written."""

    source: _End
    destroy: bool


def make_moves(
    moved: Node | None, removed: Node | None, scope: Scope, directory: Directory
) -> tuple[tuple[Move, ...], tuple[Removal, ...]]:
    """The moves, each after those whose target it takes further, and the removals as they are written. What has a problem
    is told and left out."""
    pairs = list(_pairs(moved, scope, directory))
    leaving = list(_leaving(removed, scope, directory))
    pairs = _check_moves(pairs, leaving, scope, directory)
    leaving = _check_removals(leaving, pairs, scope, directory)
    moves = tuple(
        Move(source=pair.source.text, target=pair.target.text, position=at(pair.source.node))
        for pair in _in_order(pairs, scope)
    )
    removals = tuple(
        Removal(source=entry.source.text, destroy=entry.destroy, position=at(entry.source.node))
        for entry in leaving
    )
    return moves, removals


# --- reading ---------------------------------------------------------------------------------------------------


def _pairs(node: Node | None, scope: Scope, directory: Directory) -> Iterator[_Pair]:
    for entry in () if node is None else node.listed():
        source, target = (_end(entry.get(name), scope, directory) for name in ("from", "to"))
        if source is not None and target is not None:
            yield _Pair(source, target)


def _leaving(node: Node | None, scope: Scope, directory: Directory) -> Iterator[_Leaving]:
    for entry in () if node is None else node.listed():
        source = _end(entry.get("from"), scope, directory)
        said = entry.get("destroy")
        destroy = True if said is None else _destroy(said, scope)
        if source is not None and destroy is not None:
            yield _Leaving(source, destroy)


def _end(node: Node | None, scope: Scope, directory: Directory) -> _End | None:
    """None when an error took it out, or it is one."""
    fill = Interpolator(scope)
    filled = None if node is None else fill.fill(node)
    if filled is None or fill.failed:
        return None
    found = directory.parse(filled, filled.text or "")
    return None if found is None else _End(filled, *found)


def _destroy(node: Node, scope: Scope) -> bool | None:
    fill = Interpolator(scope)
    filled = fill.fill(node)
    try:
        return None if fill.failed else flag(filled)
    except Wrong as wrong:
        scope.problems.error(wrong.node, wrong.code, wrong.summary, wrong.fix)
        return None


# --- checking --------------------------------------------------------------------------------------------------


def _check_moves(
    pairs: Sequence[_Pair], leaving: Sequence[_Leaving], scope: Scope, directory: Directory
) -> list[_Pair]:
    """Those without a problem. A target need not be declared where another entry says what became of it."""
    good: list[_Pair] = []
    sources: dict[str, Node] = {}
    targets: dict[str, Node] = {}
    further, before = _Taken(pairs), _Taken()
    let_go = {entry.source.text for entry in leaving}
    for pair in pairs:
        source, target = pair.source, pair.target
        if source.text == target.text:
            scope.problems.error(
                source.node, "moved-nowhere", f"{quote(source.text)} is moved to itself", "remove this entry"
            )
            continue
        checks = (
            _once(sources, source, f"{quote(source.text)} is moved twice", scope)
            and _once(targets, target, f"two moves lead to {quote(target.text)}", scope),
            _not_with_its_group(source, before.with_group(source), scope),
            _left(source, pair.of_groups, "moved", scope, directory),
            further.by(target) is not None
            or not let_go.isdisjoint((target.text, target.name))
            or _is_declared(pair, directory),
        )
        before.add(pair)
        if all(checks):
            good.append(pair)
    return good


def _check_removals(
    leaving: Sequence[_Leaving], pairs: Sequence[_Pair], scope: Scope, directory: Directory
) -> list[_Leaving]:
    """Those without a problem."""
    good: list[_Leaving] = []
    sources: dict[str, Node] = {}
    taken = _Taken(pairs)
    for entry in leaving:
        source = entry.source
        checks = (
            _once(sources, source, f"{quote(source.text)} is removed twice", scope),
            _left(source, not source.index, "removed", scope, directory),
        )
        move = taken.by(source)
        if move is not None:
            scope.problems.error(
                source.node, "twice", f"{quote(source.text)} is both moved and removed",
                "remove one of the two entries", (("moved here", move.source.node),),
            )  # fmt: skip
        elif all(checks):
            good.append(entry)
    return good


def _once(seen: dict[str, Node], end: _End, summary: str, scope: Scope) -> bool:
    """Whether it is the first of its kind; a second one is told."""
    if end.text in seen:
        scope.problems.error(
            end.node, "twice", summary, "remove one of the two", (("first here", seen[end.text]),)
        )
        return False
    seen[end.text] = end.node
    return True


def _not_with_its_group(source: _End, group: _Pair | None, scope: Scope) -> bool:
    """One of a group may go another way than the rest, and is named first then."""
    if group is None:
        return True
    scope.problems.error(
        source.node, "twice", f"{quote(source.text)} is moved with all of {quote(source.name)} already",
        "put this entry above that one, or remove it", (("moved here", group.source.node),),
    )  # fmt: skip
    return False


def _left(end: _End, whole: bool, what: str, scope: Scope, directory: Directory) -> bool:
    """Whether it is declared no more, as an entry says; else it is told. `whole`: all that has the name is meant."""
    group = directory.declared(end.name)
    if group is None or not (whole or end.text in group.known):
        return True
    scope.problems.error(
        end.node, "still-declared", f"{quote(end.text)} is {what}, but still declared",
        f"{'rename' if what == 'moved' else 'remove'} it under `sandboxes`, or remove this entry",
        (("declared here", group.key),),
    )  # fmt: skip
    return False


def _is_declared(pair: _Pair, directory: Directory) -> bool:
    """Whether the target is there; what is not is told."""
    if pair.of_groups:
        return directory.group(pair.target.node, pair.target.name) is not None
    return directory.address(pair.target.node) is not None


# --- order -----------------------------------------------------------------------------------------------------


def _in_order(pairs: Sequence[_Pair], scope: Scope) -> list[_Pair]:
    """Each move before those that take its target further, and one of a group before the group; else as written."""
    if not pairs:
        return []
    from graphlib import CycleError, TopologicalSorter

    by_source = {pair.source.text: pair for pair in pairs}
    graph: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(by_source, ()))
    taken = _Taken(pairs)
    of_name: dict[str, list[_Pair]] = {}
    for pair in pairs:
        of_name.setdefault(pair.source.name, []).append(pair)
    for pair in pairs:
        one = (taken.exactly(pair.target), taken.with_group(pair.target))
        following = of_name.get(pair.target.name, ()) if pair.of_groups else one
        for other in (*following, taken.with_group(pair.source)):
            if other is not None:
                graph.add(other.source.text, pair.source.text)
    try:
        return [by_source[name] for name in graph.static_order()]
    except CycleError as error:
        _tell_circle(error.args[1][:-1], by_source, scope)
        return []


def _tell_circle(circle: Sequence[str], by_source: Mapping[str, _Pair], scope: Scope) -> None:
    """At the entry that is written first."""
    first = next(name for name in by_source if name in circle)
    start = circle.index(first)
    shown = " → ".join([*circle[start:], *circle[:start], first])
    scope.problems.error(
        by_source[first].source.node,
        "cycle",
        f"moves lead in a circle: {shown}",
        "remove one of these entries",
    )
