"""What a watch decides from one look after another: what to correct now, what is wrong, and what is over. Pure.

Knows nothing but what the looks show, so an event that was missed costs nothing. Nothing is decided about what a look did
not show, and each incident is told once when it begins and once when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct, field

from reconciler.core.damping import Damping, Patient
from reconciler.core.drift import correctable
from reconciler.model.desired import Address
from reconciler.model.drift import Cause, Drift
from reconciler.model.lifecycle import DriftPolicy
from reconciler.model.watching import Incident, IncidentClosed, IncidentKind, IncidentOpened

Told = IncidentOpened | IncidentClosed
_OF_DRIFT = (IncidentKind.DRIFT, IncidentKind.REFUSED)


class Sight(Struct, frozen=True, kw_only=True):
    """What one look showed. `drifts` are all there are, `there` the objects that are as they were applied, by address to
    sandbox id. `unseen` are addresses nobody can tell anything of: a backend did not answer, `failures` says which and why.
    `refusals` are reasons why nothing may be corrected in one go (too many at once), each in a sentence."""

    drifts: Sequence[Drift] = ()
    there: Mapping[Address, str] = field(default_factory=dict)
    unseen: Collection[Address] = frozenset()
    failures: Mapping[str, str] = field(default_factory=dict)
    refusals: Sequence[str] = ()


class Verdict(Struct, frozen=True, kw_only=True):
    """`due` is to be corrected now; `waiting` drifted, may be corrected, and is not due. `told` is what began and ended."""

    due: frozenset[Address] = frozenset()
    waiting: frozenset[Address] = frozenset()
    told: tuple[Told, ...] = ()


class Vigil(Struct):
    """`jitter` gives numbers from 0 to 1. Wall times (`at`) are for people, `now` is of a steady clock."""

    damping: Damping = field(default_factory=Damping)
    jitter: Callable[[], float] = lambda: 1.0
    patients: dict[Address, Patient] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    _seen: dict[Address, Drift] = field(default_factory=dict)
    _there: frozenset[Address] | None = None  # nobody has looked yet
    _where: dict[Address, str] = field(default_factory=dict)  # the backends of what drifted
    _specs: dict[Address, str] = field(default_factory=dict)
    _probed_at: float = 0.0

    # -- looking

    def recorded(self, specs: Mapping[Address, str]) -> None:
        """What is recorded now, by address to the fingerprint of its specification. Who has another one than was `noted`, or
        recorded before, was taken care of by a person."""
        self.forgive(address for address, spec in specs.items() if self._specs.get(address, spec) != spec)
        self._specs = dict(specs)

    def noted(self, specs: Mapping[Address, str]) -> None:
        """What a correction has left recorded: no person did that."""
        self._specs = dict(specs)

    def probed(self, address: Address, sandbox_id: str, answers: bool, now: float) -> None:
        self._probed_at = now
        patient = self._patient(address)
        patient.identified(sandbox_id)
        patient.probed(answers)

    def not_asked(self, addresses: Iterable[Address]) -> None:
        """These could be seen, and there was nobody to ask: what was heard before says nothing any more."""
        for address in addresses:
            if address in self.patients:
                self.patients[address].unheard()

    @property
    def suspects(self) -> frozenset[Address]:
        """What is to be asked again before anything can be said of it."""
        found = frozenset(address for address, patient in self.patients.items() if patient.suspect)
        return found if self._there is None else found & self._there

    @property
    def silent(self) -> frozenset[Address]:
        """What runs and was probed in vain, again and again."""
        return frozenset(address for address, patient in self.patients.items() if patient.silent)

    def looked(self, sight: Sight, now: float, at: float) -> Verdict:
        self._seen = {drift.address: drift for drift in sight.drifts}
        self._there = frozenset(sight.there)
        self._where = {a: name for a, name in self._where.items() if a not in sight.there}
        self._where |= {drift.address: drift.backend for drift in sight.drifts}
        for address, sandbox_id in sight.there.items():
            patient = self._patient(address)
            patient.identified(sandbox_id)
            patient.well(now)
        for drift in sight.drifts:
            self._patient(drift.address).drifted(now)
        self._forget(sight)
        correct = [drift for drift in sight.drifts if correctable(drift)]
        ready = {d.address for d in correct if self.patients[d.address].may_be_corrected(now)}
        told = tuple(self._tell(sight, at))
        due = frozenset() if sight.refusals else frozenset(ready)
        return Verdict(due=due, waiting=frozenset(d.address for d in correct) - due, told=told)

    def _forget(self, sight: Sight) -> None:
        """Those that are not declared any more. What cannot be seen is not gone."""
        known = {*self._seen, *sight.there, *sight.unseen}
        for address in [address for address in self.patients if address not in known]:
            del self.patients[address]
        spoken_of = known | {incident.subject for incident in self.incidents.values()}
        self._where = {address: name for address, name in self._where.items() if address in spoken_of}

    def concerns(self, sight: Sight, now: float) -> bool:
        """Whether there is anything to do about it or to tell that was not told: then it has to be certain that nobody else
        is at work there."""
        return any(self._concerns(drift, now) for drift in sight.drifts)

    def _concerns(self, drift: Drift, now: float) -> bool:
        if drift.policy is DriftPolicy.IGNORE:
            return False
        if not {f"{kind}:{drift.address}" for kind in _OF_DRIFT} & self.incidents.keys():
            return True
        patient = self.patients.get(drift.address)
        return correctable(drift) and (patient is None or patient.may_be_corrected(now))

    # -- correcting

    def corrected(
        self, addresses: Iterable[Address], now: float, *, failed: Collection[Address] = ()
    ) -> None:
        """A correction of these has ended, of those that `failed` not well."""
        for address in addresses:
            self._patient(address).corrected(now, self.jitter(), worked=address not in failed)

    def put_off(self, addresses: Iterable[Address], now: float) -> None:
        """A correction of these could not be brought to its end, through no fault of theirs: they wait as after one, and it
        counts for nothing else."""
        for address in addresses:
            self._patient(address).put_off(now, self.jitter())

    def resting(self, now: float) -> frozenset[Address]:
        """What must not be corrected now, whatever becomes of it."""
        return frozenset(a for a, patient in self.patients.items() if not patient.may_be_corrected(now))

    def hopes(self, waiting: Iterable[Address]) -> bool:
        """Whether any of these will be corrected some time."""
        return any(not self.patients[address].gave_up for address in waiting)

    def forgive(self, addresses: Iterable[Address] | None = None) -> None:
        """Begin anew with these, or all: somebody took care of them, or asked for it."""
        for address in list(self.patients) if addresses is None else addresses:
            if address in self.patients:
                self.patients[address].forgive()

    def wake(self, now: float) -> float | None:
        """When something becomes due by itself, None when nothing does: the end of a pause, another probe."""
        times = [
            patient.not_before
            for address, patient in self.patients.items()
            if address in self._seen
            and correctable(self._seen[address])
            and not patient.gave_up
            and patient.not_before > now
        ]
        if self.suspects:
            times.append(self._probed_at + self.damping.probe_again)
        return min(times, default=None)

    def since(self, address: Address) -> float | None:
        """When its present drift was first seen, by the steady clock."""
        patient = self.patients.get(address)
        return None if patient is None else patient.since

    # -- incidents

    def opened(self, incident: Incident) -> tuple[Told, ...]:
        """Something is wrong that no look shows: the configuration, the store. Nothing when it is known."""
        if incident.key in self.incidents:
            return ()
        self.incidents[incident.key] = incident
        return (IncidentOpened(incident=incident),)

    def closed(self, kind: IncidentKind, subject: str, at: float, how: str = "") -> tuple[Told, ...]:
        """It is over. Nothing when nobody knew of it."""
        incident = self.incidents.pop(f"{kind}:{subject}", None)
        return () if incident is None else (IncidentClosed(incident=incident, at=at, how=how),)

    def _tell(self, sight: Sight, at: float) -> Iterator[Told]:
        """What the look shows to be wrong, and what it shows to be over."""
        wrong = {incident.key: incident for incident in self._wrong(sight, at)}
        for key, incident in wrong.items():
            if key not in self.incidents:
                self.incidents[key] = incident
                yield IncidentOpened(incident=incident)
        for key, incident in sorted(self.incidents.items()):
            if not self._is_shown(incident, sight) or key in wrong:
                continue
            del self.incidents[key]
            yield IncidentClosed(incident=incident, at=at, how=self._how(incident))

    def _wrong(self, sight: Sight, at: float) -> Iterator[Incident]:
        for name, why in sorted(sight.failures.items()):
            yield Incident(
                kind=IncidentKind.BACKEND,
                subject=name,
                summary=f"backend {name!r} cannot be looked at: {why}",
                at=at,
                fix="until it answers nothing there is put back; `reconciler doctor` looks into it",
            )
        if sight.refusals:
            yield Incident(
                kind=IncidentKind.FLEET,
                subject="",
                summary="; ".join(sight.refusals),
                at=at,
                fix="look at what they have in common; what is right is put back by `reconciler apply`",
            )
        for drift in sight.drifts:
            if drift.policy is not DriftPolicy.IGNORE:
                yield _of_drift(drift, at)
                if self.patients[drift.address].gave_up and correctable(drift):
                    yield self._of_giving_up(drift, at)

    def _of_giving_up(self, drift: Drift, at: float) -> Incident:
        damping = self.damping
        return Incident(
            kind=IncidentKind.GAVE_UP,
            subject=drift.address,
            summary=f"{drift.address} was put back {damping.give_up} times within {damping.window / 60:g} minutes, "
            "and does not stay; it is left alone now",
            at=at,
            cause=drift.cause,
            fix=f"look at `reconciler logs {drift.address}`, mend it, and apply; or send SIGHUP to have it tried again",
        )

    def _how(self, incident: Incident) -> str:
        if incident.kind is IncidentKind.BACKEND:
            return "it can be looked at again"
        if incident.kind is IncidentKind.FLEET:
            return "it is no longer too many at once"
        address = Address(incident.subject)
        if address not in self.patients:
            return "it is not declared any more"
        if address in self._seen:
            return "what is to be done about it has changed"
        return "put back" if self.patients[address].attempts else "as it was applied again"

    def _is_shown(self, incident: Incident, sight: Sight) -> bool:
        """Whether the look can tell that it is over."""
        match incident.kind:
            case IncidentKind.BACKEND:
                return True
            case IncidentKind.FLEET:
                return not sight.failures
            case IncidentKind.DRIFT | IncidentKind.GAVE_UP | IncidentKind.REFUSED:
                address = Address(incident.subject)
                hidden = address in sight.unseen or self._where.get(address, "") in sight.failures
                return bool(address) and not hidden
            case IncidentKind.CONFIGURATION | IncidentKind.STORE:
                return False

    def _patient(self, address: Address) -> Patient:
        return self.patients.setdefault(address, Patient(self.damping))


def _of_drift(drift: Drift, at: float) -> Incident:
    why = f" ({drift.detail})" if drift.detail else ""
    fields = ", ".join(change.path for change in drift.changes[:3])
    what = f": {fields}" if fields and drift.cause in (Cause.EDITED, Cause.UNKNOWN, Cause.FOLLOWS) else ""
    kind = IncidentKind.REFUSED if drift.why_not else IncidentKind.DRIFT
    return Incident(
        kind=kind,
        subject=drift.address,
        summary=f"{drift.address}: {drift.cause.text}{why}{what}"
        + (f"; {drift.why_not}" if drift.why_not else ""),
        at=drift.at or at,
        cause=drift.cause,
    )
