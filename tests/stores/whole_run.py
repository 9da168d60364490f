"""What the tests of lost requests have a store do."""

from __future__ import annotations

from reconciler.core.fold import fold_all
from reconciler.model.state import State
from reconciler.stores.base import Store
from reconciler.testing.store_conformance import a_state, created


def a_whole_run(store: Store) -> State:
    """Everything that a run asks of a store; what is to be there at the end."""
    key = store.secret_key(create=True)
    with store.lock("apply") as lease:
        base = store.write(lease, a_state("a"))
        store.append(lease, created("b"))
        store.append(lease, created("c"))
        assert store.read() == fold_all(base, [*created("b"), *created("c")])
        second = store.write(lease, fold_all(base, [*created("b"), *created("c")]))
        store.append(lease, created("d"))
        lease.check()
    assert store.secret_key(create=False) == key
    assert [version.serial for version in store.history()] == [2, 1]
    assert store.version(1) == base
    return fold_all(second, created("d"))
