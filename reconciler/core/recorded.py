"""Planning on what is recorded, without asking a backend: the world as the state believes it to be. Pure.

Every step is still checked against the real object right before it acts.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.core.identity import label_hash
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import Owner
from reconciler.model.observed import Observed, ObservedSandbox, Phase
from reconciler.model.state import SandboxRecord, State, Status


def as_recorded(state: State | None, capabilities: Mapping[str, Capabilities]) -> Observed:
    """Every record whose object is known to have been there, as an object that runs and is as it was made."""
    records = () if state is None else state.sandboxes.values()
    return Observed(
        sandboxes=tuple(
            _object(record, state, capabilities.get(record.backend, Capabilities()))
            for record in records
            if state is not None and record.info is not None and record.status is not Status.PENDING
        )
    )


def _object(record: SandboxRecord, state: State, able: Capabilities) -> ObservedSandbox:
    assert record.info is not None
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
        info=record.info, backend=record.backend, phase=Phase.STARTING, owner=owner if labelled else None
    )
