"""Backends, a store and a configuration that fail at the hours that are set for them, and tell a `Witness` what is asked of
them. Real ones of memory underneath."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.backends.base import ProbeAnswer
from reconciler.backends.memory import MemoryBackend
from reconciler.engine.context import Context
from reconciler.errors import ConfigError, Permanent, StoreError, Transient, Unavailable
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Readiness, SandboxSpec
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from reconciler.model.outcome import Entry
from reconciler.model.state import State
from reconciler.stores.base import Lease
from reconciler.stores.memory import MemoryStore
from tests.sim.declared import Layout
from tests.sim.timeline import WATCH, Timeline

CALL = 0.2  # seconds that a verb takes
READ = 0.02  # seconds that a read of the state takes
START = 0.7  # seconds until a sandbox that was started answers
AT_REST = 0.5  # seconds after which an edited file is read


class Witness(Protocol):
    """Who is told what the watch and others do, before it is done."""

    def acts(self, backend: str, verb: str, address: str, spec: SandboxSpec | None) -> None: ...
    def listed(self, backend: str, found: Sequence[ObservedSandbox] | None) -> None: ...
    def probed(self, sandbox_id: str, answers: bool) -> None: ...
    def locked(self) -> None: ...
    def unlocked(self) -> None: ...
    def unwritten(self) -> None: ...


class Listener(Struct):
    """One that listens to the events of a backend."""

    tell: Callable[[str], None]
    closed: bool = False

    def close(self) -> None:
        self.closed = True


class Shaky(MemoryBackend):
    """`down`: nothing answers. `cut`: its listing ends half way. `refuses`: what its verbs raise. `deaf` are sandboxes that
    do not answer, `short_lived` addresses that die so many seconds after each start. Events get lost as `chance` has it."""

    capabilities: ClassVar[Capabilities] = replace(MemoryBackend.capabilities, events=True)

    def __init__(
        self, name: str, world: str, timeline: Timeline, witness: Witness, chance: random.Random
    ) -> None:
        super().__init__(world, now=timeline.steady, sleep=timeline.sleep, ready_seconds=START)
        self.name = name
        self.down = self.cut = False
        self.refuses: Exception | None = None
        self.deaf: set[str] = set()
        self.short_lived: dict[str, float] = {}
        self.lossy = 0.0
        self.blind = False  # an outage looks like an empty place: for testing the referee
        self._timeline, self._witness, self._chance = timeline, witness, chance
        self._listeners: list[Listener] = []
        self._addresses: dict[str, str] = {}

    def notes(self) -> Sequence[str]:
        return ()

    # -- verbs

    def create(self, *args: Any, spec: SandboxSpec | None = None, **kwargs: Any) -> SandboxInfo:
        assert spec is not None
        assert spec.owner is not None
        self._addresses[args[1]] = spec.owner.address
        self._called("create", spec.owner.address, spec)
        info = super().create(*args, spec=spec, **kwargs)
        self._started(info, spec.owner.address)
        return info

    def destroy(self, info: SandboxInfo) -> None:
        self._called("destroy", self._address(info))
        super().destroy(info)
        self.tell(info.sandbox_id)

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        self._called("update", self._address(info), spec)
        found = super().update(info, spec)
        self.tell(info.sandbox_id)
        return found

    def restart(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        address = self._address(info)
        self._called("restart", address, spec)
        found = super().restart(info, spec)
        self._started(found, address)
        return found

    def look(self, sandbox_id: str) -> ObservedSandbox | None:
        seen = super().look(sandbox_id)
        if self._timeline.is_running and seen is not None and seen.owner is not None:
            self._witness.acts(self.name, "look", seen.owner.address, None)
        if self.down:
            raise Unavailable("the engine does not answer")
        return seen

    def _called(self, verb: str, address: str, spec: SandboxSpec | None = None) -> None:
        self._witness.acts(self.name, verb, address, spec)
        self._timeline.sleep(CALL)
        if self.down:
            raise Unavailable("the engine does not answer")
        if self.refuses is not None:
            raise self.refuses

    def _started(self, info: SandboxInfo, address: str) -> None:
        self.deaf.discard(info.sandbox_id)
        self.tell(info.sandbox_id)
        lives = self.short_lived.get(address)
        if lives is not None:
            self._timeline.at(self._timeline.time + lives, lambda: self.dies(info))

    def dies(self, info: SandboxInfo) -> None:
        """Unless it is another one by now."""
        seen = MemoryBackend.look(self, info.sandbox_id)
        if seen is not None and seen.info.container_id == info.container_id:
            self.kill(info.sandbox_id)
            self.tell(info.sandbox_id)

    def wakes(self, info: SandboxInfo) -> None:
        """It runs by itself, unless it is another one by now."""
        seen = MemoryBackend.look(self, info.sandbox_id)
        if seen is not None and seen.info.container_id == info.container_id:
            with self._existing(info.sandbox_id) as thing:
                thing.phase = thing.detail = ""
            self.tell(info.sandbox_id)

    def becomes(self, sandbox_id: str, phase: Phase) -> None:
        with self._existing(sandbox_id) as thing:
            thing.phase = phase.value

    def appears(self, sandbox_id: str, spec: SandboxSpec) -> None:
        """Somebody else made it."""
        self._addresses[sandbox_id] = "" if spec.owner is None else spec.owner.address
        MemoryBackend.create(self, None, sandbox_id, spec=spec)

    def _address(self, info: SandboxInfo) -> str:
        return self._addresses.get(info.sandbox_id, "")

    # -- looking: on threads of the look, so nothing may take time here

    def everything(self) -> Sequence[ObservedSandbox]:
        """What there is, whoever cannot see it."""
        return MemoryBackend.observe(self)

    def observe(self) -> Sequence[ObservedSandbox]:
        if self.down or self.cut:
            self._witness.listed(self.name, None)
            if self.blind:
                return []
            raise Unavailable("the engine does not answer") if self.down else Permanent("it was cut short")
        found = self.everything()
        self._witness.listed(self.name, found)
        return found

    def is_alive(self, info: SandboxInfo) -> bool:
        """The same whether it is asked or not: how often depends on the machine."""
        return True

    def probe(self, info: SandboxInfo, readiness: Readiness, timeout: float) -> ProbeAnswer | None:
        seen = MemoryBackend.look(self, info.sandbox_id)
        if seen is None or seen.phase.is_dead:
            answer = ProbeAnswer(ready=False, dead=True, detail="it is gone" if seen is None else seen.detail)
        else:
            deaf = self.down or info.sandbox_id in self.deaf
            answer = ProbeAnswer(ready=seen.phase is Phase.READY and not deaf, detail="no answer")
        if not self._timeline.is_running:
            self._witness.probed(info.sandbox_id, answer.ready)
        return answer

    # -- events

    def listen(self, tell: Callable[[str], None]) -> Listener:
        if self.down:
            raise Unavailable("the engine does not answer")
        listener = Listener(tell)
        self._listeners.append(listener)
        return listener

    def tell(self, sandbox_id: str) -> None:
        """At once, late, twice, or never."""
        for _ in range(self._chance.choice([1, 1, 1, 2])):
            if self._chance.random() >= self.lossy:
                late = self._chance.choice([0.0, 0.0, 0.05, 20.0])
                self._timeline.at(self._timeline.time + late, lambda: self._tell(sandbox_id))

    def _tell(self, sandbox_id: str) -> None:
        self._listeners = [listener for listener in self._listeners if not listener.closed]
        for listener in self._listeners:
            listener.tell(sandbox_id)


class Blunt(Shaky):
    """Labels are fixed, and what does not run is replaced: nothing can be restarted."""

    capabilities: ClassVar[Capabilities] = replace(Shaky.capabilities, restarts=False, relabels=False)

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        return super().update(info, replace(spec, owner=None))


class ShakyStore(MemoryStore):
    """`full`: nothing can be written; `unsaved`: no snapshot can; `unreadable`: it cannot even be read."""

    def __init__(self, stack: str, timeline: Timeline, witness: Witness) -> None:
        super().__init__(stack, now=timeline.now)
        self.full = self.unsaved = self.unreadable = False
        self.thief: Callable[[], None] | None = None  # who takes the lock from the watch when it has it next
        self._timeline, self._witness = timeline, witness

    def truth(self) -> State | None:
        """What is recorded, whoever cannot read it."""
        return super().read()

    def read(self) -> State | None:
        self._timeline.sleep(READ)
        if self.unreadable:
            raise StoreError("the state cannot be read: input/output error")
        return super().read()

    def lock(self, operation: str, **kwargs: Any) -> Lease:
        self._timeline.sleep(READ)
        lease = super().lock(operation, **kwargs)
        if self._timeline.actor == WATCH and operation == "watch":
            self._witness.locked()
            if self.thief is not None:
                self._timeline.at(self._timeline.time + CALL, self.thief)
                self.thief = None
        return lease

    def _release(self, lease: Lease) -> None:
        super()._release(lease)
        if lease.info.operation == "watch":
            self._witness.unlocked()

    def append(self, lease: Lease, entries: Sequence[Entry]) -> None:
        self._may_write()
        super().append(lease, entries)

    def write(self, lease: Lease, state: State) -> State:
        self._may_write()
        if self.unsaved:
            self._witness.unwritten()
            raise StoreError("the snapshot cannot be written")
        return super().write(lease, state)

    def _may_write(self) -> None:
        if self.full:
            self._witness.unwritten()
            raise StoreError("no space left on the disk")


class Edited(Struct):
    """The source of the watch. `layout` None: what stands in the files is not valid. `opened` is told each that was read."""

    layout: Layout | None
    timeline: Timeline
    context: Callable[[Layout], Context]
    opened: Callable[[Layout], None]
    _version: int = 0
    _read: int = -1
    _since: float = field(default=0.0)

    def edit(self, layout: Layout | None) -> None:
        self.layout = layout
        self._version += 1
        self._since = self.timeline.time

    @contextmanager
    def open(self) -> Iterator[Context]:
        self._read = self._version
        if self.layout is None:
            problem = Diagnostic(severity=Severity.ERROR, code="syntax", summary="line 3 makes no sense")
            raise ConfigError("the configuration is not valid", diagnostics=[problem])
        self.opened(self.layout)
        yield self.context(self.layout)

    def changed(self) -> bool:
        return self._version != self._read and self.timeline.time - self._since >= AT_REST


BUSY = Transient("the engine is busy", retry_after=1.0)
REFUSED = Permanent("the engine refuses")
