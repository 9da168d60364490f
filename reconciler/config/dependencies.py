"""Circles in what waits for what. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from reconciler.model.desired import Address


def find_cycle(needs: Mapping[Address, Sequence[Address]]) -> list[Address]:
    """One circle, first address repeated at the end; empty when there is none.

    Replicas that wait for the same share one sequence, so its members are looked at once for all of them: ten
    thousand waiting for ten thousand are twenty thousand edges here, not a hundred million.
    """
    done: set[Address] = set()
    bundles_done: set[int] = set()
    for start in needs:
        if start not in done:
            cycle = _search(start, needs, done, bundles_done)
            if cycle:
                return cycle
    return []


def _search(
    start: Address, needs: Mapping[Address, Sequence[Address]], done: set[Address], bundles_done: set[int]
) -> list[Address]:
    path: list[Address] = [start]
    on_path = {start}
    pending: list[Iterator[Address]] = [_members(needs[start], bundles_done)]
    while pending:
        following = next(pending[-1], None)
        if following is None:
            pending.pop()
            finished = path.pop()
            on_path.discard(finished)
            done.add(finished)
            bundles_done.add(id(needs.get(finished, ())))
        elif following in on_path:
            return [*path[path.index(following) :], following]
        elif following not in done and following in needs:
            path.append(following)
            on_path.add(following)
            pending.append(_members(needs[following], bundles_done))
    return []


def _members(bundle: Sequence[Address], bundles_done: set[int]) -> Iterator[Address]:
    return iter(() if id(bundle) in bundles_done else bundle)
