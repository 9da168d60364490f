"""A process of its own that holds the lock of the store in the folder given, for `test_file_lock.py`: writes twice, prints
the lock's id, waits until the lock is somebody else's, then tries to write all the same and prints what comes of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from reconciler.errors import StoreError
from reconciler.stores.file.lease import Timing
from reconciler.testing.store_conformance import a_state, created
from tests.stores.places import a_store


def hold(home: Path) -> None:
    store = a_store(home, timing=Timing(renew=1e6))
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
    lease.release()


if __name__ == "__main__":
    hold(Path(sys.argv[1]))
