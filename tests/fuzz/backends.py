"""Backends in memory that fail as they are told, and the deterministic rest of the machine: time, and hands.

A run on these has one thread and no real time, so the same scenario always ends the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from reconciler.backends.memory import MemoryBackend
from reconciler.core.calls import Call, Limits
from reconciler.engine.execute import Crew
from reconciler.engine.workers import Workers
from reconciler.errors import Permanent, Transient
from reconciler.model.desired import SandboxSpec
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from tests.fuzz.scenario import STACK, Fault
from tests.support.running import EngineLike

TICK = 0.3  # seconds that go by whenever the coordinator asks for the time: more than any wait of its own
SILENCE = 400.0  # seconds after which nobody waits for an answer any more
WRITES = ("create", "destroy", "update", "restart")
FAULTY = (*WRITES, "look", "probe", "observe")


class Killed(BaseException):
    """The run's process is gone."""


class Silence(BaseException):
    """No answer will ever come."""


class Clock:
    """Virtual time. Each question of the coordinator moves it on, so nothing ever sleeps."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        self.time += TICK
        return self.time

    def jump(self, seconds: float) -> None:
        self.time += seconds


class Hands(Crew):
    """Makes each call at once, on the coordinator's thread."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        super().__init__(limits)
        self._at_once = _AtOnce(clock)

    def of(self, call: Call) -> Workers:
        return self._at_once


class _AtOnce(Workers):
    def __init__(self, clock: Clock) -> None:
        super().__init__("hands", 0)
        self._clock = clock

    def put(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Silence:
            self._clock.jump(SILENCE)


class Able(MemoryBackend):
    """Relabels, reads everything back, restarts."""

    capabilities = replace(MemoryBackend.capabilities, restarts=True)

    def restart(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        with self._existing(info.sandbox_id) as thing:
            thing.phase = thing.detail = ""
            thing.ready_at = self._now()
            return thing.info


class Fixed(EngineLike):
    """As container engines are."""


class Plain(MemoryBackend):
    """As the seed's contract is: no labels, so only the record says whose an object is."""

    capabilities = replace(MemoryBackend.capabilities, owns=False, relabels=False, updatable=())

    def create(self, *args: Any, spec: SandboxSpec | None = None, **kwargs: Any) -> SandboxInfo:
        return super().create(*args, spec=replace(spec or SandboxSpec(), owner=None), **kwargs)


class Liar(MemoryBackend):
    """Says that it changed what it did not change. No configuration of the generator names it: it is for testing the
    fuzz itself."""

    def update(self, info: SandboxInfo, spec: SandboxSpec) -> SandboxInfo:
        return info


KINDS: Mapping[str, type[MemoryBackend]] = {"able": Able, "fixed": Fixed, "plain": Plain, "liar": Liar}


class Faulty:
    """A backend whose verbs go wrong as an operation's faults say. It passes everything else on. `lies` are the addresses
    about which it did not tell the truth, so that nobody could have done right by them."""

    def __init__(self, name: str, backend: MemoryBackend, die: Callable[[], Killed]) -> None:
        self.name = name
        self.backend = backend
        self.lies: Counter[str] = Counter()
        self.writes = 0
        self.fired = 0
        self._die = die
        self._late: list[Callable[[], object]] = []
        self.heard: Callable[[], None] = lambda: None
        self.expect(())

    def expect(self, faults: Iterable[Fault]) -> None:
        """A new operation begins, with these faults."""
        self._faults = [fault for fault in faults if fault.backend == self.name]
        self._calls: Counter[str] = Counter()
        self.fired = 0

    def land(self) -> None:
        """What was on its way when the run ended gets there."""
        late, self._late = self._late, []
        for effect in late:
            try:
                effect()
            except (Permanent, Transient):
                continue

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.backend, name)
        if name not in FAULTY:
            return value

        def verb(*args: Any, **kwargs: Any) -> Any:
            self.heard()
            self._calls[name] += 1
            self.writes += name in WRITES
            fault = self._due(name)
            if fault is None:
                return value(*args, **kwargs)
            self.fired += 1
            if name == "observe":
                return self._listed(fault, value)
            return self._goes_wrong(fault, lambda: value(*args, **kwargs), args, kwargs)

        return verb

    def _due(self, verb: str) -> Fault | None:
        count = self._calls[verb]
        return next((f for f in self._faults if f.verb == verb and f.nth <= count < f.nth + f.times), None)

    def _listed(self, fault: Fault, value: Callable[[], Sequence[ObservedSandbox]]) -> Any:
        if fault.how != "omits":
            raise Permanent("the listing was cut short")
        listed = list(value())
        ours = next((seen for seen in listed if seen.owner and seen.owner.stack == STACK), None)
        if ours is not None and ours.owner is not None:
            self.lies[ours.owner.address] += 1
            listed.remove(ours)
        return listed

    def _goes_wrong(self, fault: Fault, effect: Callable[[], Any], args: Any, kwargs: Any) -> Any:
        how = fault.how.removesuffix("_after")
        if fault.how.endswith("_after"):
            effect()
        match how:
            case "transient":
                raise Transient("the engine is busy", retry_after=TICK)
            case "crash":
                raise ZeroDivisionError("nobody expects this")
            case "kill":
                raise self._die()
            case "silent":
                raise Silence
            case "late":
                self._late.append(effect)
                raise Silence
            case "lies" if fault.verb in WRITES:
                return self._lie(fault, args, kwargs)
            case "sleeps" | "dies" if fault.verb in ("create", "restart"):
                info: SandboxInfo = effect()
                self._spoil(info, how)
                return info
            case _:
                raise Permanent("the engine refuses")

    def _lie(self, fault: Fault, args: Any, kwargs: Any) -> SandboxInfo | None:
        if fault.verb == "create":
            return SandboxInfo(sandbox_id=args[1], sandbox_url=f"memory://{args[1]}", container_id="never")
        info: SandboxInfo = args[0]
        seen = self.backend.look(info.sandbox_id)
        if fault.verb == "destroy" and seen is not None and seen.owner is not None:
            self.lies[seen.owner.address] += 1
        return None if fault.verb == "destroy" else info

    def _spoil(self, info: SandboxInfo, how: str) -> None:
        with self.backend._existing(info.sandbox_id) as thing:
            if how == "dies":
                thing.phase, thing.detail = Phase.FAILED.value, "exit code 3"
            else:
                thing.ready_at = 1e18

    # -- what happens behind the tool's back

    def resume(self, sandbox_id: str) -> None:
        with self.backend._existing(sandbox_id) as thing:
            thing.phase = thing.detail = ""
            thing.ready_at = 0.0

    def empty(self) -> None:
        for seen in self.backend.observe():
            self.backend.remove(seen.info.sandbox_id)
