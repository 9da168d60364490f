"""A process of its own that holds the lock of a store: writes, prints the lock's id, waits until the lock is somebody
else's, then tries to write all the same and prints what comes of it.

`python -m tests.stores.contender HOME` does so with the file store in that folder, for `test_file_lock.py`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from reconciler.errors import StoreError
from reconciler.stores.base import Lease, Store
from reconciler.stores.file.lease import Timing
from reconciler.testing.store_conformance import a_state, created
from tests.stores.places import a_store


def hold(store: Store) -> Lease:
    """The lease is still held, if it is, when this comes back."""
    lease = store.lock("apply")
    state = store.write(lease, store.write(lease, a_state()))
    print(lease.info.id, flush=True)
    while True:
        time.sleep(0.005)
        try:
            lease.check()
        except StoreError:
            break
    for attempt in (lambda: store.append(lease, created("late")), lambda: store.write(lease, state)):
        try:
            attempt()
        except StoreError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
    return lease


if __name__ == "__main__":
    hold(a_store(Path(sys.argv[1]), timing=Timing(renew=1e6))).release()
