"""Planning on what is recorded, without asking a backend: the world as the state believes it to be. Pure.

Every step is still checked against the real object right before it acts.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.identity import label_hash
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Owner
from reconciler.model.observed import Observed, ObservedSandbox, Phase, SandboxInfo
from reconciler.model.plan import Action, Reason, Step
from reconciler.model.state import SandboxRecord, State, Status


def as_recorded(state: State | None, capabilities: Mapping[str, Capabilities]) -> Observed:
    """Every record as an object that runs and is as it was made. Of one whose create did not come to an end nobody knows
    whether it is there: it is as one that cannot be told."""
    records = () if state is None else state.sandboxes.values()
    return Observed(
        sandboxes=tuple(
            _object(record, state, capabilities.get(record.backend, Capabilities()))
            for record in records
            if state is not None
        )
    )


def _object(record: SandboxRecord, state: State, able: Capabilities) -> ObservedSandbox:
    known = record.info is not None and record.status is not Status.PENDING
    labelled = able.owns and not record.imported
    owner = Owner(
        stack=state.stack,
        lineage=state.lineage,
        address=record.address,
        generation=record.generation,
        spec_hash=label_hash(record.spec, able),
        protected=record.protected,
    )
    return ObservedSandbox(
        info=record.info or SandboxInfo(sandbox_id=record.sandbox_id, sandbox_url=""),
        backend=record.backend,
        phase=Phase.STARTING if known else Phase.UNKNOWN,
        detail="" if known else "its create was not seen to its end, and no backend was asked",
        owner=owner if labelled else None,
    )


def forget(record: SandboxRecord) -> Step:
    """What is recorded is gone, and its record goes too."""
    return Step(
        action=Action.FORGET,
        address=record.address,
        backend=record.backend,
        reason=Reason.GONE,
        sandbox_id=record.sandbox_id,
        generation=record.generation,
    )
