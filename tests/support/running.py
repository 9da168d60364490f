"""A whole stack on the memory backend and the memory store, with faults put in by a wrapper."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import fields, replace

from reconciler.backends.base import SandboxBackend
from reconciler.backends.memory import MemoryBackend
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.stop import StopRequest
from reconciler.engine.workflow import ApplyOptions, ApplyReport, apply, plan
from reconciler.model.desired import BackendConfig, Desired, FlatSpec, SandboxSpec
from reconciler.model.event import Event
from reconciler.model.observed import ObservedSandbox, SandboxInfo
from reconciler.model.outcome import Entry
from reconciler.model.plan import Plan, Selection
from reconciler.model.state import State
from reconciler.stores.base import Lease
from reconciler.stores.memory import MemoryStore

_worlds = itertools.count()

VERBS = (
    "create",
    "destroy",
    "update",
    "restart",
    "look",
    "look_closely",
    "observe",
    "is_alive",
    "probe",
    "discover",
    "list_running",
)
WRITES = ("create", "destroy", "update", "restart")


class EngineLike(MemoryBackend):
    """As container engines are: labels are fixed at creation, and a listing leaves out what only `docker inspect` and
    its like show."""

    capabilities = replace(MemoryBackend.capabilities, relabels=False, unlisted=("resources",))

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        return super().update(info, replace(spec, owner=None))

    def observe(self) -> Sequence[ObservedSandbox]:
        return [replace(seen, attributes=_without_resources(seen)) for seen in super().observe()]


def _without_resources(seen: ObservedSandbox) -> FlatSpec:
    return {
        path: value for path, value in (seen.attributes or {}).items() if not path.startswith("resources.")
    }


class Watched:
    """A backend whose verbs are counted and may be made to fail: `fault(verb, call number)` returns what to raise,
    or a pair of it and True to raise after the effect. It passes everything else on."""

    def __init__(self, backend: SandboxBackend, log: list[str]) -> None:
        self._backend = backend
        self._log = log
        self.calls: list[str] = []
        self.fault: Callable[[str, int], Exception | tuple[Exception, bool] | None] = lambda verb, n: None

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._backend, name)
        if name not in VERBS:
            return value

        def verb(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            self._log.append(name)
            fault = self.fault(name, self.calls.count(name))
            if isinstance(fault, tuple):
                value(*args, **kwargs)
                raise fault[0]
            if fault is not None:
                raise fault
            return value(*args, **kwargs)

        return verb

    def count(self, *verbs: str) -> int:
        return sum(call in verbs for call in self.calls)


class WatchedStore(MemoryStore):
    """Notes every write in the same log as the backend's calls."""

    def __init__(self, stack: str, log: list[str]) -> None:
        super().__init__(stack)
        self._log = log
        self.entries: list[Entry] = []

    def append(self, lease: Lease, entries: Sequence[Entry]) -> None:
        super().append(lease, entries)
        self.entries += entries
        self._log += [f"journal {type(e).__name__.lower()} {e.operation}" for e in entries]

    def write(self, lease: Lease, state: State) -> State:
        self._log.append("snapshot")
        return super().write(lease, state)


@dataclass
class Stack:
    """One stack to run things on. `log` is everything that was written or called, in order."""

    desired: Desired
    log: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    emitted_on: set[threading.Thread] = field(default_factory=set)
    kind: type[MemoryBackend] = MemoryBackend

    def __post_init__(self) -> None:
        self.memory = self.kind(f"test-{next(_worlds)}")
        self.memory.notes = lambda: ()  # type: ignore[method-assign]
        self.backend = Watched(self.memory, self.log)
        self.store = WatchedStore(self.desired.stack, self.log)

    def context(self) -> Context:
        def open_backend(config: BackendConfig) -> SandboxBackend:
            return self.backend  # type: ignore[return-value]

        pool = BackendPool(self.desired.backends, open_backend)
        return Context(
            desired=self.desired,
            store=self.store,
            backends=pool,
            emit=self._emit,
            jitter=lambda: 0.0,
        )

    def _emit(self, event: Event) -> None:
        self.emitted_on.add(threading.current_thread())
        self.events.append(event)

    def plan(self, **kwargs: Any) -> Plan:
        return plan(self.context(), Selection(**kwargs))

    def apply(self, *, yes: bool = True, stop: StopRequest | None = None, **options: Any) -> ApplyReport:
        """`options` are those of `ApplyOptions` and of `Selection`."""
        chosen = {f.name for f in fields(Selection)} & set(options)
        selection = Selection(**{name: options.pop(name) for name in chosen})
        made = ApplyOptions(selection=selection, **options)
        return apply(self.context(), made, confirm=lambda _: yes, stop=stop or StopRequest())

    def clear(self) -> None:
        self.log.clear()
        self.events.clear()
        self.backend.calls.clear()

    def ids(self) -> list[str]:
        return sorted(seen.info.sandbox_id for seen in self.memory.observe())
