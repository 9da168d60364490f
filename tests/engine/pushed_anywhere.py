"""Kills a `state push` before and after each of its effects in turn. Prints how many points there were.

Before it there was a killed run, whose journal has to be written first. Whatever N: the state is the one before or the
pushed one, nothing of the one before is lost, and the next push works.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from reconciler.core.fold import fold_all
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.surgery import push
from reconciler.errors import Unavailable
from reconciler.model.desired import BackendConfig, Desired
from reconciler.stores import snapshot
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores.killed_anywhere import everywhere
from tests.stores.places import a_store

PUSHED = snapshot.encode(a_state("pushed"))


def a_context(directory: Path) -> Context:
    return Context(
        desired=Desired(stack=STACK, sandboxes={}, backends={}),
        store=a_store(directory),
        backends=BackendPool({}, _none),
    )


def _none(_: BackendConfig) -> object:
    raise Unavailable("no backend is needed for this")


def prepare(directory: Path) -> None:
    """Serial 1, and a journal of a run that went away."""
    store = a_store(directory)
    with store.lock("apply") as lease:
        store.write(lease, a_state("old"))
        store.append(lease, created("new"))


def run(directory: Path, done: Callable[[], object]) -> None:
    push(a_context(directory), PUSHED, place="old.json", force=True)
    done()


def check(directory: Path, acknowledged: int) -> None:
    store = a_store(directory)
    state = store.read()
    assert state is not None
    names = set(state.sandboxes)
    assert names == {"pushed"} or (not acknowledged and names == {"old", "new"}), names
    last = next(
        version for version in store.history() if set(store.version(version.serial).sandboxes) != {"pushed"}
    )
    before = state if "old" in names else store.version(last.serial)
    assert before.sandboxes == fold_all(a_state("old"), created("new")).sandboxes
    push(a_context(directory), PUSHED, place="old.json", force=True)
    after = store.read()
    assert after is not None
    assert set(after.sandboxes) == {"pushed"}
    assert not [path for path in directory.rglob("*") if ".tmp-" in path.name]


if __name__ == "__main__":
    everywhere(Path(sys.argv[1]), prepare=prepare, run=run, check=check, acknowledges=1)
