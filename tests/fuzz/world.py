"""One world to live a scenario in: backends, a store, the time, and what each operation of a scenario does there."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from msgspec import Struct

from reconciler.core.identity import sandbox_id
from reconciler.engine import surgery
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.stop import StopRequest
from reconciler.engine.workflow import ApplyOptions, ApplyReport, apply, plan
from reconciler.errors import ReconcilerError
from reconciler.model.desired import Address, Desired, Owner, SandboxSpec
from reconciler.model.event import Event
from reconciler.model.observed import ObservedSandbox
from reconciler.model.plan import Plan, Selection
from reconciler.model.state import State
from reconciler.stores.base import LockInfo
from tests.fuzz.backends import KINDS, Clock, Faulty, Hands, Killed
from tests.fuzz.scenario import (
    STACK,
    Apply,
    Config,
    Declare,
    Happens,
    LetGo,
    Operation,
    Passes,
    Rename,
    Scenario,
    Stranger,
)
from tests.fuzz.stores import PLACES

Key = tuple[str, str]  # backend, sandbox id

_numbers = itertools.count()


class Ending(Struct):
    """How an operation ended. `refused` is what it raised on purpose; `calm`: nothing went wrong on the way."""

    report: ApplyReport | None = None
    refused: ReconcilerError | None = None
    killed: bool = False
    calm: bool = True

    @property
    def complete(self) -> bool:
        """Whether it did all that it was asked."""
        report = self.report
        return (
            report is not None
            and not report.interrupted
            and not report.reverts
            and not report.plan.left_out
            and all(result.status == "done" for result in report.results)
        )


@dataclass
class World:
    """`config` is what is declared now; `may_be_two` are the addresses that ever were `create_first`."""

    scenario: Scenario
    config: Config = field(default_factory=Config)
    clock: Clock = field(default_factory=Clock)
    events: list[Event] = field(default_factory=list)
    may_be_two: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.left_locked: LockInfo | None = None  # by a run that was killed
        self.place = PLACES[self.scenario.store]()
        self.store = self.place.open()
        number = next(_numbers)
        self.backends = {name: self._backend(name, f"fuzz-{number}-{name}") for name in KINDS}

    def _backend(self, name: str, world: str) -> Faulty:
        memory = KINDS[name](world, now=self.clock.now, sleep=self.clock.jump)
        memory.notes = lambda: ()  # type: ignore[method-assign]
        return Faulty(name, memory, self._die)

    def _die(self) -> Killed:
        return self.store.die()  # the one of the run that goes on

    def close(self) -> None:
        for backend in self.backends.values():
            backend.empty()
        self.place.close()

    # -- looking -------------------------------------------------------------------------------------------------

    def live(self) -> dict[Key, ObservedSandbox]:
        """Everything there is, with all that can be known of it."""
        return {
            (name, seen.info.sandbox_id): seen
            for name, backend in self.backends.items()
            for seen in (backend.backend.look(found.info.sandbox_id) for found in backend.backend.observe())
            if seen is not None
        }

    def state(self) -> State | None:
        return self.store.inner.read()

    def ours(self, state: State | None) -> dict[Key, Address]:
        """The objects of this stack, with the addresses they count for: by record, else by label. Not what was let go,
        nor what others made without labels and nobody imported."""
        if state is None:
            return {}
        recorded = {(r.backend, r.sandbox_id): r for r in state.sandboxes.values()}
        found: dict[Key, Address] = {}
        for key, seen in self.live().items():
            mine = seen.owner is not None and (seen.owner.stack, seen.owner.lineage) == (STACK, state.lineage)
            bare = seen.owner is None and (key[0] == "plain" or (key in recorded and recorded[key].imported))
            if key in recorded and (mine or bare):
                found[key] = recorded[key].address
            elif mine and seen.owner is not None and key not in state.released:
                found[key] = seen.owner.address
        return found

    def lies(self) -> Counter[str]:
        return sum((backend.lies for backend in self.backends.values()), Counter())

    def writes(self) -> int:
        return sum(backend.writes for backend in self.backends.values())

    def context(self, desired: Desired) -> Context:
        return Context(
            desired=desired,
            store=self.store,
            backends=BackendPool(desired.backends, lambda config: self.backends[config.name]),  # type: ignore[arg-type,return-value]
            clock=self.clock,
            emit=self.events.append,
            jitter=lambda: 0.0,
            crew=lambda limits: Hands(limits, self.clock),
        )

    def plan(self) -> Plan:
        """What would be done now, with everything well."""
        return plan(self.context(self.config.desired()))

    # -- doing ---------------------------------------------------------------------------------------------------

    def do(self, operation: Operation) -> Ending:
        """Raises nothing but what is a bug."""
        self.events.clear()
        for backend in self.backends.values():
            backend.expect(operation.faults if isinstance(operation, Apply) else ())
        match operation:
            case Declare():
                self.config = operation.config
                self.may_be_two |= {
                    str(address)
                    for address, wanted in self.config.desired().sandboxes.items()
                    if wanted.lifecycle.create_first
                }
            case Apply():
                return self._apply(operation)
            case Happens():
                self._happens(operation)
            case Stranger():
                self._appears(operation)
            case Passes():
                self.clock.jump(operation.seconds)
            case Rename() | LetGo():
                return self._edit(operation)
        return Ending()

    def _apply(self, operation: Apply) -> Ending:
        self.store = self.place.open()
        self.store.expect(dies_at=operation.dies_at, after=operation.after, full_at=operation.full_at)
        options = ApplyOptions(
            selection=Selection(
                targets=operation.targets,
                excludes=operation.excludes,
                replace=operation.replace,
                refresh_only=operation.refresh_only,
                refresh=operation.refresh,
                destroy=operation.destroy,
            ),
            parallelism=operation.parallelism,
            fail_fast=operation.fail_fast,
        )
        stop = StopRequest()
        ending = Ending()
        with self._listening(operation, stop):
            try:
                ending.report = apply(
                    self.context(self.config.desired()), options, confirm=lambda _: True, stop=stop
                )
            except ReconcilerError as error:
                ending.refused = error
            except Killed:
                ending.killed = True
        ending.killed |= self.store.dead
        ending.calm = not (
            ending.killed
            or self.store.failed
            or stop.requested
            or any(b.fired for b in self.backends.values())
        )
        if self.store.dead:
            self.place.bury(self.store)
            self.left_locked = self.store.lock_info()
            self.store = self.place.open()
        self.store.expect()
        for backend in self.backends.values():
            backend.expect(())
            backend.land()
        return ending

    @contextmanager
    def _listening(self, operation: Apply, stop: StopRequest) -> Iterator[None]:
        """Ask the run to stop at the nth call of a backend."""
        heard = itertools.count(1)

        def hear() -> None:
            if next(heard) == operation.stops_at:
                stop.request()

        for backend in self.backends.values():
            backend.heard = hear
        try:
            yield
        finally:
            for backend in self.backends.values():
                backend.heard = lambda: None

    def _happens(self, operation: Happens) -> None:
        there = sorted(self.ours(self.state()))
        if not there:
            return
        name, identity = there[operation.which % len(there)]
        backend = self.backends[name]
        match operation.what:
            case "kill":
                backend.backend.kill(identity)
            case "pause":
                backend.backend.pause(identity)
            case "resume":
                backend.resume(identity)
            case "remove":
                backend.backend.remove(identity)
            case "alter":
                backend.backend.alter(identity, "image", operation.value)
            case _:
                raise ValueError(f"nothing like {operation.what} happens")

    def _appears(self, operation: Stranger) -> None:
        state = self.state()
        record = state.sandboxes.get(Address(operation.address)) if state else None
        identity = operation.id or sandbox_id(
            STACK, Address(operation.address), record.generation + 1 if record else 1
        )
        memory = self.backends[operation.backend].backend
        if memory.look(identity) is not None or (state is None and operation.kind == "sibling"):
            return  # without a state nobody can tell a sibling from ours
        lineage = "of-another" if operation.kind == "sibling" else "of-others"
        owner = Owner(
            stack=STACK if operation.kind == "sibling" else "theirs",
            lineage=lineage,
            address=Address(operation.address),
            generation=1,
            spec_hash="theirs",
        )
        memory.create(
            None,
            identity,
            spec=SandboxSpec(image=operation.image, owner=None if operation.kind == "bare" else owner),
        )

    def _edit(self, operation: Rename | LetGo) -> Ending:
        """As `state mv` and `state rm` do."""
        context = self.context(self.config.desired())
        try:
            if isinstance(operation, Rename):
                surgery.move(context, operation.source, operation.target)
            else:
                surgery.forget(context, [operation.address])
        except ReconcilerError as error:
            return Ending(refused=error)
        return Ending()
