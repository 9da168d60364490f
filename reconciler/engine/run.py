"""One plan carried out: the lineage made durable, every step to its end, the state saved, the outcome told.

The lock is held by whoever calls. What is asked and what is refused is decided before, in `workflow`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from reconciler.core.fold import fold_all
from reconciler.core.identity import is_ours
from reconciler.core.references import attribute_of, resolve_text
from reconciler.core.saved import Held
from reconciler.engine.context import Context
from reconciler.engine.stop import StopRequest
from reconciler.engine.survey import View
from reconciler.errors import LeaseLost, StoreError
from reconciler.model.desired import Address
from reconciler.model.event import ApplyEnded
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Plan, Selection
from reconciler.model.saved import SavedPlan
from reconciler.model.state import SandboxRecord, State
from reconciler.stores.base import Lease

if TYPE_CHECKING:
    from reconciler.engine.execute import Execution

MASK = "•••"


class ApplyOptions(Struct, frozen=True, kw_only=True):
    """`parallelism` None takes what each backend bears; `lock_timeout` in seconds. `saved` is the plan that was approved:
    only what of it still holds is done; `selection` is the one it was made with."""

    selection: Selection = Selection()
    parallelism: int | None = None
    lock_timeout: float = 0.0
    fail_fast: bool = False
    saved: SavedPlan | None = None

    @property
    def destroy(self) -> bool:
        return self.selection.destroy


class ApplyReport(Struct, frozen=True, kw_only=True):
    """How an apply ended. `results` has one entry per step of the plan, in its order; empty when declined. `plan` is
    what was asked for: of a saved one, all of it. `reverts` are the results of taking failed rollouts back."""

    plan: Plan
    results: tuple[StepResult, ...] = ()
    reverts: tuple[StepResult, ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()
    declined: bool = False
    interrupted: bool = False
    seconds: float = 0.0


def carry_out(
    context: Context, options: ApplyOptions, view: View, held: Held, lease: Lease, stop: StopRequest
) -> tuple[ApplyReport, tuple[StepResult, ...]]:
    """The report on all that was asked for, and the results of `view.plan`'s own steps, in its order. Raises StoreError
    when the state could not be saved, after telling what was done."""
    started = context.clock.monotonic()
    before = after = _first_state(context, view, lease)
    results: tuple[StepResult, ...] = ()
    unsaved: StoreError | None = None
    taken = False
    execution = None if not view.plan.steps else _execution(context, options, view, lease, stop)
    try:
        if execution is not None:
            results = execution.run()
    except LeaseLost as lost:
        taken = True  # the state is somebody else's now
        raise _half_way(lost, execution) from lost
    finally:
        entries = execution.entries if execution is not None else []
        after = _with_outputs(context, options, _settled(context, view, fold_all(before, entries)))
        told = after.outputs != before.outputs and (before.serial or after.outputs)
        if not taken and (entries or told):
            unsaved = _save(context, lease, after)
    outputs = outputs_of(context, after)
    shown = tuple((name, MASK if sensitive else value) for name, (value, sensitive) in outputs.items())
    report = ApplyReport(
        plan=held.shown,
        results=held.merged(results),
        outputs=() if options.destroy else shown,
        interrupted=stop.requested,
        seconds=context.clock.monotonic() - started,
    )
    if unsaved is not None:
        context.emit(_ended(report))
        if isinstance(unsaved, LeaseLost):
            raise unsaved
        raise StoreError(
            unsaved.message,
            hint=unsaved.hint
            or "what was done is in the journal: mend that, and run again to save the state",
        ) from unsaved
    context.emit(_ended(report))
    return report, results


def _half_way(lost: LeaseLost, execution: Execution | None) -> LeaseLost:
    """With what was done until then. Whoever holds the lock now reads it in the journal, or sees it."""
    if execution is None:
        return lost
    done = sum(result.status is StepStatus.DONE for result in execution.ended)
    return LeaseLost(
        f"{lost.message}; {done} of {len(execution.plan.steps)} steps were done by then, and nothing new was begun",
        hint=lost.hint,
    )


def _with_outputs(context: Context, options: ApplyOptions, state: State) -> State:
    """What others may read without asking a backend; sensitive ones are never kept."""
    outputs = {} if options.destroy else outputs_of(context, state)
    return replace(
        state, outputs={name: value for name, (value, sensitive) in outputs.items() if not sensitive}
    )


def _ended(report: ApplyReport) -> ApplyEnded:
    return ApplyEnded(
        results=report.results,
        outputs=report.outputs,
        seconds=report.seconds,
        interrupted=report.interrupted,
    )


def _save(context: Context, lease: Lease, state: State) -> StoreError | None:
    """Write the snapshot; a failure is handed back, so that what was done is told first."""
    try:
        context.store.write(lease, state)
    except StoreError as error:
        return error
    return None


def _first_state(context: Context, view: View, lease: Lease) -> State:
    """Before the first effect the lineage is durable and the backends in use are known to the state."""
    names = {step.backend for step in view.plan.steps}
    names |= {step.current.backend for step in view.plan.steps if step.current}
    names |= {record.backend for record in view.state.sandboxes.values()} if view.state else set()
    names |= _left_behind(view)
    saved = context.backends.saved(names)
    if view.state is not None and view.plan.moves:
        moved = replace(view.state, backends=saved or view.state.backends, updated_at=context.clock.now())
        return context.store.write(lease, moved)
    if view.state is not None and (view.plan.empty or dict(view.state.backends) == saved):
        return view.state
    base = view.state or State(stack=view.plan.stack, lineage=view.plan.lineage)
    if view.plan.empty:
        return base
    return context.store.write(lease, replace(base, backends=saved, updated_at=context.clock.now()))


def _left_behind(view: View) -> set[str]:
    """Backends with something of ours that this run may leave as it is, though nothing is recorded of it: who forgets them
    would never look there again. Where nobody looked, all that are known."""
    if view.state is not None and not view.plan.selection.refresh:
        return set(view.state.backends)
    return {
        seen.backend for seen in view.observed.sandboxes if is_ours(seen, view.plan.stack, view.plan.lineage)
    }


def _execution(
    context: Context, options: ApplyOptions, view: View, lease: Lease, stop: StopRequest
) -> Execution:
    import random

    from reconciler.core.calls import Limits
    from reconciler.engine.execute import Execution  # threads, probes and sockets: a plan needs none of them
    from reconciler.engine.perform import Scrubber

    names = {step.backend for step in view.plan.steps}
    names |= {step.current.backend for step in view.plan.steps if step.current}
    capabilities = context.backends.capabilities(names)
    lanes = {name: options.parallelism or able.max_in_flight for name, able in capabilities.items()}
    opened = {name: context.backends.get(name) for name in names}
    return Execution(
        plan=view.plan,
        capabilities=capabilities,
        backend_of=opened.__getitem__,
        scrub=Scrubber(context.desired),
        append=lambda entries: context.store.append(lease, entries),
        lost=lambda: lease.lost,
        emit=context.emit,
        clock=context.clock,
        limits=Limits(
            parallelism=options.parallelism or sum(lanes.values()),
            lanes=lanes,
            ahead=max(lanes.values(), default=0) // 2,
            fail_fast=options.fail_fast,
        ),
        jitter=context.jitter or random.random,
        stop=stop,
        crew=context.crew,
    )


def _settled(context: Context, view: View, state: State) -> State:
    """The folded state with connection details as last seen, for sandboxes this run left alone."""
    seen = {found.info.sandbox_id: found.info for found in view.observed.sandboxes}
    changed: dict[Address, SandboxRecord] = {}
    for address in view.plan.unchanged:
        record = state.sandboxes.get(address)
        info = seen.get(record.sandbox_id) if record else None
        if record is not None and info is not None and info != record.info:
            changed[address] = replace(record, info=info)
    return replace(state, sandboxes={**state.sandboxes, **changed}, updated_at=context.clock.now())


def outputs_of(context: Context, state: State | None) -> Mapping[str, tuple[str, bool]]:
    """Each output's value and whether it is sensitive; a value that is not known yet says so."""
    records = {} if state is None else state.sandboxes

    def lookup(address: Address, attribute: str) -> str | None:
        record = records.get(address)
        return None if record is None or record.info is None else attribute_of(record.info, attribute)

    return {
        name: (resolve_text(output.value, lookup), output.sensitive)
        for name, output in sorted(context.desired.outputs.items())
    }
