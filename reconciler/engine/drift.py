"""One look for drift: what is not as it was last applied, why, and what could not be seen. Changes nothing.

A backend that does not answer hides what it has and what needs that; the rest of the fleet is judged all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.backends.base import ProbeAnswer
from reconciler.core.applied import Applied, as_applied
from reconciler.core.damping import Damping
from reconciler.core.drift import asks_why, correctable, drifts, explained, foreseen, with_waits
from reconciler.core.policy import refusals, too_much_drift
from reconciler.core.references import attribute_of, resolve_spec
from reconciler.core.vigil import Sight, Vigil
from reconciler.engine.context import Context
from reconciler.engine.inspect import probe_all
from reconciler.engine.survey import View, survey
from reconciler.errors import ObservationIncomplete
from reconciler.model.desired import Address, ProbeKind
from reconciler.model.drift import Drift, Provenance
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.plan import Plan, Reason, Selection


class DriftView(Struct, frozen=True, kw_only=True):
    """One look. `view` None means that no backend at all could be seen. `answers` are those of the probes, of what was
    probed, `origins` what backends know of the sandboxes they were asked about, None where that is nothing. `plan` puts back all of `drifts`, and more that is none of them."""

    applied: Applied
    view: View | None
    drifts: tuple[Drift, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    live: Mapping[Address, ObservedSandbox] = field(default_factory=dict)
    answers: Mapping[Address, ProbeAnswer] = field(default_factory=dict)
    origins: Mapping[str, Provenance | None] = field(default_factory=dict)

    @property
    def plan(self) -> Plan | None:
        return None if self.view is None else self.view.plan

    def sight(self) -> Sight:
        """The same for whom the fleet is a matter of addresses."""
        now = tuple(drift for drift in self.drifts if not foreseen(drift))
        differs = {drift.address for drift in self.drifts}
        untold = {address for address, seen in self.live.items() if seen.phase is Phase.UNKNOWN}
        waits = [drift for drift in self.drifts if foreseen(drift) and not self._stands(drift)]
        untold |= {drift.address for drift in waits}
        differs = {drift.address for drift in now}
        there = {
            address: seen.info.sandbox_id
            for address, seen in self.live.items()
            if address in self.applied.desired.sandboxes and address not in differs | untold
        }
        return Sight(
            drifts=now,
            there=there,
            unseen={*self.applied.unseen, *self.applied.lost, *untold},
            failures=self.failures,
            refusals=self.refusals(),
        )

    def _stands(self, drift: Drift) -> bool:
        """Whether it refers to what was there last, though that may be another one when it is put back."""
        records = self.view.state.sandboxes if self.view is not None and self.view.state is not None else {}
        record, wanted = records.get(drift.address), self.applied.desired.sandboxes.get(drift.address)
        if record is None or wanted is None:
            return False

        def last(address: Address, attribute: str) -> str | None:
            info = records[address].info if address in records else None
            return None if info is None else attribute_of(info, attribute)

        meant = resolve_spec(wanted.spec, last).canonical()
        return all(meant.get(change.path) == record.spec.get(change.path) for change in drift.changes)

    def refusals(self) -> tuple[str, ...]:
        """Why not all of it may be put back in one go: too much drifted, whatever may be done about it, or too much would be
        taken down."""
        if self.plan is None:
            return ()
        of_drift = {drift.address for drift in self.drifts}
        put_back = {drift.address for drift in self.drifts if correctable(drift)}
        drifted = [step for step in self.plan.steps if step.address in of_drift]
        done = [step for step in drifted if step.address in put_back]
        desired, fleet = self.applied.desired, self.plan.fleet
        found = [
            *too_much_drift(drifted, desired, fleet),
            *refusals(
                done,
                replace(desired, policy=replace(desired.policy, max_drift_percent=None)),
                Selection(),
                fleet=fleet,
            ),
        ]
        return tuple(refusal.summary for refusal in found)


def look_for_drift(
    context: Context,
    *,
    silent: frozenset[Address] = frozenset(),
    origins: Mapping[str, Provenance | None] | None = None,
) -> DriftView:
    """Read, look, and hold what is there against what was last applied. Raises what `survey` raises, except that a backend
    which cannot be listed lands in `failures`. `origins` are those of a look just before: nobody is asked twice."""
    state = context.recorded()
    failures: dict[str, str] = {}
    while True:
        applied = as_applied(context.desired, state, unseen=failures)
        try:
            view = survey(replace(context, desired=applied.desired), silent=silent, blind=failures)
        except ObservationIncomplete as incomplete:
            if not incomplete.failures.keys() - failures.keys():
                raise
            failures.update(incomplete.failures)
            continue
        found = drifts(view.plan, applied)
        known = _origins(context, found, origins or {})
        return DriftView(
            applied=applied,
            view=view,
            drifts=with_waits(explained(found, known), applied.desired),
            failures=failures,
            live=view.live(),
            origins=known,
        )


def _origins(
    context: Context, found: tuple[Drift, ...], before: Mapping[str, Provenance | None]
) -> dict[str, Provenance | None]:
    """What the backends know of these; one that fails at that has nothing to say."""
    known: dict[str, Provenance | None] = {}
    for name, ids in sorted(asks_why(found).items()):
        known.update({identity: before[identity] for identity in ids if identity in before})
        unknown = ids - known.keys()
        if not unknown:
            continue
        try:
            told = context.backends.get(name).provenance(unknown)
        except Exception:  # noqa: BLE001 - the drift is as real without its cause
            told = {}
        known.update({identity: told.get(identity) for identity in unknown})
    return known


def probed(
    context: Context, seen: DriftView, vigil: Vigil, only: frozenset[Address] | None = None
) -> DriftView:
    """The look with a probe of everything that should answer, told to the vigil as well. `only` leaves out the rest."""
    differs = {d.address for d in seen.drifts if d.reason is not Reason.SILENT and not foreseen(d)}
    asked = {
        address: found
        for address, found in seen.live.items()
        if address not in differs and _answers(seen.applied, address) and (only is None or address in only)
    }
    answers = probe_all(replace(context, desired=seen.applied.desired), asked)
    now = context.clock.monotonic()
    for address, answer in answers.items():
        vigil.probed(address, asked[address].info.sandbox_id, answer.ready, now)
    if only is None:
        vigil.not_asked({*vigil.patients} - answers.keys() - seen.applied.unseen)
    return replace(seen, answers={**seen.answers, **answers})


def _answers(applied: Applied, address: Address) -> bool:
    wanted = applied.desired.sandboxes.get(address)
    return wanted is not None and wanted.spec.readiness.kind is not ProbeKind.NONE


def look_thoroughly(
    context: Context, damping: Damping, *, pause: Callable[[float], None] = time.sleep
) -> tuple[DriftView, Vigil]:
    """One look for those who look once: what does not answer is asked again until it does, or is certain not to."""
    vigil = Vigil(damping=damping)
    seen = probed(context, look_for_drift(context), vigil)
    while True:
        suspects = frozenset(a for a, patient in vigil.patients.items() if patient.suspect)
        if not suspects:
            break
        pause(damping.probe_again)
        seen = probed(context, seen, vigil, suspects)
    if vigil.silent:
        again = look_for_drift(context, silent=vigil.silent)
        seen = replace(again, answers=seen.answers)
    return seen, vigil
