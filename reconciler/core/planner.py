"""desired + state + observed → plan. Pure, deterministic, linear in the number of sandboxes.

Must never decide from an incomplete look, and never put into a plan what is not ours. The stages: records move, objects
are sorted by whose they are, each address is judged by the rules, steps are linked, selected and put into waves, and the
whole is held against the policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from reconciler.core.holdings import Holdings, made_elsewhere, recorded_without_labels
from reconciler.core.imports import Takeovers, pending, takeovers
from reconciler.core.judge import Judge
from reconciler.core.moves import misses, moved_state
from reconciler.core.order import circular, link, topological
from reconciler.core.policy import refusals
from reconciler.core.refresh_only import refreshed
from reconciler.core.rollout import Rolled, roll_out
from reconciler.core.selection import check_patterns, meant, selected
from reconciler.errors import ObservationIncomplete, Refused
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Address, Desired
from reconciler.model.diagnostic import Diagnostic
from reconciler.model.observed import Observed
from reconciler.model.plan import Moved, Plan, Selection, Step
from reconciler.model.state import SandboxRecord, State, Status


class PlanOptions(Struct, frozen=True, kw_only=True):
    """`new_lineage` is used when neither a state nor live labels tell one. `capabilities` by backend name. `now` in
    seconds since the epoch. `silent` are those that were probed in vain, `left` those that stay as
    they are, whatever they are like."""

    new_lineage: str
    capabilities: Mapping[str, Capabilities] = field(default_factory=dict)
    selection: Selection = Selection()
    now: float = 0.0
    silent: frozenset[Address] = frozenset()
    left: frozenset[Address] = frozenset()

    @property
    def destroy(self) -> bool:
        return self.selection.destroy


def make_plan(desired: Desired, state: State | None, observed: Observed, options: PlanOptions) -> Plan:
    """Raises ObservationIncomplete when a backend could not be listed, Refused when ownership is ambiguous, an id we
    need is taken by somebody else, or an import or a move may not be made, NotFound when an import is not there or a
    pattern means nothing."""
    if not observed.complete:
        raise _incomplete(observed)
    lineage, found = _lineage(desired.stack, state, observed, options)
    state, moves = moved_state(state, desired.moved)
    _refuse_misses(moves, desired)
    planner = _Planner(desired, state, observed, options, lineage)
    steps, unchanged = planner.run()
    chosen = planner.choose(steps)
    return Plan(
        stack=desired.stack,
        lineage=lineage,
        serial=0 if state is None else state.serial,
        steps=chosen.steps,
        unchanged=unchanged,
        diagnostics=(*planner.judge.diagnostics, *chosen.diagnostics),
        outputs={} if options.destroy else desired.outputs,
        infos={address: info for address, info in planner.judge.infos.items() if info is not None},
        lineage_found=found,
        selection=options.selection,
        moves=moves,
        rollouts=chosen.rollouts,
        left_out=chosen.held,
        refusals=planner.refusals(chosen),
        expiring=planner.judge.expiring,
        fleet=planner.holdings.fleet,
        followed=planner.judge.followed,
    )


def _was_begun(record: SandboxRecord) -> bool:
    """Whether it was ready once, and is being made into something else."""
    if record.healthy is None:
        return False
    return record.status is Status.DESTROYING or record.healthy != record.spec


def _refuse_misses(moves: Iterable[Moved], desired: Desired) -> None:
    told = list(misses(moves, desired))
    if told:
        raise Refused("\n".join(told), hint="name one address on both sides of the entry of `moved`")


def _refuse_unseen_imports(desired: Desired, records: Mapping[Address, SandboxRecord]) -> None:
    waiting = [str(address) for address, _ in pending(desired, records)]
    if waiting:
        raise Refused(
            f"{', '.join(waiting[:5])} is to be imported, and without a look nobody can tell what is there",
            hint="leave out `--no-refresh`",
        )


def _incomplete(observed: Observed) -> ObservationIncomplete:
    told = "; ".join(f"{name}: {error}" for name, error in sorted(observed.failures.items()))
    return ObservationIncomplete(
        f"cannot see everything, so nothing is planned: {told}",
        hint="unknown is never treated as absent: mend the backend and run again; `reconciler doctor` looks into it",
        failures=observed.failures,
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


class _Planner:
    """One run of `make_plan`: looks at each address once, in dependency order."""

    def __init__(
        self, desired: Desired, state: State | None, observed: Observed, options: PlanOptions, lineage: str
    ) -> None:
        self.desired = desired
        self.options = options
        self.wanted = {} if options.destroy else desired.sandboxes
        self.records: Mapping[Address, SandboxRecord] = {} if state is None else state.sandboxes
        if not options.selection.refresh:
            _refuse_unseen_imports(desired, self.records)
        released = frozenset() if state is None else frozenset(state.released)
        found = (
            Takeovers()
            if options.destroy or not options.selection.refresh
            else takeovers(desired, self.records, observed, lineage, released=released)
        )
        self.holdings = Holdings(
            stack=desired.stack,
            lineage=lineage,
            records=self.records,
            unlabelled=recorded_without_labels(self.records, options.capabilities),
            importing=found.targets,
            elsewhere=made_elsewhere(desired.stack, self.wanted, self.records, options.capabilities),
            released=released,
            moved=desired.moved,
            declared=frozenset(self.wanted),
        )
        self.holdings.sort(observed.sandboxes)
        self.known = sorted({*self.wanted, *self.records, *self.holdings.live})
        self.labels = {address: wanted.spec.labels for address, wanted in desired.sandboxes.items()}
        check_patterns(options.selection, self.known, self.labels)
        self.judge = Judge(
            desired,
            self.holdings,
            options.capabilities,
            self._asked(),
            options.now,
            silent=options.silent,
            left=options.left,
            serial=0 if state is None else state.serial,
        )
        self.judge.diagnostics += found.diagnostics

    def _asked(self) -> frozenset[Address]:
        patterns = self.options.selection.replace
        if not patterns:
            return frozenset()
        asked = frozenset(address for address in self.known if meant(patterns, address, self.labels))
        self._refuse_elsewhere(patterns)
        return asked

    def _refuse_elsewhere(self, patterns: Iterable[str]) -> None:
        """What exists elsewhere cannot be replaced from here. Raises Refused where a pattern means nothing else."""
        for pattern in patterns:
            found = [address for address in self.known if meant((pattern,), address, self.labels)]
            kept = [address for address in found if self._is_elsewhere(address)]
            if kept and len(kept) == len(found):
                raise Refused(
                    f"--replace {pattern} means {', '.join(kept[:5])}, and nothing of that is made from here",
                    hint="have it replaced where it was made; an apply waits for it then",
                )

    def _is_elsewhere(self, address: Address) -> bool:
        known = self.wanted.get(address) or self.records.get(address)
        able = None if known is None else self.options.capabilities.get(known.backend)
        return able is not None and able.made_elsewhere

    def run(self) -> tuple[list[Step], tuple[Address, ...]]:
        """All there is to do, and the declared addresses with nothing to do."""
        if self.options.selection.refresh_only:
            steps = list(refreshed(self.records, self.judge.current(self.records), self.wanted))
            return steps, tuple(sorted(set(self.wanted) - {step.address for step in steps}))
        steps = []
        unchanged: list[Address] = []
        for address in topological(self.wanted):
            planned = self.judge.declared(self.wanted[address])
            steps += planned
            if not planned:
                unchanged.append(address)
        for address in self.known:
            if address not in self.wanted:
                steps += self.judge.undeclared(address, destroy=self.options.destroy)
        return steps, tuple(sorted(unchanged))

    def choose(self, steps: Iterable[Step]) -> Rolled:
        """The steps to take, linked, selected, and in their waves."""
        linked = link(steps, self.records)
        chosen, left = selected(linked, self.options.selection, self.labels)
        if self.options.selection.refresh_only:
            return Rolled(steps=chosen, held=left)
        rolled = roll_out(
            chosen,
            self.wanted,
            serving=self.judge.serving,
            known=self.holdings.known,
            begun=frozenset(address for address, record in self.records.items() if _was_begun(record)),
        )
        rolled.held = tuple(sorted({*left, *rolled.held}))
        return rolled

    def refusals(self, chosen: Rolled) -> tuple[Diagnostic, ...]:
        if self.options.selection.refresh_only:
            return ()
        found = refusals(chosen.steps, self.desired, self.options.selection, fleet=self.holdings.fleet)
        return (*found, *circular(chosen.steps, chosen.rollouts))
