"""One declared address beside what is recorded of it and what is there: what the rules are asked about. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from msgspec import Struct, field

from reconciler.core.identity import label_hash
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import DesiredSandbox, FlatSpec, SandboxSpec
from reconciler.model.observed import ObservedSandbox, Phase
from reconciler.model.plan import FieldChange
from reconciler.model.state import SandboxRecord, Status

_ASLEEP = (Phase.PAUSED, Phase.TERMINATING, Phase.UNKNOWN)


def is_asleep(phase: Phase) -> bool:
    """Whether it cannot answer as it is, or is not known to."""
    return phase.is_dead or phase in _ASLEEP


def is_resumable(seen: ObservedSandbox) -> bool:
    """Whether it is paused by an engine that can let it go on."""
    return bool(seen.astray) and any(
        found.path == "container.paused" and found.in_place for found in seen.astray
    )


class Form(Struct, frozen=True, dict=True):
    """A canonical form, and what labels on a backend like this say of it. That is worked out only when somebody asks:
    where the state knows an object, nobody does."""

    flat: FlatSpec
    able: Capabilities

    @cached_property
    def digest(self) -> str:
        return label_hash(self.flat, self.able)


class Forms(Struct):
    """One for each spec object and kind of backend: replicas share theirs."""

    _known: dict[tuple[int, str | tuple[str, ...]], tuple[SandboxSpec, Form]] = field(default_factory=dict)

    def of(self, spec: SandboxSpec, able: Capabilities) -> Form:
        key = (id(spec), "" if able.relabels else able.updatable)
        entry = self._known.get(key)
        if entry is None:
            entry = self._known[key] = (spec, Form(spec.canonical(), able))
        return entry[1]


class Case(Struct, frozen=True, kw_only=True):
    """One declared address. `flat` is what it should be, `made` what that comes to on the object that is there, with the
    ignored fields left as they are. `is_recorded`: the record, if there is one, speaks of the object, if that is there."""

    wanted: DesiredSandbox
    record: SandboxRecord | None
    current: ObservedSandbox | None
    leftovers: Sequence[ObservedSandbox]
    able: Capabilities
    flat: FlatSpec
    made: Form
    importing: bool
    is_recorded: bool
    same_backend: bool

    @property
    def kept(self) -> FlatSpec:
        return self.made.flat

    @property
    def serves(self) -> bool:
        """Whether it runs and has answered before."""
        record, current = self.record, self.current
        if record is None or current is None or not self.is_recorded:
            return False
        return record.status is Status.READY and not is_asleep(current.phase)


def is_record_alone(
    changes: Sequence[FieldChange], current: ObservedSandbox | None, able: Capabilities
) -> bool:
    """Whether the backend goes without all that changes, so that the sandbox stays as it is. What is astray is no field that
    it could go without: it says itself that it puts that back."""
    put_back = {found.path for found in current.astray} if current is not None else frozenset[str]()
    return bool(changes) and all(
        change.path not in put_back and able.support(change.path, change.after) is not Support.ENFORCED
        for change in changes
    )


def is_among(record: SandboxRecord, sandboxes: Iterable[ObservedSandbox]) -> bool:
    """By the id alone: so is it told that what is recorded was destroyed."""
    return any(seen.info.sandbox_id == record.sandbox_id for seen in sandboxes)


def each_once(candidates: Iterable[ObservedSandbox]) -> list[ObservedSandbox]:
    """Without what was seen before: two backends of one engine both show all that is there, and what counts as seen
    through one is no leftover as seen through the other."""
    found: dict[object, ObservedSandbox] = {}
    for seen in candidates:
        found.setdefault(seen.info.container_id or (seen.backend, seen.info.sandbox_id), seen)
    return list(found.values())
