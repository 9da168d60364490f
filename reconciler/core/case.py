"""One declared address beside what is recorded of it and what is there: what the rules are asked about. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from reconciler.core.identity import label_hash
from reconciler.model.capabilities import Capabilities
from reconciler.model.desired import DesiredSandbox, FlatSpec, SandboxSpec
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.state import SandboxRecord, Status

_ASLEEP = (Phase.PAUSED, Phase.TERMINATING, Phase.UNKNOWN)


def is_asleep(phase: Phase) -> bool:
    """Whether it cannot answer as it is, or is not known to."""
    return phase.is_dead or phase in _ASLEEP


class Canonical(Struct):
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


class Case(Struct, frozen=True, kw_only=True):
    """One declared address. `flat` is what it should be, `kept` what that comes to on the object that is there, with the
    ignored fields left as they are; `digest` is what labels say of `kept`."""

    wanted: DesiredSandbox
    record: SandboxRecord | None
    current: ObservedSandbox | None
    leftovers: Sequence[ObservedSandbox]
    able: Capabilities
    flat: FlatSpec
    kept: FlatSpec
    digest: str
    importing: bool

    @property
    def is_recorded(self) -> bool:
        """Whether the record, if there is one, speaks of the object, if that is there."""
        record, current = self.record, self.current
        return record is not None and (current is None or record.sandbox_id == current.info.sandbox_id)

    @property
    def same_backend(self) -> bool:
        return self.current is None or self.current.backend == self.wanted.backend

    @property
    def serves(self) -> bool:
        """Whether it runs and has answered before."""
        record, current = self.record, self.current
        if record is None or current is None or not self.is_recorded:
            return False
        return record.status is Status.READY and not is_asleep(current.phase)
