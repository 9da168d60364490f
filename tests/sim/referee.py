"""The referee of a simulated hour: what a watch may do and has to tell, judged by what was listed, declared and asked, and
never by what the watch says of itself.

Where it cannot know as exactly as the watch it is the more lenient one. Fouls are collected: most of them are found in the
middle of somebody's call, where nobody would see them raised.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, field

from reconciler.model.desired import FlatSpec, SandboxSpec
from reconciler.model.lifecycle import DriftPolicy
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.state import SandboxRecord, Status
from reconciler.model.watching import (
    Corrected,
    IncidentClosed,
    IncidentKind,
    IncidentOpened,
    Looked,
    WatchEvent,
    WatchStopped,
)
from tests.sim.declared import Box, Layout
from tests.sim.fair import Fair
from tests.sim.script import Hour
from tests.sim.shaky import Shaky, ShakyStore
from tests.sim.timeline import WATCH, Timeline

RUNS = (Phase.STARTING, Phase.READY, Phase.UNREADY)
_MUTATES = ("create", "destroy", "update", "restart")
_ENDS = 0.3  # seconds from when it is asked to end until it has
_RUN_ENDS = 0.8  # the same in the middle of a run: what is under way ends, and its coordinator asks for the time meanwhile
_BUSY_MINUTE = 45  # looks that no event caused: what does not answer is asked every two seconds


class Whistle(Exception):
    """There was a foul: the rest of the hour says nothing."""


class Session(Struct):
    """While the watch holds the lock: what is told of each address that it touches, once."""

    since: float
    troubled: bool = False  # nobody can tell how far it came
    touched: set[str] = field(default_factory=set)
    worked: set[str] = field(default_factory=set)


class Referee:
    """`fouls` are what broke a rule, each with its time; the rest is for telling how much was lived through."""

    def __init__(self, hour: Hour, timeline: Timeline) -> None:
        self.hour = hour
        self.fouls: list[str] = []
        self.tally: Counter[str] = Counter()
        self.story: list[str] = []
        self.layout = hour.layout
        self.open: dict[str, float] = {}
        self._unread = False  # the store's incident is about reading: what can be read is well again
        self.applied: dict[str, FlatSpec] = {}  # by address, as a person last asked for it
        self.fair: dict[str, Fair] = defaultdict(lambda: Fair(hour.damping))
        self.probes: dict[str, deque[bool]] = defaultdict(lambda: deque(maxlen=hour.damping.of))
        self.listings: dict[str, Mapping[str, ObservedSandbox] | None] = {}
        self.session: Session | None = None
        self.asked_to_end = 0.0
        self._patience = _ENDS
        self._time = timeline
        self._begun = timeline.time
        self._began = self._asked = False
        self._looks: deque[float] = deque()
        self._corrections: deque[float] = deque()

    def sees(self, backends: Mapping[str, Shaky], store: ShakyStore) -> None:
        self._backends, self._store = backends, store

    # -- telling

    def note(self, what: str) -> None:
        self.story.append(f"{self._time.time - self._begun:8.2f} {what}")

    def foul(self, what: str) -> None:
        self.fouls.append(f"at {self._time.time - self._begun:.2f}: {what}")
        self.note(f"FOUL {what}")

    def looks_in(self) -> None:
        """Whenever the watch waits."""
        held = self._store.lock_info()
        if held is not None and held.operation == WATCH:
            self.foul("it waits, and has the lock")
        if self.fouls:
            raise Whistle

    # -- the hour

    def begins(self) -> None:
        self._begun = self._time.time
        self._began = True
        self.note("begins")

    def quiet(self) -> None:
        """From now on nothing happens any more."""
        self.note("quiet")
        damping = self.hour.damping
        soon = self.hour.interval * 1.1 + damping.failures * damping.probe_again + 60.0
        calm = {name for name, fair in self.fair.items() if fair.is_calm(self._time.time)}
        self._time.at(self._time.time + soon, lambda: self._insist_healed(calm))

    def finish(self) -> None:
        self.note("ends")
        self._insist_healed(None)
        self._insist_agrees()
        self._insist_told()
        self.asked_to_end = self._time.time
        self._patience = _ENDS if self.session is None else _RUN_ENDS

    def ended(self) -> None:
        if self.session is not None:
            self.foul("it ended with the lock in its hands")

    # -- what the watch reads, and people do

    def opened(self, layout: Layout) -> None:
        self.layout = layout
        self.note("reads the configuration")
        if self._asked:
            for fair in self.fair.values():
                fair.may_be_forgiven()
        self._asked = False
        declared = {box.name for box in layout.boxes}
        for address in [address for address in self.fair if address not in declared]:
            self.fair[address].forgive()

    def asked(self) -> None:
        """A person asks for everything to be tried again, which is done when the configuration is read."""
        self._asked = True

    def stolen(self) -> None:
        self.note("its lock is taken from it")
        if self.session is not None:
            self.session.troubled = True

    def boxes(self) -> dict[str, Box]:
        return {box.name: box for box in self.layout.boxes}

    # -- witness of the backends and the store

    def locked(self) -> None:
        self.session = Session(since=self._time.time)

    def unlocked(self) -> None:
        session, self.session = self.session, None
        if session is None:
            return
        for address in session.touched:
            worked = address in session.worked
            self.fair[address].tried(
                self._time.time, sure=worked and not session.troubled, perhaps=worked or session.troubled
            )

    def unwritten(self) -> None:
        if self._time.actor == WATCH and self.session is not None:
            self.session.troubled = True

    def listed(self, backend: str, found: Sequence[ObservedSandbox] | None) -> None:
        if self._time.actor == WATCH:
            self.listings[backend] = None if found is None else {seen.info.sandbox_id: seen for seen in found}

    def probed(self, sandbox_id: str, answers: bool) -> None:
        self.probes[sandbox_id].append(answers)

    def acts(self, backend: str, verb: str, address: str, spec: SandboxSpec | None) -> None:
        if self._time.actor != WATCH or not self._began:
            if verb in _MUTATES:
                self._by_a_person(verb, address, spec)
            return
        if verb in _MUTATES:
            self.note(f"{verb} {address}")
            self.tally[verb] += 1
        if self.session is None:
            self.foul(f"{verb} {address} without the lock")
            return
        if address not in self.session.touched:
            self.session.touched.add(address)
            for what in self._objections(address):
                self.foul(f"{verb} {address}: {what}")
        if verb in _MUTATES:
            self._forget_probes(address)
        if spec is not None and not self._is_as_applied(address, spec):
            self.foul(f"{verb} {address} as nobody applied it: {spec.image}, {spec.resources}")

    def _by_a_person(self, verb: str, address: str, spec: SandboxSpec | None) -> None:
        if self._began:
            self.note(f"a person: {verb} {address}")
        before = self.applied.get(address)
        if spec is not None:
            self.applied[address] = _plain(spec.canonical())
        if before == self.applied.get(address):
            self.fair[address].may_be_forgiven()
        else:
            self.fair[address].forgive()

    def _is_as_applied(self, address: str, spec: SandboxSpec) -> bool:
        return _plain(spec.canonical()) == self.applied.get(address)

    def _forget_probes(self, address: str) -> None:
        record = self.records().get(address)
        if record is not None:
            self.probes[record.sandbox_id].clear()

    # -- the rules of acting

    def _objections(self, address: str) -> Iterator[str]:
        """What speaks against touching it now."""
        box = self.boxes().get(address)
        if box is None:
            yield "it is not declared"
            return
        if box.drift is not DriftPolicy.CORRECT:
            yield f"its policy is {box.drift}"
        hidden = [name for name in (address, *self._needs(address)) if self._is_hidden(name)]
        if hidden:
            yield f"nobody could see {', '.join(hidden)}"
        wrong = self.fair[address].objection(self._time.time)
        if wrong:
            yield wrong
        if self._seems_well(address) and not self._is_silent(address) and not self._follows(address):
            yield f"it runs as it was applied, and its probes were {list(self.probes[self.records()[address].sandbox_id])}"
        if f"{IncidentKind.DRIFT}:{address}" not in self.open and not self._follows(address):
            yield "nobody was told of its drift"
        limit, drifted, fleet = self.layout.most_drift, self._drifted(), self._fleet()
        if limit is not None and drifted >= 2 and drifted * 100 > limit * fleet:
            yield f"{drifted} of {fleet} drifted, and the limit is {limit}%"

    def records(self) -> Mapping[str, SandboxRecord]:
        state = self._store.truth()
        return {} if state is None else {str(a): r for a, r in state.sandboxes.items()}

    def _needs(self, address: str) -> list[str]:
        """All that it needs, directly or not."""
        boxes, found, todo = self.boxes(), [], [address]
        while todo:
            box = boxes.get(todo.pop())
            if box is not None and box.needs in boxes and box.needs not in found:
                found.append(box.needs)
                todo.append(box.needs)
        return found

    def _follows(self, address: str) -> bool:
        box = self.boxes().get(address)
        return box is not None and box.refers and bool(box.needs)

    def _is_hidden(self, address: str) -> bool:
        record = self.records().get(address)
        return record is not None and self.listings.get(record.backend) is None

    def _seen(self, record: SandboxRecord) -> ObservedSandbox | None:
        return (self.listings.get(record.backend) or {}).get(record.sandbox_id)

    def _looks_well(self, record: SandboxRecord) -> bool:
        """As far as the last listing shows."""
        seen = self._seen(record)
        return (
            seen is not None
            and seen.phase in RUNS
            and _plain(seen.attributes or {}) == _plain(record.spec)
            and seen.owner is not None
        )

    def _seems_well(self, address: str) -> bool:
        record = self.records().get(address)
        return record is not None and record.status is Status.READY and self._looks_well(record)

    def _is_silent(self, address: str) -> bool:
        record = self.records().get(address)
        probes = self.probes[record.sandbox_id] if record else deque[bool]()
        return probes.count(False) >= self.hour.damping.failures and not probes[-1]

    def _drifted(self) -> int:
        """How many of what is declared, and can be judged, are not there as recorded; who does not answer left out."""
        boxes, records = self.boxes(), self.records()
        judged = [
            name
            for name in boxes
            if name in records and not any(self._is_hidden(one) for one in (name, *self._needs(name)))
        ]
        ended = (records[name] for name in judged if records[name].status is Status.READY)
        return sum(self._ended(record) for record in ended)

    def _ended(self, record: SandboxRecord) -> bool:
        seen = self._seen(record)
        if seen is None or seen.phase.is_dead or seen.phase is Phase.PAUSED:
            return True
        return seen.phase in RUNS and not self._looks_well(record)

    def _fleet(self) -> int:
        live = {
            seen.owner.address
            for found in self.listings.values()
            for seen in (found or {}).values()
            if seen.owner is not None
        }
        return len({*self.records(), *live})

    # -- the rules of telling

    def told(self, event: WatchEvent) -> None:
        match event:
            case IncidentOpened(incident=incident):
                self.note(f"+ {incident.key} {incident.summary}")
                self.tally["incidents"] += 1
                if incident.key in self.open:
                    self.foul(f"{incident.key} is told again")
                self.open[incident.key] = self._time.time
                if incident.kind is IncidentKind.STORE:
                    self._unread = self._store.unreadable
                self._check_opened(incident.kind, incident.subject)
            case IncidentClosed(incident=incident, how=how):
                self.note(f"- {incident.key} {how}")
                if incident.key not in self.open:
                    self.foul(f"{incident.key} is over, and nobody was told of it")
                self.open.pop(incident.key, None)
                self._check_closed(incident.kind, incident.subject)
            case Corrected():
                self.tally["corrections"] += 1
                self.note(f"corrected {event.address} ({event.reason}, {event.action}) {event.error}")
                self._corrections.append(self._time.time)
                if event.ok and self.session is not None:
                    self.session.worked.add(event.address)
            case Looked():
                self._looked(event)
            case WatchStopped():
                if self.asked_to_end and self._time.time > self.asked_to_end + self._patience:
                    self.foul(f"it ended {self._time.time - self.asked_to_end:.2f}s after it was asked to")
            case _:
                pass

    def _looked(self, event: Looked) -> None:
        self.tally["looks"] += 1
        now = self._time.time
        for address, record in self.records().items():
            if self.listings.get(record.backend) is not None:
                box = self.boxes().get(address)
                sure = box is not None and not box.asks and not box.refers
                self.fair[address].seen(self._looks_well(record), now, sure=sure)
        if event.trigger == "event":
            return
        self._looks.append(now)
        for times in (self._looks, self._corrections):
            while times and times[0] < now - 60.0:
                times.popleft()
        if len(self._looks) > _BUSY_MINUTE + 5 * len(self._corrections):
            self.foul(f"{len(self._looks)} looks in a minute, and {len(self._corrections)} corrections")

    def _check_opened(self, kind: IncidentKind, subject: str) -> None:
        match kind:
            case IncidentKind.DRIFT if self._seems_well(subject) and not self._is_silent(subject):
                if not self._follows(subject):
                    self.foul(f"{subject} is said to have drifted, and is as it was applied")
            case IncidentKind.GAVE_UP if not self.fair[subject].may_give_up:
                self.foul(f"{subject} is given up after {self.fair[subject].count} corrections")
            case IncidentKind.BACKEND if self.listings.get(subject) is not None:
                self.foul(f"{subject} can be looked at")

    def _check_closed(self, kind: IncidentKind, subject: str) -> None:
        match kind:
            case IncidentKind.DRIFT | IncidentKind.REFUSED if subject:
                self._check_over(kind, subject)
            case IncidentKind.BACKEND if self.listings.get(subject, {}) is None:
                self.foul(f"{subject} cannot be looked at")
            case IncidentKind.STORE if self._store.unreadable or (
                not self._unread and (self._store.full or self._store.unsaved)
            ):
                self.foul("the store works again, it says")

    def _check_over(self, kind: IncidentKind, subject: str) -> None:
        record = self.records().get(subject)
        box = self.boxes().get(subject)
        if box is not None and record is not None and box.drift is not DriftPolicy.IGNORE:
            if not self._looks_well(record) and f"{_other(kind)}:{subject}" not in self.open:
                self.foul(f"the drift of {subject} is over, and it is not well")
        elif (
            subject not in self.boxes()
            and any(
                seen.owner is not None and seen.owner.address == subject
                for backend in self._backends.values()
                for seen in backend.everything()
            )
            and record is None
        ):
            self.foul(f"{subject} is over, and it is still there")

    # -- in the end

    def _insist_healed(self, calm: set[str] | None) -> None:
        """`calm` None: all that can be healed; else of those, and of what never was corrected."""
        if self._trips():
            return
        for address in self.boxes():
            if calm is not None and address in self.fair and address not in calm:
                continue
            if self._heals(address) and not self._is_well(address):
                self.foul(f"{address} was never put back: {self._how_it_is(address)}")

    def _trips(self) -> bool:
        limit = self.layout.most_drift
        boxes = self.boxes()
        records = self.records()
        drifted = [name for name in boxes if name in records and not self._is_well(name)]
        return limit is not None and len(drifted) >= 2 and len(drifted) * 100 > limit * self._fleet()

    def _heals(self, address: str) -> bool:
        """Whether the watch may, and can, put it back."""
        box, record = self.boxes()[address], self.records().get(address)
        if box.drift is not DriftPolicy.CORRECT or record is None or self.fair[address].may_give_up:
            return False
        needed = [name for name in self._needs(address)[:1] if name in self.records()]
        return not box.protected and all(self._stands(name) or self._heals(name) for name in needed)

    def _stands(self, address: str) -> bool:
        """Really: it runs and answers, whatever else it is like."""
        record = self.records()[address]
        backend = self._backends[record.backend]
        seen = next((s for s in backend.everything() if s.info.sandbox_id == record.sandbox_id), None)
        answers = record.sandbox_id not in backend.deaf or not self.boxes()[address].asks
        return seen is not None and record.status is Status.READY and seen.phase in RUNS and answers

    def _is_well(self, address: str) -> bool:
        """Really: it is there, runs, answers, and is as it was applied."""
        record = self.records().get(address)
        if record is None:
            return False
        backend = self._backends[record.backend]
        seen = next((s for s in backend.everything() if s.info.sandbox_id == record.sandbox_id), None)
        return (
            seen is not None
            and record.status is Status.READY
            and seen.phase in RUNS
            and (record.sandbox_id not in backend.deaf or not self.boxes()[address].asks)
            and _plain(seen.attributes or {}) == self.applied.get(address) == _plain(record.spec)
        )

    def _how_it_is(self, address: str) -> str:
        record = self.records().get(address)
        if record is None:
            return "it is not recorded"
        everything = self._backends[record.backend].everything()
        seen = next((s for s in everything if s.info.sandbox_id == record.sandbox_id), None)
        return f"recorded as {record.status} {record.error}, it is {seen and seen.phase} {seen and seen.attributes}, applied {self.applied.get(address)}"

    def _insist_agrees(self) -> None:
        """No orphan, no duplicate, nothing lost."""
        records = self.records()
        there: Counter[str] = Counter()
        for name, backend in self._backends.items():
            for seen in backend.everything():
                address = "" if seen.owner is None else str(seen.owner.address)
                if address.startswith("stray"):
                    continue
                there[address] += 1
                record = records.get(address)
                known = record is not None and (record.backend, record.sandbox_id) == (
                    name,
                    seen.info.sandbox_id,
                )
                if not known and not self._may_be_left(address):
                    self.foul(f"{address}: {seen.info.sandbox_id} is there, and not recorded")
        for address, count in there.items():
            if count > 1 and not self._may_be_left(address):
                self.foul(f"{address} is there {count} times")

    def _may_be_left(self, address: str) -> bool:
        """What is not put back any more is left half way."""
        return self._trips() or address not in self.boxes() or not self._heals(address)

    def _insist_told(self) -> None:
        """What is open is really so, and what is so is open."""
        for key in self.open:
            kind, _, subject = key.partition(":")
            if kind in ("backend", "store", "configuration"):
                self.foul(f"{key} is not over, and nothing is wrong there")
            if kind == "fleet" and not self._trips():
                self.foul(f"{key} is not over")
            stale = self._follows(subject) and not self._heals(subject)  # it may refer to what was
            if (
                kind in ("drift", "gave_up")
                and not stale
                and (subject not in self.boxes() or self._is_well(subject))
            ):
                self.foul(f"{key} is not over, and it is well")
            if key == "refused:" and not any(k.startswith(("drift", "gave_up", "fleet")) for k in self.open):
                self.foul(f"{key} is not over, and nothing drifted")
        for address, box in self.boxes().items():
            told = {f"drift:{address}", f"refused:{address}"} & self.open.keys()
            if box.drift is DriftPolicy.IGNORE:
                if told:
                    self.foul(f"{address} is to be ignored, and is told of")
            elif address in self.records() and not self._is_well(address) and not told:
                self.foul(f"nobody was told that {address} drifted: {self._how_it_is(address)}")


def _plain(flat: FlatSpec) -> FlatSpec:
    """Without what refers to another, which follows that one."""
    return {path: value for path, value in flat.items() if not path.startswith("environment.PEER")}


def _other(kind: IncidentKind) -> IncidentKind:
    return IncidentKind.REFUSED if kind is IncidentKind.DRIFT else IncidentKind.DRIFT
