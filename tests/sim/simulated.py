"""One simulated hour: the real watch on shaky backends and a shaky store, everything that happens, and a referee who sees all
of it.

What is passed to `live` instead of the real watch, its damping or its ear shows that the referee notices.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from msgspec import Struct

from reconciler.core.damping import Damping
from reconciler.engine.context import BackendPool, Context
from reconciler.engine.watch import Watch, WatchOptions
from reconciler.engine.workflow import ApplyOptions, apply
from reconciler.errors import ReconcilerError
from reconciler.model.desired import Address, BackendConfig, Owner, SandboxSpec
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.watching import WatchEvent
from reconciler.stores.base import Lease
from tests.sim.declared import Layout
from tests.sim.referee import Referee, Whistle
from tests.sim.script import HOUR, Happens, Hour
from tests.sim.shaky import BUSY, REFUSED, Blunt, Edited, Shaky, ShakyStore
from tests.sim.timeline import Hands, Nudges, Stop, Timeline
from tests.support.build import STACK

TRIES = 60  # of a person's apply, a few seconds apart
PERSON = "person"
_worlds = itertools.count()

Ear = Callable[[WatchEvent], None]


class Variant(Struct, frozen=True, kw_only=True):
    """A watch that is not the real one: `watch` its class, `damping` what it goes by, `hears` what is told of what it tells,
    `opens` what it takes the configuration to be, `blind` that an outage looks like an empty place to it."""

    watch: type[Watch] = Watch
    damping: Damping | None = None
    hears: Callable[[Ear], Ear] = lambda ear: ear
    opens: Callable[[Layout], Layout] = lambda layout: layout
    blind: bool = False


REAL = Variant()


def live(hour: Hour, variant: Variant = REAL) -> Referee:
    """The hour to its end. What broke a rule is in the referee's `fouls`."""
    return _Simulation(hour, variant).run()


