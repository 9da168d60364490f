"""A saved plan held against a fresh one, object by object: what of it still holds runs, the rest is told and left alone.

What is not in the saved plan never runs, whatever the fresh one says: nobody has seen it. What runs are the fresh plan's
steps, in the waves that were approved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from reconciler.core.order import circular
from reconciler.core.policy import refusals
from reconciler.core.references import attribute_of, resolve_spec
from reconciler.errors import PlanStale, Refused
from reconciler.model.desired import Address, Desired, FlatSpec, Scalar
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.evidence import evidenced
from reconciler.model.observed import ObservedSandbox
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import UNKNOWN_VALUE, Action, Moved, Plan, Reason, Step, Waves
from reconciler.model.saved import Inputs, SavedPlan
from reconciler.model.state import State

_AGAIN = "plan again"
_DONE = "it is as planned already"
_MOST_FIELDS = 3  # told of one step
_MOST_NAMES = 5
_REMOVES = (Action.DESTROY, Action.FORGET)


class Held(Struct, frozen=True, kw_only=True):
    """`shown` is what was asked for, `plan` what of it runs; `refused` are the results of the other steps, by key."""

    shown: Plan
    plan: Plan
    refused: Mapping[str, StepResult] = field(default_factory=dict)
    remarks: tuple[Diagnostic, ...] = ()

    def merged(self, results: Sequence[StepResult]) -> tuple[StepResult, ...]:
        """With those that did not run, in the order of `shown`. `results` are of `plan`, and may have more at their end."""
        if not self.refused:
            return tuple(results)
        ran = {step.key: result for step, result in zip(self.plan.steps, results, strict=False)}
        told = {**ran, **self.refused}
        own = tuple(told[step.key] for step in self.shown.steps if step.key in told)
        return (*own, *results[len(self.plan.steps) :])


def hold(saved: SavedPlan, fresh: Plan, *, state: State | None, desired: Desired, inputs: Inputs) -> Held:
    """What of a saved plan still holds. `fresh` was made with its selection; `inputs` are those of now.

    Raises PlanStale when nothing of it can be held against anything: the state is another one, or the moves are others.
    Raises Refused for a plan that was refused when it was made.
    """
    refuse_whole(saved, state)
    _refuse_moves(saved.plan.moves, fresh.moves)
    refused = _Comparison(saved, fresh, desired, inputs).refused()
    valid = {step.key: step for step in saved.plan.steps if step.key not in refused}
    steps = tuple(replace(step, wave=valid[step.key].wave) for step in fresh.steps if step.key in valid)
    saved_keys = {step.key for step in saved.plan.steps}
    extra = [step.address for step in fresh.steps if step.key not in saved_keys]
    rollouts = tuple(_remaining(saved.plan.rollouts, valid))
    against = refusals(steps, desired, fresh.selection, fleet=fresh.fleet)
    return Held(
        shown=replace(saved.plan, diagnostics=fresh.diagnostics),
        plan=replace(
            fresh,
            steps=steps,
            rollouts=rollouts,
            diagnostics=(),
            refusals=(*against, *circular(steps, rollouts)),
        ),
        refused=refused,
        remarks=(*_extra(extra), *(_causes(saved.inputs, inputs) if refused else ())),
    )


# -- the whole


def refuse_whole(saved: SavedPlan, state: State | None) -> None:
    """Raises what `hold` says, from the state alone."""
    plan = saved.plan
    if plan.refusals:
        raise Refused(
            f"the plan was refused when it was made: {plan.refusals[0].summary}",
            hint=plan.refusals[0].fix or "mend that, then plan again",
        )
    if state is None:
        if plan.serial:
            raise PlanStale(
                f"the plan was made on the state of serial {plan.serial}, and there is no state now",
                hint="bring the state back, or plan again without it",
            )
        return
    if not plan.serial:
        raise PlanStale(
            f"the plan was made before there was a state, and there is one by now (serial {state.serial})",
            hint="if it is this plan that was applied, it cannot be applied again: `reconciler plan` shows what is left",
        )
    if state.lineage != plan.lineage:
        raise PlanStale(
            f"the plan was made on a state of lineage {plan.lineage}, and this one is of lineage {state.lineage}",
            hint="use it with the state it was made on, or plan again",
        )
    if saved.forgeable:
        raise PlanStale(
            "the plan was made before the stack had a key, so nobody can tell whether it was edited since",
            hint=_AGAIN,
        )
    if not saved.keyed and state.serial != plan.serial:
        raise PlanStale(
            f"the plan was made on serial {plan.serial} of the state, which is at {state.serial}, and no key vouches "
            "for it",
            hint=_AGAIN,
        )


def _refuse_moves(then: Sequence[Moved], now: Sequence[Moved]) -> None:
    planned = {(move.source, move.target) for move in then}
    due = {(move.source, move.target) for move in now}
    if planned == due:
        return
    gone, new = sorted(planned - due), sorted(due - planned)
    told = [f"{source} → {target} is not to be done any more" for source, target in gone]
    told += [f"{source} → {target} is new" for source, target in new]
    raise PlanStale(f"the plan's moves are not those of now: {'; '.join(told[:_MOST_NAMES])}", hint=_AGAIN)


def _remaining(rollouts: Sequence[Waves], valid: Mapping[str, Step]) -> Iterator[Waves]:
    for rollout in rollouts:
        waves = tuple(tuple(key for key in wave if key in valid) for wave in rollout.waves)
        if any(waves):
            yield replace(rollout, waves=tuple(wave for wave in waves if wave))


def _extra(extra: Sequence[Address]) -> Iterator[Diagnostic]:
    if extra:
        named = ", ".join(extra[:_MOST_NAMES]) + (", …" if len(extra) > _MOST_NAMES else "")
        yield Diagnostic(
            severity=Severity.NOTE,
            code="not-in-plan-file",
            summary=f"more is to be done by now that the plan file does not have, and it is not done: {len(extra)} "
            f"({named})",
            fix="plan again to see it",
        )


def _causes(then: Inputs, now: Inputs) -> Iterator[Diagnostic]:
    """What the plan was made from and is not the same any more: where to look."""
    changed = [f"the variable {name} {how}" for name, how in _changed_variables(then, now)]
    if then.secrets and now.secrets and then.secrets != now.secrets:
        changed.insert(0, "the secrets changed")
    if then.configuration and now.configuration and then.configuration != now.configuration:
        changed.insert(0, "the configuration's files changed")
    if changed:
        more = f" and {len(changed) - _MOST_NAMES} more" if len(changed) > _MOST_NAMES else ""
        yield Diagnostic(
            severity=Severity.NOTE,
            code="plan-inputs-changed",
            summary=f"since the plan was made {', '.join(changed[:_MOST_NAMES])}{more}",
        )


# -- step by step


class _Comparison:
    """One saved plan against one fresh plan."""

    def __init__(self, saved: SavedPlan, fresh: Plan, desired: Desired, inputs: Inputs) -> None:
        self.saved = saved.plan
        self.fresh = fresh
        self.steps = {step.key: step for step in fresh.steps}
        self.unchanged = frozenset(fresh.unchanged)
        self.left_out = frozenset(fresh.left_out)
        self.declared = {} if fresh.destroy else desired.sandboxes
        self.variables = tuple(_changed_variables(saved.inputs, inputs))

    def refused(self) -> dict[str, StepResult]:
        """Stale ones, and what must not run without them."""
        found: dict[str, StepResult] = {}
        for step in self.saved.steps:
            told = self._moved(step)
            if told:
                found[step.key] = _result(step, StepStatus.STALE, told)
        known = {step.key: step for step in self.saved.steps}
        crowded = self._crowded(known)
        while more := dict(self._skipped(found, known, crowded)):
            found |= more
        return found

    def _crowded(self, known: Mapping[str, Step]) -> Mapping[str, str]:
        """Steps of a rollout, by key, while something else of their group is to be put up again by now: more of it is away
        than the waves of the file reckoned with."""
        groups = {
            step.desired.group: step.address
            for step in self.fresh.steps
            if step.key not in known and step.desired is not None and step.reason is not Reason.NEW
        }
        return {
            key: groups[rollout.group]
            for rollout in self.saved.rollouts
            if rollout.group in groups
            for wave in rollout.waves
            for key in wave
        }

    def _skipped(
        self, refused: Mapping[str, StepResult], known: Mapping[str, Step], crowded: Mapping[str, str]
    ) -> Iterator[tuple[str, StepResult]]:
        left = {key: result for key, result in refused.items() if result.error != _DONE}
        late = self._late(left)
        for step in self.saved.steps:
            if step.key in refused:
                continue
            told = "an earlier wave of its rollout is not complete" if step.key in late else ""
            if step.key in crowded:
                told = f"{crowded[step.key]} of its rollout is away by now, which the plan does not have"
            for key in sorted({*step.needs, *self.steps[step.key].needs}):
                if key in left:
                    told = f"{known[key].address} it needs: {left[key].status}"
                elif key in self.steps and key not in known:
                    told = f"{self.steps[key].address} it needs is to be changed by now, which the plan does not have"
            if told:
                yield step.key, _result(step, StepStatus.SKIPPED, told)

    def _late(self, refused: Mapping[str, StepResult]) -> frozenset[str]:
        """Steps of waves that come after one which is not whole."""
        late: set[str] = set()
        for rollout in self.saved.rollouts:
            broken = False
            for wave in rollout.waves:
                if broken:
                    late.update(wave)
                broken = broken or any(key in refused for key in wave)
        return frozenset(late)

    def _moved(self, step: Step) -> str:
        """What moved about it since; "" when it still holds."""
        now = self.steps.get(step.key)
        if now is None:
            return self._settled(step)
        if (step.action in _REMOVES) != (now.action in _REMOVES):
            return "it is no longer declared" if now.action in _REMOVES else "it is declared by now"
        if step.backend != now.backend:
            return f"it is on another backend now ({step.backend} → {now.backend})"
        return (
            self._respecified(step.spec, now.spec)
            or _exchanged(step.current, now.current)
            or _otherwise(step, now)
        )

    def _settled(self, step: Step) -> str:
        """Why there is nothing to do any more."""
        address = step.address
        if address in self.left_out:
            rolls = any(step.key in wave for rollout in self.saved.rollouts for wave in rollout.waves)
            return "its rollout waits by now" if rolls else "it is not among what was selected any more"
        if step.reason is Reason.SUPERSEDED:
            return "it is gone already"
        if address not in self.unchanged:
            if address in self.declared:
                return "nothing is to be done about it any more"
            if step.action in _REMOVES:
                return "its record is gone already" if step.action is Action.FORGET else "it is gone already"
            return "it is no longer declared"
        if step.action in _REMOVES:
            return "it is declared by now"
        told = self._respecified(step.spec, self._wanted(address))
        if told:
            return told
        info = self.fresh.infos.get(address)
        same = info is not None and step.current is not None and _one(step.current) == info.container_id
        return "it runs again" if step.action is Action.REPAIR and same else _DONE

    def _wanted(self, address: Address) -> FlatSpec:
        def lookup(other: Address, attribute: str) -> str | None:
            info = self.fresh.infos.get(other)
            return None if info is None else attribute_of(info, attribute)

        return resolve_spec(self.declared[address].spec, lookup).canonical()

    def _respecified(self, then: FlatSpec, now: FlatSpec) -> str:
        paths = [path for path in sorted({*then, *now}) if not _agree(path, then, now)]
        if not paths:
            return ""
        secrets = [path.removeprefix("secrets.") for path in paths if _is_digest(path)]
        refers = [path for path in paths if UNKNOWN_VALUE in (then.get(path), now.get(path))]
        fields = [path for path in paths if not _is_digest(path) and path not in refers]
        told = []
        if fields:
            shown = [f"{path} {_value(then.get(path))} → {_value(now.get(path))}" for path in fields]
            more = f" and {len(shown) - _MOST_FIELDS} more" if len(shown) > _MOST_FIELDS else ""
            told.append(f"the configuration changed it since: {', '.join(shown[:_MOST_FIELDS])}{more}")
        if secrets:
            told.append(f"the secret {', '.join(secrets[:_MOST_FIELDS])} changed")
        if refers and not fields:
            told.append(f"what {', '.join(refers[:_MOST_FIELDS])} refers to is known by now, or not any more")
        cause = ", ".join(f"variable {name} {how}" for name, how in self.variables[:_MOST_FIELDS])
        return "; ".join(told) + (f" ({cause})" if cause and (fields or secrets) else "")


def _exchanged(then: ObservedSandbox | None, now: ObservedSandbox | None) -> str:
    if then is None:
        return "" if now is None else f"there is one by now ({_one(now)})"
    if now is None:
        return "it is gone"
    if (then.backend, _one(then)) != (now.backend, _one(now)):
        return f"it is another object now ({_one(now)})"
    return "" if then.owner == now.owner else "its labels changed"


def _otherwise(step: Step, now: Step) -> str:
    """The same object and specification, and something else would be done about it."""
    if step.action is not now.action:
        why = evidenced(now.reason.text, now.detail)
        return f"{why}; {now.action} would be due by now, not {step.action}"
    same = (step.sandbox_id, step.generation) == (now.sandbox_id, now.generation)
    if not same and now.reason is not Reason.NEW:  # whose name nobody knows yet
        return f"it would become {now.sandbox_id} by now, not {step.sandbox_id}"
    if step.create_first != now.create_first:
        order = "before" if now.create_first else "after"
        return f"the new one would come {order} the old one goes by now"
    if step.rungs != now.rungs:
        tried = ", ".join([*now.rungs, "replace"])
        return f"it would be repaired in another way by now ({tried})"
    return ""


def _result(step: Step, status: StepStatus, why: str) -> StepResult:
    return StepResult(address=step.address, action=str(step.action), status=status, error=why, hint=_AGAIN)


def _one(seen: ObservedSandbox) -> str:
    """What tells one object from the next: the engine's id where there is one."""
    return seen.info.container_id or seen.info.sandbox_id


def _agree(path: str, then: FlatSpec, now: FlatSpec) -> bool:
    """1, 1.0 and True are three values. A secret's digest that could not be made yet says nothing."""
    before, after = then.get(path), now.get(path)
    if _is_digest(path) and before == "" and path in now:
        return True
    return (path in then) == (path in now) and type(before) is type(after) and before == after


def _is_digest(path: str) -> bool:
    return path.startswith("secrets.") and not path.endswith(".as")


def _value(value: Scalar) -> str:
    return "(not set)" if value is None else json.dumps(value, ensure_ascii=False)


def _changed_variables(then: Inputs, now: Inputs) -> Iterator[tuple[str, str]]:
    """Name and what became of it; what is not known on one side is not told."""
    for name in sorted({*then.variables, *now.variables}):
        before, after = then.variables.get(name), now.variables.get(name)
        if before is None or after is None:
            yield name, "is new" if before is None else "is gone"
        elif before and after and before != after:
            yield name, "changed"
