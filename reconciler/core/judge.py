"""What to do about each address: the rules applied to what is declared, recorded and there. Pure.

One object of this class sees all addresses of a run, dependencies first, so that what becomes of one is known to those
that refer to it, or are replaced with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from reconciler.core.case import (
    Case,
    Form,
    Forms,
    each_once,
    is_among,
    is_asleep,
    is_record_alone,
    is_resumable,
)
from reconciler.core.diff import astray, compare, differing, fallback, vouched
from reconciler.core.holdings import Holdings
from reconciler.core.identity import label_hash, sandbox_id
from reconciler.core.imports import applied, unread_note
from reconciler.core.lifecycle import age_left, ignores, is_protected, left_alone, rule_changes, triggered_by
from reconciler.core.policy import guarded
from reconciler.core.recorded import forget
from reconciler.core.references import attribute_of, resolve_spec
from reconciler.core.remarks import elsewhere, kept, unknown
from reconciler.core.repair import ladder
from reconciler.core.rules import Facts, Rule, decide
from reconciler.core.select import recorded_labels
from reconciler.core.succession import RECORDED_ONLY, comes_first, cost
from reconciler.errors import Refused
from reconciler.model.address import covers
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Address, Desired, DesiredSandbox, fingerprint
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from reconciler.model.plan import Action, FieldChange, Reason, Rung, Step
from reconciler.model.state import SandboxRecord, Status


class Judge:
    """`asked` are the addresses of `--replace`, `now` seconds since the epoch, `silent` what was probed in vain, `left` what stays as it is, `serial` of the state. Collects on the way: connection details
    (None where they are not known before apply), remarks, what expires when, which addresses serve, and the fingerprints
    of those that others are replaced with, as they will be."""

    def __init__(
        self,
        desired: Desired,
        holdings: Holdings,
        capabilities: Mapping[str, Capabilities],
        asked: frozenset[Address],
        now: float,
        *,
        silent: frozenset[Address] = frozenset(),
        left: frozenset[Address] = frozenset(),
        serial: int = 0,
    ) -> None:
        self._desired = desired
        self._holdings = holdings
        self._records = holdings.records
        self._able = capabilities
        self._asked = asked
        self._now = now
        self._silent = silent
        self._left = left
        self._serial = serial
        self._forms = Forms()
        self._renewed: dict[Address, bool] = {}
        followed = (s.lifecycle.replace_triggered_by for s in desired.sandboxes.values())
        self._followed = frozenset(address for addresses in followed for address in addresses)
        self.followed: dict[Address, str] = {}
        self._standing: dict[Address, SandboxInfo] = {}  # what is there, whatever becomes of it
        self.infos: dict[Address, SandboxInfo | None] = {}
        self.diagnostics: list[Diagnostic] = []
        self.expiring: dict[Address, float] = {}
        self.serving: set[Address] = set()

    def current(self, addresses: Iterable[Address]) -> dict[Address, ObservedSandbox]:
        """The object that counts of each address that has one."""
        found = {a: self._choose(a, self._records.get(a), None)[0] for a in addresses}
        return {address: seen for address, seen in found.items() if seen is not None}

    # -- declared ------------------------------------------------------------------------------------------------

    def declared(self, wanted: DesiredSandbox) -> list[Step]:
        """What is to be done about it, leftovers included; nothing when it is as declared, or nobody can tell."""
        case = self._case(wanted)
        if case.current is not None:
            self._standing[wanted.address] = case.current.info
        changes, rules = self._changes(case), self._rule_changes(case)
        rule = decide(self._facts(case, (*changes, *rules)))
        self._warn_kept(case)
        if case.able.made_elsewhere and wanted.address in self._asked:
            self.diagnostics.append(elsewhere(wanted))
        if case.serves:
            self.serving.add(wanted.address)
        if rule.action not in (Action.REPAIR, Action.CREATE):
            changes = (*changes, *rules)  # what is made anew is recorded with the rules of now anyway
        steps = [self._superseded(seen, wanted.address) for seen in case.leftovers]
        if rule.reason is Reason.IMPORTED:
            self._tell_unread(case)
        if rule.action is None:
            self._follow(case, None)
            return self._as_it_is(case, steps)
        if wanted.address in self._left:
            self._follow(case, None)
            stands = case.current or case.record
            self.infos[wanted.address] = None if stands is None else stands.info
            return []
        step = self._step(rule, case, changes)
        self._follow(case, step)
        if step.protected and step.action is Action.REPAIR:
            steps = []  # a leftover may serve where this one does not
        stays = case.current if rule.action in (Action.UPDATE, Action.ADOPT) else None
        self.infos[wanted.address] = stays.info if stays is not None else None
        self._renewed[wanted.address] = stays is None and not (step.rungs or step.protected)
        return [*steps, step]

    def _follow(self, case: Case, step: Step | None) -> None:
        address, record = case.wanted.address, case.record
        if address not in self._followed:
            return
        held = record.spec if record is not None and record.spec and case.is_recorded else case.kept
        changes = step is not None and step.action in (Action.UPDATE, Action.ADOPT)
        self.followed[address] = fingerprint(step.spec if step is not None and changes else held)

    def _as_it_is(self, case: Case, steps: list[Step]) -> list[Step]:
        current = case.current
        assert current is not None
        self.infos[case.wanted.address] = current.info
        if current.phase is Phase.UNKNOWN:
            self.diagnostics.append(unknown(case.wanted, current))
            if case.wanted.lifecycle.create_first:
                return []  # a leftover goes when its successor answers, and that nobody can tell
        return steps

    def _case(self, wanted: DesiredSandbox) -> Case:
        able = self._capabilities(wanted.backend)
        record = self._records.get(wanted.address)
        spec = resolve_spec(wanted.spec, self._lookup) if wanted.references else wanted.spec
        form = made = self._forms.of(spec, able)
        current, leftovers = self._choose(wanted.address, record, wanted.backend, form)
        is_recorded = record is not None and (current is None or record.sandbox_id == current.info.sandbox_id)
        same_backend = current is None or current.backend == wanted.backend
        patterns = wanted.lifecycle.ignore_changes
        if patterns and current is not None and same_backend:
            applied_spec = record.spec if record is not None and is_recorded else None
            kept = left_alone(form.flat, applied_spec, current, patterns)
            made = Form(kept, able) if kept != form.flat else form
        return Case(
            wanted=wanted,
            record=record,
            current=current,
            leftovers=leftovers,
            able=able,
            flat=form.flat,
            made=made,
            importing=self._holdings.is_import(current),
            is_recorded=is_recorded,
            same_backend=same_backend,
        )

    def _capabilities(self, backend: str) -> Capabilities:
        return self._able.get(backend) or Capabilities()

    def _lookup(self, address: Address, attribute: str) -> str | None:
        info = self.infos.get(address)
        return None if info is None else attribute_of(info, attribute)

    def _choose(
        self, address: Address, record: SandboxRecord | None, backend: str | None, form: Form | None = None
    ) -> tuple[ObservedSandbox | None, list[ObservedSandbox]]:
        """The object that counts and what is left over: the recorded one first, then the right backend, then the
        youngest generation. But one that never became ready does not count beside one that runs and is as declared."""
        there = self._holdings.live.get(address, ())
        if len(there) < 2:
            return (there[0] if there else None), []
        unproven = (
            record is not None
            and record.status in (Status.TAINTED, Status.PENDING, Status.DESTROYING)
            and not record.protected
        )

        def rank(seen: ObservedSandbox) -> tuple[bool, bool, bool, int, str]:
            recorded = record is not None and (seen.backend, seen.info.sandbox_id) == (
                record.backend,
                record.sandbox_id,
            )
            better = (
                unproven
                and not recorded
                and seen.backend == backend
                and not is_asleep(seen.phase)
                and (form is not None and seen.owner is not None and seen.owner.spec_hash == form.digest)
            )
            generation = seen.owner.generation if seen.owner else 0
            return (better, recorded, seen.backend == backend, generation, seen.info.sandbox_id)

        candidates = each_once(sorted(there, key=rank, reverse=True))
        return candidates[0], candidates[1:]

    def _changes(self, case: Case) -> tuple[FieldChange, ...]:
        current, wanted, patterns = case.current, case.wanted, case.wanted.lifecycle.ignore_changes
        if current is None or not case.same_backend:
            return ()
        changes = self._compared(case, current)
        if patterns:
            changes = tuple(change for change in changes if not ignores(patterns, change.path))
        return (*changes, *astray(current, wanted)) if current.astray else changes

    def _compared(self, case: Case, current: ObservedSandbox) -> tuple[FieldChange, ...]:
        wanted, record, able = case.wanted, case.record, case.able
        if case.able.made_elsewhere and record is None:
            return ()  # nobody here knows how it was made
        if case.importing:
            return compare(applied(case.kept, current)[0], case.kept, current, wanted, able)
        label = current.owner.spec_hash if current.owner else ""
        if record is not None and record.sandbox_id == current.info.sandbox_id:
            # what an unfinished create meant says nothing about an older object of that id
            made_of = label_hash(record.spec, able) if record.status is Status.PENDING else label
            if label in ("", made_of):
                return compare(record.spec, case.kept, current, wanted, able)
        if label == case.made.digest:
            return compare(vouched(case.kept, current, able), case.kept, current, wanted, able)
        return fallback(label, case.made.digest, case.kept, current, wanted, able)

    def _rule_changes(self, case: Case) -> tuple[FieldChange, ...]:
        known = case.current is not None and case.same_backend and case.is_recorded and not case.importing
        return rule_changes(case.wanted, case.record) if known and case.record is not None else ()

    def _facts(self, case: Case, changes: Sequence[FieldChange]) -> Facts:
        record, current, wanted = case.record, case.current, case.wanted
        owner = None if current is None else current.owner
        protected = self.protects(wanted.address, current)
        return Facts(
            declared=True,
            recorded=None if record is None else record.status,
            phase=None if current is None else current.phase,
            is_recorded=case.is_recorded,
            same_backend=case.same_backend,
            half_updated=record is not None and case.is_recorded and not record.spec_hash,
            failed=record is not None and bool(record.error),
            resumable=current is not None and is_resumable(current),
            importing=case.importing,
            asked=wanted.address in self._asked,
            expired=self._is_expired(case) and not protected,
            triggered=bool(self._triggers(case)) and not protected,
            protected=protected,
            silent=wanted.address in self._silent,
            relabel=owner is not None
            and owner.address != wanted.address
            and case.able.relabels
            and not case.importing,
            elsewhere=case.able.made_elsewhere,
            changed=len(changes),
            outside=sum(change.outside for change in changes),
            forced=sum(change.forces_replacement for change in changes),
        )

    def _is_expired(self, case: Case) -> bool:
        if case.current is None:
            return False
        left = age_left(case.wanted, case.record, case.current, self._now)
        if left is not None and left > 0:
            self.expiring[case.wanted.address] = left
        return left is not None and left <= 0

    def _triggers(self, case: Case) -> tuple[Address, ...]:
        if not case.wanted.lifecycle.replace_triggered_by or case.current is None:
            return ()
        return triggered_by(case.wanted, case.record, self._standing, self.followed, self._renewed)

    def _step(self, rule: Rule, case: Case, changes: tuple[FieldChange, ...]) -> Step:
        assert rule.action is not None
        assert rule.reason is not None
        wanted, record, current = case.wanted, case.record, case.current
        create_first = comes_first(rule.action, wanted, record, current, case.leftovers)
        generation = self._generation(rule.action, case, again=create_first)
        stays = rule.action in (Action.UPDATE, Action.ADOPT)
        identity = current.info.sandbox_id if stays and current else ""
        if not identity:
            identity = sandbox_id(self._desired.stack, wanted.address, generation)
            self._refuse_if_taken(wanted, identity)
        rungs, passed_over = self._ladder(rule, case, changes)
        spec = case.kept if stays else case.flat
        return Step(
            action=rule.action,
            address=wanted.address,
            backend=wanted.backend,
            reason=rule.reason,
            sandbox_id=identity,
            generation=generation,
            desired=wanted,
            current=None if rule.action is Action.CREATE else current,  # of what goes nothing is expected
            recorded_spec_hash="" if record is None else record.spec_hash,
            spec=spec,
            kept=None if case.kept is case.flat else case.kept,
            ignored=differing(case.kept, case.flat) if stays and case.kept is not case.flat else (),
            changes=changes if current is not None and rule.action is not Action.CREATE else (),
            unchanged=len(spec) - sum(change.path in spec for change in changes),
            detail=self._detail(rule, case),
            because=rule.why,
            cost=RECORDED_ONLY
            if rule.action is Action.UPDATE and is_record_alone(changes, current, case.able)
            else cost(
                rule.action,
                wanted,
                case.leftovers,
                create_first=create_first,
                create_cost=case.able.create_cost,
                tried_first=bool(rungs),
            ),
            create_first=create_first,
            rungs=rungs,
            passed_over=passed_over,
            protected=self.protects(wanted.address, current),
            prevent_destroy=self._prevents(wanted.address, current),
        )

    def _ladder(
        self, rule: Rule, case: Case, changes: Sequence[FieldChange]
    ) -> tuple[tuple[Rung, ...], tuple[str, ...]]:
        if rule.action is not Action.REPAIR or rule.reason is None:
            return (), ()
        rungs, passed_over = ladder(rule.reason, self._facts(case, changes), changes, case.able)
        kept = ("not replaced: it is protected",) if self.protects(case.wanted.address, case.current) else ()
        return rungs, (*passed_over, *kept)

    def _generation(self, action: Action, case: Case, *, again: bool) -> int:
        """A replacement gets a name of its own; what is merely missing is made again under the same one, so that a
        listing that lied meets a conflict instead of a duplicate. So is, with `again`, the recorded successor of one
        that still lives. Where what was destroyed lingers, one that nobody remembers is a generation on: every run that
        destroyed something has raised the serial."""
        wanted, record, current = case.wanted, case.record, case.current
        recorded = record.generation if record else 0
        if action in (Action.UPDATE, Action.ADOPT):
            return (current.owner.generation if current and current.owner else 0) or recorded or 1
        there = self._holdings.live.get(wanted.address, ())
        live = max((seen.owner.generation for seen in there if seen.owner), default=0)
        if again and record is not None and record.backend == wanted.backend and recorded > live:
            return recorded if record.status is not Status.DESTROYING else recorded + 1
        fresh = action is not Action.CREATE or (record is not None and record.status is Status.DESTROYING)
        first = max(recorded, live) + 1 if fresh else max(recorded, live, 1)
        if record is None and not there and case.able.lingers:
            first = self._forgotten(wanted) or max(first, self._serial + 1)
        return self._holdings.free_generation(wanted.address, wanted.backend, first)

    def _forgotten(self, wanted: DesiredSandbox) -> int:
        """The generation of one that is there under an id of ours, and that the state does not know: an older state was brought
        back. Making another one beside it would leave it behind. 0 when there is none."""
        stack, address = self._desired.stack, wanted.address
        beginning = sandbox_id(stack, address, 1)[:-12]  # all but the hash
        there = {name for name in self._holdings.taken_on(wanted.backend) if name.startswith(beginning)}
        generations = range(self._serial + 1, 0, -1) if there else ()
        return next((g for g in generations if sandbox_id(stack, address, g) in there), 0)

    def _refuse_if_taken(self, wanted: DesiredSandbox, identity: str) -> None:
        stranger = self._holdings.taken.get((wanted.backend, identity))
        if stranger is None:
            return
        whose = stranger.owner
        told = f"stack {whose.stack!r}, lineage {whose.lineage}" if whose else "an object without our labels"
        raise Refused(
            f"{wanted.address} needs the id {identity!r} on backend {wanted.backend!r}, "
            f"which belongs to {told}",
            hint="another checkout or state owns it: bring back its state, or give this stack another name",
        )

    def _detail(self, rule: Rule, case: Case) -> str:
        """What the reason does not say: that others made it, how it is, why it failed before, what triggered it."""
        record, current = case.record, case.current
        if current is None:
            return record.error if record and rule.reason is Reason.FAILED_BEFORE else ""
        name = current.info.sandbox_id
        said = ""
        if case.importing:
            said = f"imports {name} and replaces it" if rule.action is Action.REPLACE else f"imports {name}"
        elif rule.reason is Reason.TRIGGERED:
            said = ", ".join(self._triggers(case))
        elif record is not None and record.imported and record.sandbox_id == name:
            said = "imported"
        return "; ".join(filter(None, (said, current.detail)))

    # -- not declared --------------------------------------------------------------------------------------------

    def undeclared(self, address: Address, *, destroy: bool) -> list[Step]:
        """What is to be done about an address that is recorded or there, and should not be."""
        record = self._records.get(address)
        current, leftovers = self._choose(address, record, None)
        rule = decide(
            Facts(
                declared=False,
                destroy_all=destroy,
                let_go=not destroy and self._is_let_go(address),
                elsewhere=current is not None and self._capabilities(current.backend).made_elsewhere,
                recorded=None if record is None else record.status,
                phase=None if current is None else current.phase,
            )
        )
        assert rule.action is not None
        assert rule.reason is not None
        if current is not None:
            step = self._superseded(current, address)
        elif record is not None:
            step = forget(record)
        else:
            return []
        imported = record is not None and record.imported and current is not None
        own = replace(
            step,
            action=rule.action,
            reason=rule.reason,
            because=rule.why,
            detail="; ".join(
                filter(None, ("imported" if imported else "", current.detail if current else ""))
            ),
            protected=self.protects(address, current),
            prevent_destroy=self._prevents(address, current),
        )
        steps = [*(self._superseded(seen, address) for seen in leftovers), own]
        if record is not None and current is not None and not is_among(record, (current, *leftovers)):
            steps.append(
                replace(forget(record), reason=Reason.SUPERSEDED)
            )  # of what was to come in its place
        return steps

    def _is_let_go(self, address: Address) -> bool:
        return any(
            not removal.destroy and covers(removal.source, address) for removal in self._desired.removed
        )

    def _superseded(self, seen: ObservedSandbox, address: Address) -> Step:
        return Step(
            action=Action.DESTROY,
            address=address,
            backend=seen.backend,
            reason=Reason.SUPERSEDED,
            sandbox_id=seen.info.sandbox_id,
            generation=seen.owner.generation if seen.owner else 0,
            current=seen,
        )

    def protects(self, address: Address, current: ObservedSandbox | None) -> bool:
        """Whether no plan may destroy or replace it: policy says so, by its labels as declared or as recorded, or it is
        so itself."""
        return self._is_guarded(address) or self._prevents(address, current)

    def _is_guarded(self, address: Address) -> bool:
        if not self._desired.policy.protected:
            return False
        declared, record = self._desired.sandboxes.get(address), self._records.get(address)
        labels = [declared.spec.labels if declared else {}, {} if record is None else recorded_labels(record)]
        return any(guarded(self._desired, address, known) for known in labels)

    def _prevents(self, address: Address, current: ObservedSandbox | None) -> bool:
        """What the configuration says of its protection; where that says nothing, what the object says of itself."""
        declared = self._desired.sandboxes.get(address)
        if declared is not None and declared.lifecycle.prevent_destroy is not None:
            return declared.lifecycle.prevent_destroy
        return is_protected(self._records.get(address), current)

    # -- remarks -------------------------------------------------------------------------------------------------

    def _tell_unread(self, case: Case) -> None:
        assert case.current is not None
        unread = applied(case.kept, case.current)[1]
        if unread:
            self.diagnostics.append(unread_note(case.wanted.address, case.current.info.sandbox_id, unread))

    def _warn_kept(self, case: Case) -> None:
        """Neither the clock nor another sandbox is a reason to replace what is protected, or to refuse a whole plan."""
        address, reasons, rules = case.wanted.address, [], case.wanted.lifecycle
        might = rules.max_lifetime is not None or rules.replace_triggered_by
        if not might or not self.protects(address, case.current):
            return
        if self._is_expired(case):
            reasons.append(Reason.EXPIRED.text)
        if self._triggers(case):
            reasons.append(Reason.TRIGGERED.text)
        if reasons:
            self.diagnostics.append(kept(case.wanted, reasons))
