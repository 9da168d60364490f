"""desired + state + observed → plan. Pure, deterministic, linear in the number of sandboxes.

Must never decide from an incomplete look, and never put into a plan what is not ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconciler.core.diff import astray, compare, fallback, vouched
from reconciler.core.identity import is_ours, label_hash, sandbox_id
from reconciler.core.imports import Key, Takeovers, applied, is_the_recorded, takeovers, unread_note
from reconciler.core.order import link, topological
from reconciler.core.references import attribute_of, resolve_spec
from reconciler.core.rules import Facts, Rule, decide
from reconciler.core.succession import comes_first, cost
from reconciler.errors import ObservationIncomplete, Refused
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Address, Desired, DesiredSandbox, FlatSpec, SandboxSpec
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.observed import Observed, ObservedSandbox, Phase, SandboxInfo
from reconciler.model.plan import Action, FieldChange, Plan, Reason, Selection, Step
from reconciler.model.state import SandboxRecord, State, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """`new_lineage` is used when neither a state nor live labels tell one. `capabilities` by backend name. `now` in
    seconds since the epoch."""

    new_lineage: str
    capabilities: Mapping[str, Capabilities] = field(default_factory=dict)
    selection: Selection = Selection()
    now: float = 0.0

    @property
    def destroy(self) -> bool:
        return self.selection.destroy


def make_plan(desired: Desired, state: State | None, observed: Observed, options: PlanOptions) -> Plan:
    """Raises ObservationIncomplete when a backend could not be listed, Refused when ownership is ambiguous, an id we
    need is taken by somebody else or an import may not be taken over, NotFound when one is not there."""
    if not observed.complete:
        raise _incomplete(observed)
    lineage, found = _lineage(desired.stack, state, observed, options)
    planner = _Planner(desired, state, observed, options, lineage)
    steps, unchanged = planner.run()
    return Plan(
        stack=desired.stack,
        lineage=lineage,
        serial=0 if state is None else state.serial,
        steps=link(steps, {} if state is None else state.sandboxes),
        unchanged=unchanged,
        diagnostics=tuple(planner.diagnostics),
        outputs={} if options.destroy else desired.outputs,
        infos={address: info for address, info in planner.infos.items() if info is not None},
        lineage_found=found,
        selection=options.selection,
    )


def _incomplete(observed: Observed) -> ObservationIncomplete:
    told = "; ".join(f"{name}: {error}" for name, error in sorted(observed.failures.items()))
    return ObservationIncomplete(
        f"cannot see everything, so nothing is planned ({told})",
        hint="unknown is never treated as absent: mend the backend and run again; `reconciler doctor` looks into it",
    )


def _lineage(stack: str, state: State | None, observed: Observed, options: PlanOptions) -> tuple[str, bool]:
    """The state's, else the one all live objects of this stack agree on, else a new one."""
    if state is not None:
        return state.lineage, False
    live = {seen.owner.lineage for seen in observed.sandboxes if seen.owner and seen.owner.stack == stack}
    if len(live) > 1:
        raise Refused(
            f"there is no state for stack {stack!r}, and live sandboxes of that name belong to {len(live)} lineages: "
            + ", ".join(sorted(live)),
            hint="bring back the state file of the one you mean, or give this stack a name of its own",
        )
    return (live.pop(), True) if live else (options.new_lineage, False)


def _detail(
    rule: Rule, record: SandboxRecord | None, current: ObservedSandbox | None, *, importing: bool = False
) -> str:
    """What the reason does not say: that others made it, how it is, why it failed before."""
    if current is None:
        return _last_error(rule, record)
    name = current.info.sandbox_id
    said = ""
    if importing:
        said = f"imports {name} and replaces it" if rule.action is Action.REPLACE else f"imports {name}"
    elif record is not None and record.imported and record.sandbox_id == name:
        said = "imported"
    return "; ".join(filter(None, (said, current.detail)))


def _last_error(rule: Rule, record: SandboxRecord | None) -> str:
    return record.error if record and rule.reason is Reason.FAILED_BEFORE else ""


def _each_once(candidates: Iterable[ObservedSandbox]) -> list[ObservedSandbox]:
    """Without what was seen before: two backends of one engine both show all that is there, and what counts as seen
    through one is no leftover as seen through the other."""
    found: dict[object, ObservedSandbox] = {}
    for seen in candidates:
        found.setdefault(seen.info.container_id or (seen.backend, seen.info.sandbox_id), seen)
    return list(found.values())


