"""Fleets in this process: the engine as the command drives it, on the memory backend, with a store of one's choice."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reconciler.backends.memory import MemoryBackend
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.stop import StopRequest
from reconciler.engine.workflow import ApplyOptions, ApplyReport, apply
from reconciler.model.desired import Address, BackendConfig, Desired, DesiredSandbox, SandboxSpec
from reconciler.model.outcome import Entry
from reconciler.model.position import Position
from reconciler.model.state import State
from reconciler.stores.base import Lease, LockInfo, Store
from reconciler.stores.file.store import FileStore

STACK = "fleet"


class TimedStore(FileStore):
    """A file store that adds up the seconds spent in it, and remembers what it was last given."""

    def __init__(self, path: Path) -> None:
        super().__init__(STACK, path=path)
        self.seconds = 0.0
        self.entries: Sequence[Entry] = ()
        self.state: State | None = None

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began

    def read(self) -> State | None:
        with self._timed():
            return super().read()

    def lock(
        self,
        operation: str,
        *,
        timeout: float = 0.0,
        on_wait: Callable[[LockInfo], None] | None = None,
        on_broken: Callable[[LockInfo], None] | None = None,
    ) -> Lease:
        with self._timed():
            return super().lock(operation, timeout=timeout, on_wait=on_wait, on_broken=on_broken)

    def append(self, lease: Lease, entries: Sequence[Entry]) -> None:
        self.entries = max(self.entries, entries, key=len)
        with self._timed():
            super().append(lease, entries)

    def write(self, lease: Lease, state: State) -> State:
        self.state = state
        with self._timed():
            return super().write(lease, state)


def fleet(count: int, store: Store, backend: MemoryBackend) -> Context:
    """So many sandboxes that are declared alike, and nothing of them there yet."""
    spec, here = SandboxSpec(image="one"), Position("sandboxes.yaml", 1, 1)
    sandboxes = {
        address: DesiredSandbox(address=address, group="s", backend="main", spec=spec, position=here)
        for address in (Address(f"s[{i}]") for i in range(count))
    }
    config = BackendConfig(name="main", type="memory")
    return Context(
        desired=Desired(stack=STACK, sandboxes=sandboxes, backends={"main": config}),
        store=store,
        backends=BackendPool({"main": config}, lambda _: backend),
    )


def bring_up(context: Context, *, parallelism: int | None = None) -> tuple[ApplyReport, float, float]:
    """The report, wall and processor seconds. Raises SystemExit unless every step is done."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 50)  # as the command line does
    began, cpu = time.perf_counter(), time.process_time()
    report = apply(context, ApplyOptions(parallelism=parallelism), confirm=lambda _: True, stop=StopRequest())
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    gc.set_threshold(*before)
    undone = sum(result.status != "done" for result in report.results)
    if undone or len(report.results) != len(context.desired.sandboxes):
        raise SystemExit(f"{undone} of {len(report.results)} steps were not done")
    return report, took, cpu
