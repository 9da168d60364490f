"""Kills a `state migrate` at each of its system calls in turn. Prints how many kill points there were.

From a directory in clear, with versions, a key and the journal of a killed run, into an encrypted one. Whatever N: nobody can
work with both; nothing is lost; and doing it again completes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from reconciler.core.fold import fold_all
from reconciler.core.migration import contents
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.migrate import migrate
from reconciler.errors import Unavailable
from reconciler.model.desired import BackendConfig, Desired
from reconciler.stores.file import FileStore
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores.killed_anywhere import everywhere
from tests.stores.places import Clock, a_key, a_sealer, a_store

SEALER = a_sealer(a_key())
SERIALS = 3


def a_context(store: FileStore) -> Context:
    return Context(
        desired=Desired(stack=STACK, sandboxes={}, backends={}), store=store, backends=BackendPool({}, _none)
    )


def _none(_: BackendConfig) -> object:
    raise Unavailable("no backend is needed for this")


def places(directory: Path) -> tuple[FileStore, FileStore]:
    timing = Clock().timing(renew=1e6)
    return (
        a_store(directory / "old", timing=timing),
        a_store(directory / "new", timing=timing, sealer=SEALER),
    )


def prepare(directory: Path) -> None:
    store, _ = places(directory)
    with store.lock("apply") as lease:
        state = a_state("old")
        for _ in range(SERIALS):
            state = store.write(lease, state)
        store.append(lease, created("new"))
    store.secret_key(create=True)


def run(directory: Path, done: Callable[[], object]) -> None:
    source, target = places(directory)
    migrate(a_context(target), source)
    done()


def check(directory: Path, acknowledged: int) -> None:
    source, target = places(directory)
    left, arrived = source.read(), target.read()
    wanted = contents(fold_all(a_state("old"), created("new")))
    assert left is not None
    assert contents(left) == wanted
    assert arrived is None or contents(arrived) == wanted
    assert not (left.migrated is None and arrived is not None), "both can be worked with"
    assert not acknowledged or arrived is not None
    for _ in range(2):
        migrate(a_context(target), source)
        after = target.read()
        assert after is not None
        assert contents(after) == wanted
        assert after.migrated is None
        assert target.secret_key(create=False) == source.secret_key(create=False)
        assert [version.serial for version in target.history()][1:] == list(range(SERIALS, 0, -1))
        assert all(target.version(s) == source.version(s) for s in range(1, SERIALS + 1))
    assert not [path for path in directory.rglob("*") if ".tmp-" in path.name]


if __name__ == "__main__":
    SEALER.seal("warm", b"")
    everywhere(Path(sys.argv[1]), prepare=prepare, run=run, check=check, acknowledges=1)