@dataclass(slots=True)
class _Canonical:
    """Canonical forms, and what labels say of them, computed once per spec object and kind of backend: replicas share
    theirs."""

    seen: dict[tuple[int, str | tuple[str, ...]], tuple[SandboxSpec, FlatSpec, str]] = field(
        default_factory=dict
    )

    def of(self, spec: SandboxSpec, able: Capabilities) -> tuple[FlatSpec, str]:
        key = (id(spec), "" if able.relabels else able.updatable)
        entry = self.seen.get(key)
        if entry is None:
            flat = spec.canonical()
            entry = self.seen[key] = (spec, flat, label_hash(flat, able))
        return entry[1], entry[2]


class _Planner:
    """One run of `make_plan`: looks at each address once, in dependency order."""

    def __init__(
        self, desired: Desired, state: State | None, observed: Observed, options: PlanOptions, lineage: str
    ) -> None:
        self.stack = desired.stack
        self.wanted: Mapping[Address, DesiredSandbox] = {} if options.destroy else desired.sandboxes
        self.records: Mapping[Address, SandboxRecord] = {} if state is None else state.sandboxes
        self.options = options
        self.lineage = lineage
        self.canonical = _Canonical()
        self.diagnostics: list[Diagnostic] = []
        self.infos: dict[Address, SandboxInfo | None] = {}  # None: not known before apply
        self.taken: dict[tuple[str, str], ObservedSandbox] = {}
        self.live: dict[Address, list[ObservedSandbox]] = defaultdict(list)
        self.unlabelled = self._recorded_without_labels()
        found = Takeovers() if options.destroy else takeovers(desired, self.records, observed, lineage)
        self.importing: Mapping[Key, Address] = found.targets
        self.diagnostics += found.diagnostics
        self._sort_out(observed.sandboxes)

    def _sort_out(self, sandboxes: Iterable[ObservedSandbox]) -> None:
        """Ours by address, and what is to be taken over; everything else only as ids that are taken."""
        for seen in sandboxes:
            key = (seen.backend, seen.info.sandbox_id)
            if is_ours(seen, self.stack, self.lineage):
                assert seen.owner is not None
                self.live[seen.owner.address].append(seen)
            elif seen.owner is None and self._is_recorded(seen):
                self.live[self.unlabelled[key].address].append(seen)
            elif seen.owner is None and key in self.importing:
                self.live[self.importing[key]].append(seen)
            else:
                self.taken[key] = seen

    def _recorded_without_labels(self) -> Mapping[Key, SandboxRecord]:
        """Ours because we recorded it, and for no other reason: what lives on backends that cannot label, and what
        was imported."""
        return {
            (record.backend, record.sandbox_id): record
            for record in self.records.values()
            if record.imported or not self._capabilities(record.backend).owns
        }

    def _is_recorded(self, seen: ObservedSandbox) -> bool:
        record = self.unlabelled.get((seen.backend, seen.info.sandbox_id))
        return record is not None and is_the_recorded(record, seen)

    def _is_import(self, seen: ObservedSandbox | None) -> bool:
        return (
            seen is not None and seen.owner is None and (seen.backend, seen.info.sandbox_id) in self.importing
        )

    def _capabilities(self, backend: str) -> Capabilities:
        return self.options.capabilities.get(backend) or Capabilities()

    def run(self) -> tuple[list[Step], tuple[Address, ...]]:
        steps: list[Step] = []
        unchanged: list[Address] = []
        for address in topological(self.wanted):
            planned = self._declared(self.wanted[address])
            steps += planned
            if not planned:
                unchanged.append(address)
        for address in sorted({*self.records, *self.live} - set(self.wanted)):
            steps += self._undeclared(address)
        return steps, tuple(sorted(unchanged))

    def _declared(self, wanted: DesiredSandbox) -> list[Step]:
        record = self.records.get(wanted.address)
        current, leftovers = self._choose(wanted.address, record, wanted.backend)
        spec = self._resolved(wanted)
        flat, digest = self.canonical.of(spec, self._capabilities(wanted.backend))
        changes = self._changes(wanted, record, current, flat, digest)
        if current is not None and current.astray and current.backend == wanted.backend:
            changes = (*changes, *astray(current, wanted))
        facts = self._facts(wanted, record, current, changes)
        rule = decide(facts)
        steps = [self._superseded(seen) for seen in leftovers]
        if rule.reason is Reason.IMPORTED and current is not None:
            self._tell_unread(wanted, current, flat)
        if rule.action is None:
            assert current is not None
            self.infos[wanted.address] = current.info
            if current.phase is Phase.UNKNOWN:
                self._warn_unknown(wanted, current)
                if wanted.lifecycle.create_first:
                    return []  # a leftover goes when its successor answers, and that nobody can tell
            return steps
        stable = current is not None and rule.action in (Action.UPDATE, Action.ADOPT)
        self.infos[wanted.address] = current.info if stable and current is not None else None
        return [*steps, self._step(rule, wanted, record, current, leftovers, flat, changes)]

    def _resolved(self, wanted: DesiredSandbox) -> SandboxSpec:
        if not wanted.references:
            return wanted.spec
        return resolve_spec(wanted.spec, self._lookup)

    def _lookup(self, address: Address, attribute: str) -> str | None:
        info = self.infos.get(address)
        return None if info is None else attribute_of(info, attribute)

    def _choose(
        self, address: Address, record: SandboxRecord | None, backend: str | None
    ) -> tuple[ObservedSandbox | None, list[ObservedSandbox]]:
        """The object that counts and what is left over: the recorded one first, then the right backend, then the
        youngest generation."""

        def rank(seen: ObservedSandbox) -> tuple[bool, bool, int, str]:
            recorded = record is not None and (seen.backend, seen.info.sandbox_id) == (
                record.backend,
                record.sandbox_id,
            )
            generation = seen.owner.generation if seen.owner else 0
            return (recorded, seen.backend == backend, generation, seen.info.sandbox_id)

        candidates = _each_once(sorted(self.live.get(address, ()), key=rank, reverse=True))
        return (candidates[0], candidates[1:]) if candidates else (None, [])

    def _changes(
        self,
        wanted: DesiredSandbox,
        record: SandboxRecord | None,
        current: ObservedSandbox | None,
        flat: FlatSpec,
        digest: str,
    ) -> tuple[FieldChange, ...]:
        if current is None or current.backend != wanted.backend:
            return ()
        capabilities = self._capabilities(wanted.backend)
        if self._is_import(current):
            return compare(applied(flat, current)[0], flat, current, wanted, capabilities)
        label = current.owner.spec_hash if current.owner else ""
        if record is not None and record.sandbox_id == current.info.sandbox_id:
            # what an unfinished create meant says nothing about an older object of that id
            made_of = label_hash(record.spec, capabilities) if record.status is Status.PENDING else label
            if label in ("", made_of):
                return compare(record.spec, flat, current, wanted, capabilities)
        if label == digest:
            return compare(vouched(flat, current, capabilities), flat, current, wanted, capabilities)
        return fallback(label, digest, flat, current, wanted, capabilities)

    def _facts(
        self,
        wanted: DesiredSandbox,
        record: SandboxRecord | None,
        current: ObservedSandbox | None,
        changes: Sequence[FieldChange],
    ) -> Facts:
        is_recorded = record is not None and (current is None or record.sandbox_id == current.info.sandbox_id)
        return Facts(
            declared=True,
            recorded=None if record is None else record.status,
            phase=None if current is None else current.phase,
            is_recorded=is_recorded,
            same_backend=current is None or current.backend == wanted.backend,
            half_updated=record is not None and is_recorded and not record.spec_hash,
            failed=record is not None and bool(record.error),
            resumable=current is not None
            and any(found.path == "container.paused" and found.in_place for found in current.astray),
            importing=self._is_import(current),
            changed=len(changes),
            outside=sum(change.outside for change in changes),
            forced=sum(change.forces_replacement for change in changes),
        )

    def _step(
        self,
        rule: Rule,
        wanted: DesiredSandbox,
        record: SandboxRecord | None,
        current: ObservedSandbox | None,
        leftovers: Sequence[ObservedSandbox],
        flat: FlatSpec,
        changes: tuple[FieldChange, ...],
    ) -> Step:
        assert rule.action is not None
        assert rule.reason is not None
        create_first = comes_first(rule.action, wanted, record, current, leftovers)
        generation = self._generation(rule.action, wanted, record, current, again=create_first)
        kept = rule.action in (Action.UPDATE, Action.ADOPT)
        identity = current.info.sandbox_id if kept and current else ""
        if not identity:
            identity = sandbox_id(self.stack, wanted.address, generation)
            self._refuse_if_taken(wanted, identity)
        return Step(
            action=rule.action,
            address=wanted.address,
            backend=wanted.backend,
            reason=rule.reason,
            sandbox_id=identity,
            generation=generation,
            desired=wanted,
            current=current,
            recorded_spec_hash="" if record is None else record.spec_hash,
            spec=flat,
            changes=changes if current is not None else (),
            unchanged=len(flat) - sum(change.path in flat for change in changes),
            detail=_detail(rule, record, current, importing=self._is_import(current)),
            cost=cost(
                rule.action,
                wanted,
                leftovers,
                create_first=create_first,
                create_cost=self._capabilities(wanted.backend).create_cost,
            ),
            create_first=create_first,
        )

    def _generation(
        self,
        action: Action,
        wanted: DesiredSandbox,
        record: SandboxRecord | None,
        current: ObservedSandbox | None,
        *,
        again: bool,
    ) -> int:
        """A replacement gets a name of its own; what is merely missing is made again under the same one, so that a
        listing that lied meets a conflict instead of a duplicate. So is, with `again`, the recorded successor of one
        that still lives."""
        recorded = record.generation if record else 0
        if action in (Action.UPDATE, Action.ADOPT):
            return (current.owner.generation if current and current.owner else 0) or recorded or 1
        there = self.live.get(wanted.address, ())
        live = max((seen.owner.generation for seen in there if seen.owner), default=0)
        if again and record is not None and record.backend == wanted.backend and recorded > live:
            return recorded if record.status is not Status.DESTROYING else recorded + 1
        fresh = action is not Action.CREATE or (record is not None and record.status is Status.DESTROYING)
        return max(recorded, live) + 1 if fresh else max(recorded, live, 1)

    def _refuse_if_taken(self, wanted: DesiredSandbox, identity: str) -> None:
        stranger = self.taken.get((wanted.backend, identity))
        if stranger is None:
            return
        whose = stranger.owner
        told = f"stack {whose.stack!r}, lineage {whose.lineage}" if whose else "an object without our labels"
        raise Refused(
            f"{wanted.address} needs the id {identity!r} on backend {wanted.backend!r}, "
            f"which belongs to {told}",
            hint="another checkout or state owns it: bring back its state, or give this stack another name",
        )

    def _undeclared(self, address: Address) -> list[Step]:
        record = self.records.get(address)
        current, leftovers = self._choose(address, record, None)
        rule = decide(
            Facts(
                declared=False,
                destroy_all=self.options.destroy,
                recorded=None if record is None else record.status,
                phase=None if current is None else current.phase,
            )
        )
        assert rule.action is not None
        assert rule.reason is not None
        step = self._superseded(current) if current else self._forget(record)
        detail = _detail(rule, record, current)
        own = replace(step, action=rule.action, reason=rule.reason, detail=detail)
        return [*(self._superseded(seen) for seen in leftovers), own]

    def _superseded(self, seen: ObservedSandbox) -> Step:
        owner = seen.owner
        address = owner.address if owner else self.unlabelled[seen.backend, seen.info.sandbox_id].address
        return Step(
            action=Action.DESTROY,
            address=address,
            backend=seen.backend,
            reason=Reason.SUPERSEDED,
            sandbox_id=seen.info.sandbox_id,
            generation=owner.generation if owner else 0,
            current=seen,
        )

    def _forget(self, record: SandboxRecord | None) -> Step:
        assert record is not None
        return Step(
            action=Action.FORGET,
            address=record.address,
            backend=record.backend,
            reason=Reason.GONE,
            sandbox_id=record.sandbox_id,
            generation=record.generation,
        )

    def _tell_unread(self, wanted: DesiredSandbox, current: ObservedSandbox, flat: FlatSpec) -> None:
        unread = applied(flat, current)[1]
        if unread:
            self.diagnostics.append(unread_note(wanted.address, current.info.sandbox_id, unread))

    def _warn_unknown(self, wanted: DesiredSandbox, current: ObservedSandbox) -> None:
        why = f" ({current.detail})" if current.detail else ""
        self.diagnostics.append(
            Diagnostic(
                severity=Severity.WARNING,
                code="phase-unknown",
                summary=f"{wanted.address}: the backend cannot tell how it is{why}; it is left alone",
                fix="look at it with `reconciler status`, then plan again",
                position=wanted.position,
            )
        )
