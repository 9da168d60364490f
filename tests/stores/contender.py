"""A process of its own that takes the lock, for `test_file_lock.py`.

`rounds HOME N`: N times take the lock, make sure of being alone, write down the fence, write a snapshot.
`hold HOME`: take the lock, print its id, then try to write every few milliseconds until that is refused; print that.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from reconciler.errors import StoreError
from reconciler.stores.file.lease import Timing
from reconciler.testing.store_conformance import a_state, created
from tests.stores.places import a_store


def rounds(home: Path, count: int) -> None:
    store = a_store(home / "state", timing=Timing(poll=0.002))
    for _ in range(count):
        with store.lock("apply", timeout=100.0) as lease:
            inside = os.open(home / "inside", os.O_CREAT | os.O_EXCL)  # FileExistsError when not alone
            with (home / "fences").open("a") as fences:
                fences.write(f"{lease.info.fence}\n")
            state = store.read() or store.write(lease, a_state())
            store.append(lease, created("a"))
            store.write(lease, state)
            os.unlink(home / "inside")
            os.close(inside)


def hold(home: Path) -> None:
    store = a_store(home, timing=Timing(renew=1e6))
    lease = store.lock("apply")
    store.write(lease, a_state())
    print(lease.info.id, flush=True)
    while True:
        time.sleep(0.005)
        try:
            lease.check()
        except StoreError:
            break
    try:
        store.append(lease, created("late"))
    except StoreError as error:
        print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "rounds":
        rounds(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        hold(Path(sys.argv[2]))
