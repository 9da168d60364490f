"""Kills a run before and after each of its effects in turn, and checks what is left. Prints how many points there were.
With `sealed` as second argument the store encrypts.

A run is: lock, snapshot, journal, snapshot, journal, release. It is forked, counts its points (`tests/crash/points.py`)
and kills itself at the Nth; what it was told to be done it says through a pipe before it goes on. Whatever N: the state left is the last acknowledged one or the next, every version that is listed can be had
and is as it was written, the next run gets the lock at once and works, and no temporary file survives that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from reconciler.core.fold import fold_all
from reconciler.model.state import State
from reconciler.stores.file import FileStore
from reconciler.stores.sealing import PLAIN, Sealer
from reconciler.testing.store_conformance import a_state, created
from tests.crash.points import Point, Watch, die
from tests.stores.places import NOW, Clock, a_key, a_sealer, a_store

Run = Callable[[Path, Callable[[], object]], None]


FIRST = replace(a_state("old"), serial=1, updated_at=NOW)
SECOND = replace(fold_all(FIRST, created("a")), serial=2)


def sealer() -> Sealer:
    return a_sealer(a_key()) if "sealed" in sys.argv[2:] else PLAIN


def steps() -> tuple[State | None, ...]:
    """What the state is after each acknowledged step of `run`; appends of several entries may be cut in between."""
    noted, last = fold_all(FIRST, created("a")), fold_all(SECOND, created("b"))
    return (None, None, FIRST, noted, SECOND, last, last)


def run(directory: Path, done: Callable[[], object]) -> None:
    store = a_store(directory, timing=Clock().timing(renew=1e6), sealer=sealer())
    lease = store.lock("apply")
    done()
    store.write(lease, a_state("old"))
    done()
    store.append(lease, created("a"))
    done()
    state = store.read()
    assert state is not None
    store.write(lease, state)
    done()
    store.append(lease, created("b"))
    done()
    lease.release()
    done()


def forked(directory: Path, kill_at: int, run: Run) -> tuple[bool, int]:
    """(whether it was killed, how many steps it was told to be done)."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        calls = 0

        def meet(_: Point) -> None:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                die()

        Watch(meet).begin()
        try:
            run(directory, lambda: os.write(write_end, b"."))
        except BaseException as error:
            print(f"kill point {kill_at}: {error!r}", file=sys.stderr)
            os._exit(3)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        acknowledged = len(pipe.read())
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True, acknowledged
    assert os.WEXITSTATUS(status) == 0
    return False, acknowledged


def check_versions(store: FileStore, left: State | None) -> None:
    """The current one and all before it, each as it was written, whatever the journal says."""
    there = store.history()
    assert [version.serial for version in there] == ([] if left is None else list(range(left.serial, 0, -1)))
    for version, as_written in zip(reversed(there), (FIRST, SECOND), strict=False):
        assert not version.damage
        assert store.version(version.serial) == as_written


def check(directory: Path, acknowledged: int) -> None:
    allowed = steps()[acknowledged : acknowledged + 2]
    store = a_store(directory, sealer=sealer())
    left = store.read()
    assert left in allowed, f"{acknowledged} steps were acknowledged, but the state is {left}"
    check_versions(store, left)
    held = store.lock_info() is not None
    broken: list[object] = []
    with store.lock("apply", on_broken=broken.append) as lease:
        base = left or store.write(lease, a_state("old"))
        store.append(lease, created("z"))
        assert store.read() == fold_all(base, created("z"))
        store.write(lease, base)
    assert held or not 0 < acknowledged < 5
    assert bool(broken) == held, "the dead holder's lock was not broken"
    assert [version.serial for version in store.history()] == list(range(base.serial + 1, 0, -1))
    names = sorted(path.name for path in directory.rglob("*"))
    assert not [name for name in names if ".tmp-" in name], names


def everywhere(
    home: Path,
    *,
    prepare: Callable[[Path], None],
    run: Run,
    check: Callable[[Path, int], None],
    acknowledges: int,
) -> None:
    """Killed at each of its points in turn, until it comes to its end, in a folder of its own each time: prepared, run,
    checked. It says `acknowledges` times that something is done."""
    sealer().seal("warm", b"")  # what an import opens is no moment of a run
    kill_at, killed, acknowledged = 0, True, 0
    while killed:
        kill_at += 1
        directory = home / str(kill_at)
        prepare(directory)
        killed, acknowledged = forked(directory, kill_at, run)
        check(directory, acknowledged)
    assert acknowledged == acknowledges
    print(kill_at - 1, "kill points")


def nothing(_: Path) -> None:
    """There is nothing before it."""


if __name__ == "__main__":
    everywhere(Path(sys.argv[1]), prepare=nothing, run=run, check=check, acknowledges=6)