class _Simulation:
    def __init__(self, hour: Hour, variant: Variant) -> None:
        self.hour = hour
        self.variant = variant
        self.time = Timeline()
        self.begin = self.time.time
        chance = random.Random(hour.seed)
        number = next(_worlds)
        self.referee = Referee(hour, self.time)
        self.backends: dict[str, Shaky] = {
            name: kind(name, f"hour-{number}-{name}", self.time, self.referee, chance)
            for name, kind in (("able", Shaky), ("blunt", Blunt))
        }
        for backend in self.backends.values():
            backend.lossy = hour.lossy
            backend.blind = variant.blind
        self.store = ShakyStore(STACK, self.time, self.referee)
        self.referee.sees(self.backends, self.store)
        self.source = Edited(
            hour.layout,
            self.time,
            lambda layout: self._context(variant.opens(layout), self.stop),
            self.referee.opened,
        )
        self.stop = Stop()
        self.applying = False
        self.wanted = hour.layout  # what is valid
        self.watch = variant.watch(
            self.source,
            WatchOptions(interval=hour.interval, damping=variant.damping or hour.damping, events=hour.events),
            tell=variant.hears(self.referee.told),
            stop=self.stop,
            chance=chance.random,
            wishes=Nudges(self.time, self.referee.looks_in),
        )

    def _context(self, layout: Layout, stop: Stop) -> Context:
        desired = layout.desired()

        def backend(config: BackendConfig) -> Shaky:
            return self.backends[config.name]

        return Context(
            desired=desired,
            store=self.store,
            backends=BackendPool(desired.backends, backend),
            clock=self.time,
            jitter=lambda: 0.0,
            crew=lambda limits: Hands(limits, self.time, stop),
        )

    def run(self) -> Referee:
        """To its end, or to the first foul."""
        apply(
            self._context(self.hour.layout, self.stop), ApplyOptions(), confirm=lambda _: True, stop=self.stop
        )
        self.begin = self.time.time
        self.referee.begins()
        for one in self.hour.happens:
            self.time.at(self.begin + one.at, lambda one=one: self._happens(one))  # type: ignore[misc]
        self.time.at(self.begin + self.hour.last, self.referee.quiet)
        self.time.at(self.begin + HOUR, self._end)
        try:
            self.watch.run()
        except Whistle:
            return self.referee
        except Exception as error:
            self.referee.foul(f"it raised {type(error).__name__}: {error}")
            return self.referee
        finally:
            for backend in self.backends.values():
                for seen in backend.everything():
                    backend.remove(seen.info.sandbox_id)
        self.referee.ended()
        return self.referee

    def _end(self) -> None:
        self.referee.finish()
        self.stop.request()

    # -- what happens

    def _happens(self, one: Happens) -> None:
        match one.what:
            case "edit":
                self.source.edit(one.layout)
                self.wanted = one.layout or self.wanted
            case "apply":
                self._applies()
            case "hang up":
                self.referee.asked()
                self.watch.reload()
            case "outage" | "cut" | "refuse":
                self._fails(self.backends[one.whom], one)
            case "full" | "unsaved" | "unreadable":
                setattr(self.store, one.what, True)
                self._after(one.seconds, lambda: setattr(self.store, one.what, False))
            case "locked":
                self._locks(one.seconds)
            case "steal":
                self.store.thief = self._steals
            case "jump":
                self.time.jump(random.Random(one.at).choice([-86_400.0, -5.0, 7.0, 86_400.0]))
            case "stray":
                self._strays(self.backends[one.whom], one)
            case "chatter":
                self._chatters(self.backends[one.whom], one.seconds)
            case _:
                self._to_one(one)

    def _after(self, seconds: float, effect: Callable[[], None]) -> None:
        self.time.at(self.time.time + seconds, effect)

    def _fails(self, backend: Shaky, one: Happens) -> None:
        def over() -> None:
            backend.down = backend.cut = False
            backend.refuses = None

        backend.down, backend.cut = one.what == "outage", one.what == "cut"
        if one.what == "refuse":
            backend.refuses = BUSY if int(one.seconds) % 2 else REFUSED
        self._after(one.seconds, over)

    def _locks(self, seconds: float) -> None:
        try:
            lease: Lease = self.store.lock("apply")
        except ReconcilerError:
            return
        self._after(seconds, lease.release)

    def _steals(self) -> None:
        held = self.store.lock_info()
        if held is not None and held.operation == "watch":
            self.store.force_unlock(held.id)
            self.referee.stolen()

    def _strays(self, backend: Shaky, one: Happens) -> None:
        state = self.store.truth()
        assert state is not None
        name = f"stray{one.at:.0f}"
        owner = Owner(
            stack=STACK, lineage=state.lineage, address=Address(name), generation=1, spec_hash="whatever"
        )
        backend.appears(name, SandboxSpec(image="one", owner=owner))
        self._after(one.seconds, lambda: backend.remove(name))

    def _chatters(self, backend: Shaky, seconds: float) -> None:
        """Something happens all the time, to somebody."""
        for second in range(0, int(seconds), 5):
            self._after(second, lambda: backend.tell("somebody"))

    def _to_one(self, one: Happens) -> None:
        found = self._find(one.whom)
        if found is None:
            return
        backend, seen = found
        identity = seen.info.sandbox_id
        match one.what:
            case "kill":
                backend.kill(identity)
            case "pause":
                backend.pause(identity)
            case "remove":
                backend.remove(identity)
            case "replace it":
                backend.alter(identity, "image", "altered")
            case "limit it":
                backend.alter(identity, "resources.cpu", 7.0)
            case "wakes":  # by itself, before or after anybody noticed that it died
                backend.kill(identity)
                self._after(one.seconds, lambda: backend.wakes(seen.info))
            case "unknown":
                backend.becomes(identity, Phase.UNKNOWN)
                self._after(one.seconds, lambda: backend.wakes(seen.info))
            case "deaf":
                backend.deaf.add(identity)
                self._after(one.seconds, lambda: backend.deaf.discard(identity))
            case "flap":
                self._flaps(backend, seen, one)
            case _:
                raise ValueError(f"nothing like {one.what} happens")
        backend.tell(identity)

    def _flaps(self, backend: Shaky, seen: ObservedSandbox, one: Happens) -> None:
        backend.short_lived[one.whom] = 1.5 + one.seconds % 20
        backend.dies(seen.info)
        self._after(one.seconds, lambda: backend.short_lived.pop(one.whom, None) and None)

    def _find(self, address: str) -> tuple[Shaky, ObservedSandbox] | None:
        return next(
            (
                (backend, seen)
                for backend in self.backends.values()
                for seen in backend.everything()
                if seen.owner is not None and seen.owner.address == address
            ),
            None,
        )

    # -- people

    def _applies(self) -> None:
        """As often as it takes. What is declared when it begins is what it applies."""
        if self.applying:
            return
        self.applying = True
        self.time.begin(PERSON, self._apply)

    def _apply(self) -> None:
        try:
            for _ in range(TRIES):
                layout, stop = self.wanted, Stop()
                try:
                    report = apply(
                        self._context(layout, stop), ApplyOptions(), confirm=lambda _: True, stop=stop
                    )
                except ReconcilerError:
                    report = None
                if report is not None and all(result.status == "done" for result in report.results):
                    return
                self.time.sleep(5.0)
        finally:
            self.applying = False
