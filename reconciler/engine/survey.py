"""One consistent look: read the state, ask the backends, plan. Writes nothing, and calls only observing verbs."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.closer import wants_closer_look
from reconciler.core.holdings import made_elsewhere
from reconciler.core.imports import pending
from reconciler.core.moves import moved_state
from reconciler.core.planner import PlanOptions, make_plan
from reconciler.core.recorded import as_recorded
from reconciler.core.support import support_diagnostics
from reconciler.engine.context import Context
from reconciler.engine.refresh import look
from reconciler.errors import ConfigError, Refused
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Address, Desired
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.observed import Observed, ObservedSandbox
from reconciler.model.plan import Plan, Reason, Selection
from reconciler.model.state import State


class View(Struct, frozen=True, kw_only=True):
    """One consistent look: the state as read, its records moved as `moved` says, what was observed, and the plan made of
    both with `options`."""

    state: State | None
    observed: Observed
    plan: Plan
    options: PlanOptions

    def leaving(self, desired: Desired, addresses: frozenset[Address]) -> View:
        """The same look, planned as if nothing were to be done about these."""
        options = replace(self.options, left=addresses)
        return replace(self, plan=make_plan(desired, self.state, self.observed, options), options=options)

    def live(self) -> dict[Address, ObservedSandbox]:
        """What is there of this stack, by address: the recorded object where there are several."""
        found: dict[Address, ObservedSandbox] = {}
        records = self.state.sandboxes if self.state else {}
        by_id = {(record.backend, record.sandbox_id): record.address for record in records.values()}
        for seen in self.observed.sandboxes:
            owner = seen.owner
            ours = owner is not None and (owner.stack, owner.lineage) == (self.plan.stack, self.plan.lineage)
            recorded = by_id.get((seen.backend, seen.info.sandbox_id))
            if recorded is not None and (ours or owner is None):
                found[recorded] = seen
            elif owner is not None and ours and not self._is_released(seen):
                found.setdefault(owner.address, seen)
        for step in self.plan.steps:
            if step.reason in (Reason.IMPORTED, Reason.MOVED, Reason.ELSEWHERE) and step.current is not None:
                found.setdefault(step.address, step.current)
        return found

    def _is_released(self, seen: ObservedSandbox) -> bool:
        return self.state is not None and (seen.backend, seen.info.sandbox_id) in self.state.released


def validate(context: Context) -> tuple[Diagnostic, ...]:
    """What the backends say about the configuration's fields. Calls no backend."""
    used = sorted({wanted.backend for wanted in context.desired.sandboxes.values()})
    notes = tuple(
        Diagnostic(severity=Severity.NOTE, code="backend-note", summary=f"backend {name!r}: {note}")
        for name in used
        for note in context.backends.get(name).notes()
    )
    remarks = support_diagnostics(context.desired, context.backends.capabilities(used))
    return (*map(context.illustrate, remarks), *notes)


def survey(
    context: Context,
    selection: Selection = Selection(),
    *,
    silent: frozenset[Address] = frozenset(),
    blind: Collection[str] = (),
) -> View:
    """Read, look and plan. Raises ConfigError when a backend refuses a field, ObservationIncomplete when one cannot
    be listed, Refused when nothing may be asked and nothing is recorded, and what `make_plan` raises.

    `silent` are addresses that were probed in vain. `blind` are backends not to look at: then nothing may be done about
    what is there, and `context.desired` has none of it (`core.applied`)."""
    destroy = selection.destroy
    read = context.recorded()
    if read is None and not selection.refresh:
        raise _nothing_recorded(context.desired.stack)
    state, _ = moved_state(read, context.desired.moved)
    context.backends.remember(state)
    context.backends.check_places(state)
    desired = context.desired
    remarks = () if destroy else validate(context)
    errors = [remark for remark in remarks if remark.severity is Severity.ERROR]
    if errors:
        raise ConfigError("the backend cannot hold this configuration", diagnostics=remarks)
    names = {wanted.backend for wanted in desired.sandboxes.values()}
    if state is not None:  # also where a sandbox may have been left that nothing speaks of any more
        names |= {record.backend for record in state.sandboxes.values()} | set(state.backends)
    names -= set(blind)
    capabilities = context.backends.capabilities(names)

    def closer(name: str, listed: Sequence[ObservedSandbox]) -> Collection[str]:
        return wants_closer_look(listed, state, desired, capabilities[name])

    observed = (
        look(
            {name: context.backends.get(name) for name in sorted(names)},
            unlabelled=_unlabelled(desired, state, capabilities, destroy=destroy),
            closer=None if destroy else closer,
        )
        if selection.refresh
        else as_recorded(state, capabilities)
    )
    options = PlanOptions(
        new_lineage=str(uuid.uuid4()),
        capabilities=capabilities,
        selection=selection,
        now=context.clock.now(),
        silent=silent,
    )
    made = make_plan(desired, read, observed, options)
    found = (_lineage_found(made),) if made.lineage_found else ()
    refusals = tuple(map(context.illustrate, made.refusals))
    made = replace(
        made, refusals=refusals, diagnostics=(*found, *map(context.illustrate, made.diagnostics), *remarks)
    )
    return View(state=state, observed=observed, plan=made, options=options)


def _nothing_recorded(stack: str) -> Refused:
    return Refused(
        f"there is no state for stack {stack!r}, so without a refresh nothing is known of what is there",
        hint="plan once without `--no-refresh`: what is not looked for is never taken to be absent",
    )


def _unlabelled(
    desired: Desired, state: State | None, capabilities: Mapping[str, Capabilities], *, destroy: bool
) -> Mapping[str, Collection[str]]:
    """What was imported or is to be, or made elsewhere, by backend: no listing by label shows it."""
    records = {} if state is None else state.sandboxes
    ids: dict[str, set[str]] = defaultdict(set)
    for record in records.values():
        if record.imported or capabilities.get(record.backend, Capabilities()).made_elsewhere:
            ids[record.backend].add(record.sandbox_id)
    if not destroy:
        for backend, sandbox_id in made_elsewhere(desired.stack, desired.sandboxes, records, capabilities):
            ids[backend].add(sandbox_id)
        for address, entry in pending(desired, records):
            ids[desired.sandboxes[address].backend].add(entry.id)
    return ids


def _lineage_found(made: Plan) -> Diagnostic:
    return Diagnostic(
        severity=Severity.WARNING,
        code="state-missing",
        summary=f"there is no state for stack {made.stack!r}, but live sandboxes carry its labels "
        f"(lineage {made.lineage}); this plan takes them over",
        fix="if they belong to another checkout, stop here and give this stack a name of its own",
    )
