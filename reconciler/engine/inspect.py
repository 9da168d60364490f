"""Looks at single sandboxes: the live table, and where a given address is right now. Changes nothing, and needs no
secret's value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from queue import Empty, SimpleQueue

from msgspec import Struct
from msgspec.structs import replace

from reconciler.backends.base import ProbeAnswer, SandboxBackend
from reconciler.core.select import select
from reconciler.engine.context import Context
from reconciler.engine.perform import probe
from reconciler.engine.survey import View, survey
from reconciler.engine.usage import Meter, Taken
from reconciler.engine.workers import Workers
from reconciler.errors import NotFound, ReconcilerError
from reconciler.model.desired import Address, Desired, DesiredSandbox, Readiness
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from reconciler.model.plan import FieldChange, Reason, Step
from reconciler.model.state import SandboxRecord, State

_PROBE_TIMEOUT = 2.0  # seconds one sandbox may take to answer a look
_PROBES_AT_ONCE = 32
_SILENT = (Phase.PAUSED, Phase.TERMINATING)


class StatusRow(Struct, frozen=True, kw_only=True):
    """One address right now. `ready` None means it was not asked; `age` in seconds, `cpu` in cores and `memory` in
    bytes, each None when unknown. `expires` in seconds, when it has a `max_lifetime` that is not over."""

    address: Address
    backend: str
    phase: Phase | None  # None: nothing is there
    ready: bool | None
    url: str
    age: float | None
    drift: tuple[FieldChange, ...]
    detail: str
    sandbox_id: str
    cpu: float | None = None
    memory: int | None = None
    expires: float | None = None


def status(
    context: Context, patterns: Sequence[str] = (), *, meter: Meter | None = None
) -> tuple[StatusRow, ...]:
    """Every address that is declared, recorded or live and matches, each probed once, sorted. The same `meter` again
    measures since the last time. Raises ReconcilerError when patterns are given and match nothing."""
    view = survey(replace(context, desired=with_recorded_secrets(context)))
    live = view.live()
    wanted = context.desired.sandboxes
    records = view.state.sandboxes if view.state else {}
    known = {*wanted, *records, *live}
    addresses = select(patterns, known, {a: s.spec.labels for a, s in wanted.items()})
    if patterns and not addresses:
        raise ReconcilerError(
            f"nothing matches {' '.join(patterns)}",
            hint=f"there is: {', '.join(sorted(known)[:10]) or 'nothing'}",
        )
    leftovers_first = sorted(view.plan.steps, key=lambda step: step.reason is not Reason.SUPERSEDED)
    steps = {step.address: step for step in leftovers_first}
    there = {address: live[address] for address in addresses if address in live}
    measurement = (meter or Meter()).start(there, context.backends.get)
    answers = probe_all(context, there)
    taken = measurement.finish()
    rows = (
        _row(context, view, address, live.get(address), answers.get(address), steps.get(address))
        for address in addresses
    )
    return tuple(_measured(row, taken.get(row.address)) for row in rows)


def _measured(row: StatusRow, taken: Taken | None) -> StatusRow:
    return row if taken is None else replace(row, cpu=taken.cpu, memory=taken.memory)


def with_recorded_secrets(context: Context) -> Desired:
    """The configuration with those secrets that were not read taken to be what they were: a look must not need them,
    and what nobody read has not changed."""
    desired = context.desired
    if not any(_unread(wanted) for wanted in desired.sandboxes.values()):
        return desired
    state = context.recorded()
    return replace(
        desired,
        sandboxes={
            address: _as_recorded(wanted, _record(state, address)) if _unread(wanted) else wanted
            for address, wanted in desired.sandboxes.items()
        },
    )


def _unread(wanted: DesiredSandbox) -> bool:
    return any(not ref.digest for ref in wanted.spec.secrets.values())


def _as_recorded(wanted: DesiredSandbox, record: SandboxRecord | None) -> DesiredSandbox:
    recorded = {} if record is None else record.spec
    secrets = {
        name: ref if ref.digest else replace(ref, digest=str(recorded.get(f"secrets.{name}", "")))
        for name, ref in wanted.spec.secrets.items()
    }
    return replace(wanted, spec=replace(wanted.spec, secrets=secrets))


def _record(state: State | None, address: Address) -> SandboxRecord | None:
    return state.sandboxes.get(address) if state else None


def _row(
    context: Context,
    view: View,
    address: Address,
    seen: ObservedSandbox | None,
    answer: ProbeAnswer | None,
    step: Step | None,
) -> StatusRow:
    wanted = context.desired.sandboxes.get(address)
    record = _record(view.state, address)
    backend = seen.backend if seen else record.backend if record else wanted.backend if wanted else ""
    if seen is None:
        return StatusRow(
            address=address,
            backend=backend,
            phase=None,
            ready=None,
            url="",
            age=None,
            drift=(),
            detail=step.reason.text if step else "",
            sandbox_id=record.sandbox_id if record else "",
        )
    phase = seen.phase
    if answer is not None:
        phase = Phase.READY if answer.ready else Phase.UNREADY
    created = seen.info.created_at
    return StatusRow(
        address=address,
        backend=backend,
        phase=phase,
        ready=None if answer is None else answer.ready,
        url=seen.info.sandbox_url,
        age=max(0.0, context.clock.now() - created) if created else None,
        drift=tuple(change for change in step.changes if change.outside) if step else (),
        detail=seen.detail
        or (answer.detail if answer else "")
        or (step.reason.text if step else "")
        or seen.reach,
        sandbox_id=seen.info.sandbox_id,
        expires=view.plan.expiring.get(address),
    )


def probe_all(context: Context, live: Mapping[Address, ObservedSandbox]) -> Mapping[Address, ProbeAnswer]:
    """One probe each, side by side, of everything that may answer."""
    asked = {a: seen for a, seen in live.items() if not seen.phase.is_dead and seen.phase not in _SILENT}
    answers: SimpleQueue[tuple[Address, ProbeAnswer]] = SimpleQueue()
    workers = Workers("status", _PROBES_AT_ONCE)
    for address, seen in asked.items():
        wanted = context.desired.sandboxes.get(address)
        readiness = wanted.spec.readiness if wanted else Readiness()
        workers.put(partial(_ask, context.backends.get(seen.backend), seen.info, readiness, address, answers))
    found: dict[Address, ProbeAnswer] = {}
    try:
        while len(found) < len(asked):
            address, answer = answers.get(timeout=_PROBE_TIMEOUT * 2 + len(asked) / _PROBES_AT_ONCE)
            found[address] = answer
    except Empty:
        silent = ProbeAnswer(ready=False, detail="the probe never came back")
        found.update({address: silent for address in asked if address not in found})
    finally:
        workers.close()
    return found


def _ask(
    backend: SandboxBackend,
    info: SandboxInfo,
    readiness: Readiness,
    address: Address,
    answers: SimpleQueue[tuple[Address, ProbeAnswer]],
) -> None:
    try:
        answer = probe(backend, info, readiness, _PROBE_TIMEOUT)
    except Exception as error:  # noqa: BLE001 - a worker must answer, whatever a third party's backend raises
        answer = ProbeAnswer(ready=False, detail=f"{type(error).__name__}: {error}")
    answers.put((address, answer))


def locate(context: Context, address: str) -> tuple[SandboxBackend, SandboxInfo]:
    """The live sandbox of one address, for logs and exec. Raises NotFound when nothing is there."""
    state = context.recorded()
    context.backends.remember(state)
    record = state.sandboxes.get(Address(address)) if state else None
    if record is not None:
        backend = context.backends.get(record.backend)
        seen = backend.look(record.sandbox_id)
        if seen is not None:
            return backend, seen.info
        raise NotFound(f"{address} is recorded, but not there", hint="`reconciler apply` puts it back")
    if Address(address) in context.desired.sandboxes:
        raise NotFound(f"{address} is declared, but was never created", hint="`reconciler apply` creates it")
    known = sorted({*(state.sandboxes if state else ()), *context.desired.sandboxes})
    raise NotFound(f"there is no sandbox {address}", hint=f"there is: {', '.join(known[:10]) or 'nothing'}")
