"""What a correction makes is gone when it is over, without anybody looking for rubbish: a watch runs for months."""

from __future__ import annotations

import gc
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reconciler.backends.registry import open_backend
from reconciler.config.configure import configure
from reconciler.core.damping import Damping
from reconciler.engine.clock import SystemClock
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.stop import StopRequest
from reconciler.engine.watch import Watch, WatchOptions
from reconciler.engine.workflow import ApplyOptions, apply
from reconciler.model.watching import Corrected, WatchEvent
from reconciler.stores.registry import open_store
from tests.support.cli import Folder, folder

TEXT = """version: 1
stack: months
sandboxes:
  web: {replicas: 2}
"""
WARM, COUNTED = 2, 6  # corrections: what is only made once is there after the first two
AT_ONCE = Damping(give_up=1000, pause=0.0, longest=0.0)


class Source:
    """The one configuration of the folder, with its file store and its process backend."""

    def __init__(self, directory: Path) -> None:
        desired = configure(
            paths=[], directory=directory, var=(), var_files=(), environ=os.environ, ask=None
        ).desired
        self.context = Context(
            desired=desired,
            store=open_store(desired.store, stack=desired.stack, directory=directory),
            backends=BackendPool(desired.backends, open_backend),
            clock=SystemClock(),
            emit=lambda _: None,
        )

    @contextmanager
    def open(self) -> Iterator[Context]:
        yield self.context

    def changed(self) -> bool:
        return False


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Source]:
    with folder(tmp_path) as here:
        monkeypatch.setenv("XDG_STATE_HOME", here.environ["XDG_STATE_HOME"])
        here.write(TEXT)
        made = Source(tmp_path)
        apply(made.context, ApplyOptions(), confirm=lambda _: True, stop=StopRequest())
        yield made
        made.context.backends.close()
        made.context.store.close()


@contextmanager
def unswept() -> Iterator[None]:
    """Nobody looks for rubbish meanwhile; what there was before is gone."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def rubbish() -> Iterator[list[object]]:
    """What only the collector could find."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        yield gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def live(watch: Watch, here: Folder, told: list[WatchEvent], corrections: int) -> None:
    """One sandbox after the other is killed, and looked at until that was noticed and put back."""
    told.clear()
    for number in range(corrections):
        here.kill(here.sandboxes()[number % 2])
        while len(corrected(told)) <= number:
            watch.once()


def corrected(told: list[WatchEvent]) -> list[Corrected]:
    return [event for event in told if isinstance(event, Corrected)]


def test_corrections_leave_no_cycles_behind(source: Source, tmp_path: Path) -> None:
    here, told = Folder(tmp_path), list[WatchEvent]()
    options = WatchOptions(events=False, damping=AT_ONCE)
    watch = Watch(source, options, tell=told.append, stop=StopRequest())
    live(watch, here, told, WARM)
    with unswept():
        live(watch, here, told, COUNTED)
        with rubbish() as found:
            left = Counter(type(each).__qualname__ for each in found)
    assert all(event.ok for event in corrected(told))
    # A look that was refused a connection leaves its traceback, some 40 objects; how many are, is chance.
    assert left.total() < 20 * COUNTED + 50 * left["ConnectionRefusedError"], left
    assert left["ConnectionRefusedError"] <= 3 * COUNTED, left
