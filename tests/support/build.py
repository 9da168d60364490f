"""Small builders for model data: every argument that matters to a test is said in the test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from reconciler.core.identity import sandbox_id
from reconciler.core.planner import PlanOptions
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import (
    Address,
    BackendConfig,
    Desired,
    DesiredSandbox,
    Lifecycle,
    Output,
    Owner,
    Readiness,
    SandboxSpec,
    fingerprint,
)
from reconciler.model.lifecycle import Rollout
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from reconciler.model.plan import Selection
from reconciler.model.position import Position
from reconciler.model.state import SandboxRecord, State, Status

STACK = "research"
LINEAGE = "11111111-1111-1111-1111-111111111111"
HERE = Position("sandboxes.yaml", 3, 5)
ABLE = Capabilities(default=Support.ENFORCED, updatable=("resources", "labels"), logs=True, exec=True)


def spec(**fields: Any) -> SandboxSpec:
    fields.setdefault("readiness", Readiness(timeout=10))
    return SandboxSpec(**fields)


def wanted(
    address: str,
    *,
    backend: str = "main",
    depends_on: Iterable[str] = (),
    references: Iterable[str] = (),
    where: Mapping[str, Position] | None = None,
    create_first: bool = False,
    lifecycle: Lifecycle | None = None,
    rollout: Rollout | None = None,
    **fields: Any,
) -> DesiredSandbox:
    refs = tuple(Address(a) for a in references)
    return DesiredSandbox(
        address=Address(address),
        group=address.partition("[")[0],
        backend=backend,
        spec=spec(**fields),
        position=HERE,
        where=where or {},
        depends_on=tuple(Address(a) for a in depends_on) + refs,
        references=refs,
        lifecycle=lifecycle or Lifecycle(create_first=create_first),
        rollout=rollout,
    )


def desired(*sandboxes: DesiredSandbox, outputs: Iterable[Output] = (), stack: str = STACK) -> Desired:
    names = {sandbox.backend for sandbox in sandboxes} | {"main"}
    return Desired(
        stack=stack,
        sandboxes={s.address: s for s in sorted(sandboxes, key=lambda s: s.address)},
        backends={name: BackendConfig(name=name, type="memory") for name in sorted(names)},
        outputs={output.name: output for output in outputs},
    )


def info(address: str, generation: int = 1, *, container: str | None = None, url: str = "") -> SandboxInfo:
    identity = sandbox_id(STACK, Address(address), generation)
    return SandboxInfo(
        sandbox_id=identity,
        sandbox_url=url or f"http://{identity}.test",
        container_id=container or f"c-{identity}",
        created_at=100.0,
    )


def seen(
    of: DesiredSandbox,
    *,
    generation: int = 1,
    phase: Phase = Phase.STARTING,
    backend: str | None = None,
    lineage: str = LINEAGE,
    stack: str = STACK,
    label: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    labelled: bool = True,
    detail: str = "",
) -> ObservedSandbox:
    owner = Owner(
        stack=stack,
        lineage=lineage,
        address=of.address,
        generation=generation,
        spec_hash=fingerprint(of.spec.canonical()) if label is None else label,
    )
    return ObservedSandbox(
        info=info(of.address, generation),
        backend=of.backend if backend is None else backend,
        phase=phase,
        owner=owner if labelled else None,
        attributes=attributes,
        detail=detail,
    )


def record(
    of: DesiredSandbox,
    *,
    generation: int = 1,
    status: Status = Status.READY,
    spec_hash: str | None = None,
    backend: str | None = None,
) -> SandboxRecord:
    flat = of.spec.canonical()
    return SandboxRecord(
        address=of.address,
        sandbox_id=sandbox_id(STACK, of.address, generation),
        backend=of.backend if backend is None else backend,
        generation=generation,
        spec=flat,
        spec_hash=fingerprint(flat) if spec_hash is None else spec_hash,
        info=info(of.address, generation),
        status=status,
        depends_on=of.depends_on,
        created_at=100.0,
        updated_at=100.0,
    )


def state(*records: SandboxRecord, serial: int = 7) -> State:
    return State(
        stack=STACK,
        lineage=LINEAGE,
        serial=serial,
        sandboxes={r.address: r for r in records},
        updated_at=100.0,
    )


def options(
    *, destroy: bool = False, capabilities: Capabilities = ABLE, **others: Capabilities
) -> PlanOptions:
    return PlanOptions(
        new_lineage=LINEAGE,
        capabilities={"main": capabilities, "other": capabilities, **others},
        selection=Selection(destroy=destroy),
    )
