"""Kills the write that switches encryption on, or changes keys, at each of its system calls. Prints how many there were.

Before it there is a state with versions, a backup, a key of digests and the journal of a killed run, all kept as the
configuration before had it. Whatever N: nothing is lost, what is there can be opened with the new configuration, and after
the next write nothing needs the old one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from reconciler.core.fold import fold_all
from reconciler.model.state import State
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import STACK, a_state, created
from tests.stores.killed_anywhere import forked
from tests.stores.places import Clock, a_key, a_sealer, a_store

# before, for the change itself, and all that is needed afterwards
CHANGES: Mapping[str, tuple[Sealer, Sealer, Sealer]] = {
    "on": (PLAIN, a_sealer(a_key()), a_sealer(a_key(), enforced=True)),
    "keys": (a_sealer(a_key(1)), a_sealer(a_key(2), a_key(1)), a_sealer(a_key(2), enforced=True)),
    "off": (a_sealer(a_key()), a_sealer("", a_key()), PLAIN),
}


def prepare(directory: Path, sealer: Sealer) -> tuple[State, bytes | None]:
    store = a_store(directory, timing=Clock().timing(renew=1e6), sealer=sealer)
    key = store.secret_key(create=True)
    with store.lock("apply") as lease:
        base = a_state("old")
        for _ in range(3):
            base = store.write(lease, base)
        store.append(lease, created("new"))
    return fold_all(base, created("new")), key


def main() -> None:
    home = Path(sys.argv[1])
    before, change, after = CHANGES[sys.argv[2]]
    change.seal("warm", b"")

    def run(directory: Path, done: Callable[[], object]) -> None:
        store = a_store(directory, timing=Clock().timing(renew=1e6), sealer=change)
        with store.lock("apply") as lease:
            state = store.read()
            assert state is not None
            store.append(lease, created("new"))
            done()
            store.write(lease, state)
            done()

    kill_at, killed = 0, True
    while killed:
        kill_at += 1
        directory = home / str(kill_at)
        state, key = prepare(directory, before)
        killed, acknowledged = forked(directory, kill_at, run)
        store = a_store(directory, sealer=change)
        left = store.read()
        assert left is not None
        assert left.sandboxes == state.sandboxes
        assert left.serial == state.serial + 1 if acknowledged == 2 else left.serial >= state.serial
        assert store.secret_key(create=False) == key
        assert not [version for version in store.history() if version.damage]
        with store.lock("apply") as lease:
            store.write(lease, store.write(lease, left))
        only = a_store(directory, sealer=after)
        assert only.secret_key(create=False) == key
        assert [only.version(version.serial).serial for version in only.history()] == list(
            range(left.serial + 2, 0, -1)
        )
        (directory / f"{STACK}.json").write_bytes((directory / f"{STACK}.json.backup").read_bytes())
        assert only.read() is not None
    print(kill_at - 1, "kill points")


if __name__ == "__main__":
    main()
