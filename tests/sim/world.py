"""A seeded world of backends in virtual time: calls take a while, fail before or after their effect, never answer, lie.

It drives the very Scheduler, Ledger, planner and fold that the engine drives, only without threads and clocks. One of
the two backends fixes labels at creation, cannot restart, and lets every field be read back; the other is the contrary.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.core.calls import Answer, Call, CallKind, Limits
from reconciler.core.fold import fold_all
from reconciler.core.ledger import Ledger
from reconciler.core.moves import moved_state
from reconciler.core.planner import PlanOptions, make_plan
from reconciler.core.recorded import as_recorded
from reconciler.core.revert import reversal, reverting
from reconciler.core.schedule import Scheduler
from reconciler.errors import ObservationIncomplete
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Address, Desired, DesiredSandbox, FlatSpec, Owner, SandboxSpec
from reconciler.model.event import StepEnded
from reconciler.model.observed import Observed, ObservedSandbox, Phase, SandboxInfo
from reconciler.model.outcome import Entry, StepResult
from reconciler.model.plan import Action, Plan, Reason, Selection
from reconciler.model.state import State, Status

ABLE = Capabilities(default=Support.ENFORCED, updatable=("labels",), restarts=True)
CAPABILITIES = {"main": ABLE, "other": replace(ABLE, relabels=False, restarts=False)}
NEVER = 1e12


class Thing(Struct):
    """One object in the world."""

    backend: str
    info: SandboxInfo
    owner: Owner | None
    ready_at: float
    phase: Phase = Phase.STARTING
    flat: FlatSpec = field(default_factory=dict)


class Chaos(Struct, frozen=True):
    """Odds, each between 0 and 1, of what goes wrong per call."""

    transient: float = 0.0
    permanent: float = 0.0
    silent: float = 0.0
    slow: float = 0.0
    never_ready: float = 0.0
    dies: float = 0.0
    destroy_lies: float = 0.0
    listing_omits: float = 0.0
    listing_fails: float = 0.0
    wakes: float = 0.0  # of what is dead when a plan is made: that it runs again right after
    update_hurts: float = 0.0  # that what is changed in place does not answer for a while, or never again


CALM = Chaos()


class Run(Struct):
    """What one apply came to. `crashed` runs end in the middle, with only their journal left; `refused` ones never
    begin. `back` is the run that took failed rollouts back."""

    plan: Plan
    results: tuple[StepResult, ...] = ()
    ended: Counter[str] = field(default_factory=Counter)
    crashed: bool = False
    seconds: float = 0.0
    most_in_flight: int = 0
    refused: bool = False
    back: Run | None = None


class World(Struct):
    rng: random.Random
    chaos: Chaos = CALM
    now: float = 0.0
    things: dict[str, Thing] = field(default_factory=dict)
    lies: Counter[Address] = field(default_factory=Counter)
    most_alive: Counter[Address] = field(default_factory=Counter)
    may_be_two: set[Address] = field(default_factory=set)  # declared as such at some time
    answered: set[str] = field(default_factory=set)  # ids of sandboxes that have been ready
    fallen: set[str] = field(default_factory=set)  # ids of those that died and have not answered since
    # by address: who must be ready before a leftover goes
    successors: dict[Address, set[str]] = field(default_factory=dict)
    # by group in a rollout: how many may be away, who is there to be missed, and of whom nobody knows how they are
    watched: dict[str, tuple[int, set[Address], set[Address]]] = field(default_factory=dict)
    proven: set[Address] = field(default_factory=set)  # those that were known to be ready at some time
    counts_as: dict[str, Address] = field(
        default_factory=dict
    )  # by id, where labels may speak of a former address
    excused: set[Address] = field(
        default_factory=set
    )  # an effect may land on it that nobody waits for any more
    verbs: Counter[CallKind] = field(default_factory=Counter)
    creations: int = 0
    later: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    serial: int = 0

    # -- observing -----------------------------------------------------------------------------------------------

    def look(self, backends: set[str]) -> Observed:
        failures = {b: "listing cut short" for b in sorted(backends) if self._odds(self.chaos.listing_fails)}
        sandboxes = tuple(
            self._seen(thing)
            for _, thing in sorted(self.things.items())
            if thing.backend in backends and not self._omitted(thing)
        )
        return Observed(sandboxes=sandboxes, failures=failures)

    def _omitted(self, thing: Thing) -> bool:
        if not self._odds(self.chaos.listing_omits):
            return False
        if thing.owner is not None:
            self.lies[thing.owner.address] += 1
        return True

    def _seen(self, thing: Thing) -> ObservedSandbox:
        return ObservedSandbox(
            info=thing.info,
            backend=thing.backend,
            phase=thing.phase,
            owner=thing.owner,
            attributes=None if CAPABILITIES[thing.backend].relabels else thing.flat,
        )

    def _odds(self, chance: float) -> bool:
        return chance > 0 and self.rng.random() < chance

    # -- one apply -----------------------------------------------------------------------------------------------

    def apply(
        self,
        desired: Desired,
        state: State | None,
        *,
        destroy: bool = False,
        crash_after: int | None = None,
        limits: Limits | None = None,
        selection: Selection | None = None,
    ) -> tuple[State, Run]:
        """Plan and carry out, and take back what failed, as the workflow does. Raises what `make_plan` raises.
        `crash_after` answers the run is killed."""
        chosen = selection or Selection(destroy=destroy)
        state, plan = self.plan(desired, state, chosen)
        self._wake()
        base = state or State(stack=desired.stack, lineage=plan.lineage)
        if plan.refusals:
            return base, Run(plan, refused=True)
        limits = limits or Limits(parallelism=16, retry_budget=1000)
        self._expect({} if chosen.destroy else desired.sandboxes, plan, base)
        entries, run = self._carry_out(plan, crash_after, limits)
        after = replace(fold_all(base, entries), serial=base.serial + 1)
        back = None if run.crashed else reversal(plan, run.results, state, desired)
        if back is None or not back.selection.targets:
            return after, run
        try:
            _, again = self.plan(back.desired, after, back.selection)
        except ObservationIncomplete:
            return after, run  # the next run goes on with it
        again = replace(again, steps=reverting(again.steps), refusals=())
        self._expect(back.desired.sandboxes, again, after)
        entries, run.back = self._carry_out(again, None, limits)
        return replace(fold_all(after, entries), serial=after.serial + 1), run

    def plan(
        self, desired: Desired, state: State | None, selection: Selection = Selection()
    ) -> tuple[State | None, Plan]:
        """The state with its records moved, and the plan made on it."""
        moved, _ = moved_state(state, desired.moved)
        # the state remembers every backend that was used
        observed = self.look(set(CAPABILITIES)) if selection.refresh else as_recorded(moved, CAPABILITIES)
        options = PlanOptions(
            new_lineage="lineage-1", capabilities=CAPABILITIES, selection=selection, now=self.now
        )
        return moved, make_plan(desired, state, observed, options)

    def _wake(self) -> None:
        for thing in self.things.values():
            if not thing.phase.is_dead:
                continue
            self._die(thing)
            if self._odds(self.chaos.wakes):
                thing.phase = Phase.STARTING
                thing.ready_at = NEVER if self._odds(0.3) else self.now + self.rng.uniform(0.1, 3)

    def _expect(self, declared: Mapping[Address, DesiredSandbox], plan: Plan, state: State) -> None:
        """Note for each sandbox whose new one comes first which ones count as its successors."""
        first = {address for address, wanted in declared.items() if wanted.lifecycle.create_first}
        self.may_be_two |= first
        recorded = {a: r.sandbox_id for a, r in state.sandboxes.items() if r.status is Status.READY}
        self.answered |= set(recorded.values()) - self.fallen
        own = {step.address: step for step in plan.steps if step.reason is not Reason.SUPERSEDED}
        self.successors, self.watched = {}, {}
        for address in first:
            step = own.get(address)
            known = {recorded[address]} if address in recorded else set()
            broken = step is not None and step.action in (Action.REPAIR, Action.CREATE)
            if step is not None and (step.reason is Reason.DEAD or step.rungs) and step.current is not None:
                known, broken = {step.current.info.sandbox_id}, False  # unless it runs again and answers
            self.successors[address] = ({step.sandbox_id} if step else set()) | (set() if broken else known)
        self.proven = (
            self.proven & state.sandboxes.keys()
        ) | recorded.keys()  # what was removed is new again
        self.counts_as = {record.sandbox_id: address for address, record in state.sandboxes.items()}
        self.counts_as |= {s.current.info.sandbox_id: s.address for s in plan.steps if s.current is not None}
        if self.chaos.dies or not plan.selection.refresh:
            return  # what dies in the middle, or was not looked at, cannot be reckoned with
        for group in {rollout.group for rollout in plan.rollouts}:
            members = [sandbox for sandbox in declared.values() if sandbox.group == group]
            missed = self.proven & {sandbox.address for sandbox in members}
            may = next(sandbox.rollout for sandbox in members if sandbox.rollout is not None)
            # by what is declared, never by what the plan says of itself
            self.watched[group] = (may.at_once(len(members)), missed, missed - recorded.keys())

    def _carry_out(self, plan: Plan, crash_after: int | None, limits: Limits) -> tuple[list[Entry], Run]:
        scheduler = Scheduler(plan, limits, self.rng.random)
        ledger = Ledger(plan, CAPABILITIES)
        entries: list[Entry] = []
        ended: Counter[str] = Counter()
        answers: list[tuple[float, int, Call, Answer]] = []
        asked: dict[int, Call] = {}
        answered, most, begun = 0, 0, self.now
        while True:
            calls = scheduler.due(self.now)
            for event in scheduler.events():
                if isinstance(event, StepEnded):
                    ended[event.key] += 1
                    entries += ledger.verdicts(event, self.now)
            entries += ledger.intents(calls, self.now)
            for call in calls:
                asked[call.id] = call
                self._start(call, ledger, answers)
            most = max(most, scheduler.verbs_in_flight)
            if scheduler.done or (crash_after is not None and answered >= crash_after):
                # what a killed run asked for last may land after the next one has looked
                for call in asked.values():
                    self.lies[call.step.address] += call.kind is CallKind.CREATE and call.step.create_first
                    if call.kind not in (CallKind.CHECK, CallKind.PROBE, CallKind.RECORD):
                        self.excused.add(call.step.address)
                return entries, Run(
                    plan, scheduler.results(), ended, not scheduler.done, self.now - begun, most
                )
            self._sleep(scheduler, answers)
            while answers and answers[0][0] <= self.now:
                _, _, call, answer = heapq.heappop(answers)
                answered += 1
                asked.pop(call.id, None)
                entries += ledger.outcomes(call, answer, self.now)
                scheduler.result(call, answer, self.now)

    def _sleep(self, scheduler: Scheduler, answers: list[tuple[float, int, Call, Answer]]) -> None:
        wake = scheduler.wake(self.now)
        times = [answers[0][0]] if answers else []
        times += [self.later[0][0]] if self.later else []
        times += [wake] if wake is not None else []
        assert times, "the scheduler is not done, yet nothing will ever happen"
        self.pass_time(max(self.now, min(times)))

    def pass_time(self, until: float) -> None:
        """Let everything land that lands until then, in order."""
        while self.later and self.later[0][0] <= until:
            at, _, effect = heapq.heappop(self.later)
            self.now = max(self.now, at)
            effect()
        self.now = max(self.now, until)

    # -- calls ---------------------------------------------------------------------------------------------------

    def _start(self, call: Call, ledger: Ledger, answers: list[tuple[float, int, Call, Answer]]) -> None:
        """Decide now what will happen; effects land in the middle of the call, its answer comes at the end."""
        self.serial += 1
        self.verbs[call.kind] += 1
        if call.kind is CallKind.DESTROY:
            self._check_successor(call)
        took = self.rng.uniform(0.001, 0.05)
        if self._odds(self.chaos.slow):
            took = self.rng.uniform(5, 60)
        if call.kind is CallKind.PROBE:
            heapq.heappush(answers, (self.now + 0.001, self.serial, call, self._probe(call)))
            return
        answer = Answer()
        lands = True
        if self._odds(self.chaos.transient):
            answer, lands = Answer(error="engine busy", transient=True), self._odds(0.5)
        elif self._odds(self.chaos.permanent):
            answer, lands = Answer(error="refused for good"), self._odds(0.3)
        silent = self._odds(self.chaos.silent)
        if silent:
            took, lands = self.rng.uniform(1, 900), self._odds(0.5)
            self.lies[call.step.address] += 1  # its effect may land long after everybody gave up on it
            self.excused.add(call.step.address)
        box: dict[str, Answer] = {}
        if lands:
            self._land(self.now + took / 2, lambda: box.update(answer=self._effect(call, ledger)))
        at = self.now + took

        def deliver() -> None:
            final = answer if answer.error else box.get("answer", Answer())
            heapq.heappush(answers, (at, call.id, call, final))

        if not silent:
            self._land(at, deliver)

    def _check_successor(self, call: Call) -> None:
        """What runs and is to go after its successor goes when that has answered, and never before."""
        step = call.step
        if step.reason is Reason.DEAD and not step.changes:
            assert call.info is not None
            assert call.info.sandbox_id not in self.answered, (
                f"{step.key}: it runs again, and goes all the same"
            )
        if step.current is None or step.current.phase.is_dead or step.current.phase is Phase.PAUSED:
            return
        if step.create_first:
            assert step.sandbox_id in self.answered, (
                f"{step.key}: the old one goes before the new one is ready"
            )
        elif step.reason is Reason.SUPERSEDED and step.address in self.successors:
            ready = self.successors[step.address] & self.answered - {step.sandbox_id}
            assert ready, f"{step.key}: a leftover goes before {self.successors[step.address]} was ready"

    def _land(self, at: float, effect: Callable[[], None]) -> None:
        self.serial += 1
        heapq.heappush(self.later, (at, self.serial, effect))

    def _effect(self, call: Call, ledger: Ledger) -> Answer:
        served = self.serves(call.step.address)
        answer = self._act(call, ledger)
        if served and not self.serves(call.step.address):
            self._check_taken_down(call)
        return answer

    def serves(self, address: Address) -> bool:
        """Whether something of that address answers right now."""
        return any(
            t.owner is not None
            and self.counts_as.get(identity, t.owner.address) == address
            and not t.phase.is_dead
            and self.now >= t.ready_at
            for identity, t in self.things.items()
        )

    def _check_taken_down(self, call: Call) -> None:
        """What a call took down may be one of those that may be away, and never the old one whose new one comes
        first. Where runs were killed again and again, more may be unproven than may be away: nobody can tell then which
        of those serve."""
        address = call.step.address
        if address in self.excused:
            return
        assert not call.step.create_first, f"{call.step.key}: nothing of it is ready any more"
        for group, (at_once, members, unproven) in self.watched.items():
            if address not in members or (address in unproven and len(unproven) > at_once):
                continue
            away = {a for a in members if not self.serves(a)} - self.excused
            assert len(away) <= at_once, (
                f"{group}: {sorted(away)} are away, {call.kind} {address} at {self.now}"
            )

    def _act(self, call: Call, ledger: Ledger) -> Answer:
        if call.kind is CallKind.CHECK:
            assert call.info is not None
            thing = self.things.get(call.info.sandbox_id)
            return Answer(seen=None if thing is None else self._seen(thing))
        if call.kind is CallKind.DESTROY:
            return self._destroy(call)
        if call.kind is CallKind.RECORD:
            return Answer(info=call.info)
        spec = ledger.spec_of(call)
        if call.kind is CallKind.RESTART:
            return self._restart(call, spec)
        return self._create(call, spec) if call.kind is CallKind.CREATE else self._update(call, spec)

    def _restart(self, call: Call, spec: SandboxSpec) -> Answer:
        assert call.info is not None
        thing = self.things.get(call.info.sandbox_id)
        if thing is None:
            return Answer(error="no such sandbox")
        thing.flat, thing.owner = (
            dict(spec.canonical()),
            spec.owner,
        )  # it is started with what it is said to be made from
        thing.phase = Phase.STARTING
        thing.ready_at = self._ready_again()
        self.answered.discard(thing.info.sandbox_id)
        return Answer(info=thing.info)

    def _ready_again(self) -> float:
        return NEVER if self._odds(self.chaos.never_ready) else self.now + self.rng.uniform(0.1, 3)

    def _create(self, call: Call, spec: SandboxSpec) -> Answer:
        assert spec.owner is not None
        identity = call.step.sandbox_id
        there = self.things.get(identity)
        if there is not None:
            same = there.owner == spec.owner
            return Answer(info=there.info) if same else Answer(error=f"{identity} is taken")
        self.creations += 1
        info = SandboxInfo(
            sandbox_id=identity,
            sandbox_url=f"http://{identity}:{self.creations}",
            container_id=f"c{self.creations}",
            created_at=self.now,
        )
        ready_at = self._ready_again()
        flat = dict(spec.canonical())
        thing = Thing(backend=call.backend, info=info, owner=spec.owner, ready_at=ready_at, flat=flat)
        self.things[identity] = thing
        self.answered.discard(identity)
        address = spec.owner.address
        ours = (address, spec.owner.lineage)
        alive = sum(
            t.owner is not None and (t.owner.address, t.owner.lineage) == ours for t in self.things.values()
        )
        self.most_alive[address] = max(self.most_alive[address], alive - self.lies[address])
        if self._odds(self.chaos.dies):
            self._land(self.now + self.rng.uniform(0, 5), lambda: self._die(thing))
        return Answer(info=info)

    def _die(self, thing: Thing) -> None:
        thing.phase = thing.phase if thing.phase.is_dead else Phase.FAILED
        self.answered.discard(thing.info.sandbox_id)
        self.fallen.add(thing.info.sandbox_id)

    def _update(self, call: Call, spec: SandboxSpec) -> Answer:
        assert call.info is not None
        thing = self.things.get(call.info.sandbox_id)
        if thing is None:
            return Answer(error="no such sandbox")
        thing.flat = dict(spec.canonical())
        if CAPABILITIES[thing.backend].relabels:
            thing.owner = spec.owner
        if self._odds(self.chaos.update_hurts):
            thing.ready_at = self._ready_again()
        return Answer(info=thing.info)

    def _destroy(self, call: Call) -> Answer:
        assert call.info is not None
        if self._odds(self.chaos.destroy_lies):
            self.lies[call.step.address] += 1
            return Answer()
        self.things.pop(call.info.sandbox_id, None)
        return Answer()

    def _probe(self, call: Call) -> Answer:
        assert call.info is not None
        thing = self.things.get(call.info.sandbox_id)
        if thing is None:
            return Answer(dead=True, detail="it is gone")
        if thing.phase.is_dead:
            return Answer(dead=True, detail="exit code 1")
        ready = self.now >= thing.ready_at
        if ready:
            self.answered.add(thing.info.sandbox_id)
            self.fallen.discard(thing.info.sandbox_id)
        return Answer(ready=ready, detail="connection refused")
