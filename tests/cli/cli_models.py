"""Small builders of what views are shown. Each call makes fresh data; nothing is shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.model.desired import Address, DesiredSandbox, SandboxSpec, Scalar
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Action, FieldChange, Plan, Reason, Selection, Step
from reconciler.model.position import Position

FILE = "sandboxes.yaml"


def at(line: int, column: int = 5) -> Position:
    return Position(FILE, line, column)


def declared(address: str, line: int = 4, where: Mapping[str, int] | None = None) -> DesiredSandbox:
    return DesiredSandbox(
        address=Address(address),
        group=address.partition("[")[0],
        backend="local",
        spec=SandboxSpec(),
        position=at(line, 3),
        where={path: at(number) for path, number in (where or {}).items()},
    )


def change(path: str, before: Scalar, after: Scalar, **more: Any) -> FieldChange:
    return FieldChange(path=path, before=before, after=after, **{"position": at(12), **more})


def step(address: str, action: Action, reason: Reason, **more: Any) -> Step:
    values: dict[str, Any] = {
        "backend": "local",
        "sandbox_id": "research-" + "".join(char for char in address if char.isalnum()),
        "generation": 1,
    }
    return Step(action=action, address=Address(address), reason=reason, **{**values, **more})


def create(address: str, spec: Mapping[str, Scalar], **more: Any) -> Step:
    where = {path: 6 + index for index, path in enumerate(sorted(spec))}
    return step(
        address,
        Action.CREATE,
        more.pop("reason", Reason.NEW),
        desired=declared(address, where=where),
        spec=spec,
        unchanged=len(spec),
        **{"cost": "~1s", **more},
    )


def plan(*steps: Step, **more: Any) -> Plan:
    if more.pop("destroy", False):
        more["selection"] = Selection(destroy=True)
    return Plan(stack="research", lineage="2f6c", serial=7, steps=steps, **more)


def seen(address: str, phase: Phase = Phase.STARTING) -> ObservedSandbox:
    return ObservedSandbox(info=info(address), backend="local", phase=phase)


def info(address: str, port: int = 49152) -> SandboxInfo:
    name = "".join(char for char in address if char.isalnum())
    return SandboxInfo(sandbox_id=f"research-{name}", sandbox_url=f"http://127.0.0.1:{port}")


def result(address: str, status: StepStatus = StepStatus.DONE, **more: Any) -> StepResult:
    values: dict[str, Any] = {"action": "create", "seconds": 1.25}
    if status is StepStatus.DONE:
        values["info"] = info(address)
    return StepResult(address=Address(address), status=status, **{**values, **more})


def mixed_plan() -> Plan:
    """One of everything that a plan can hold, in a plan's order."""
    image = change("image", "aio:1", "aio:2", forces_replacement=True, position=at(9))
    level = change("environment.LOG_LEVEL", "info", "debug", position=at(11))
    token = change("secrets.API_TOKEN", "digest-one", "digest-two", sensitive=True, position=at(13))
    memory = change("resources.memory", 536870912, 1073741824, outside=True, position=at(15))
    return plan(
        step("legacy", Action.DESTROY, Reason.REMOVED, current=seen("legacy")),
        step(
            "db",
            Action.REPLACE,
            Reason.CONFIG_CHANGED,
            desired=declared("db"),
            changes=(image, token),
            unchanged=4,
            cost="down until the new one is ready, ~1s",
        ),
        step(
            "proxy",
            Action.REPLACE,
            Reason.CONFIG_CHANGED,
            desired=declared("proxy"),
            changes=(change("image", "proxy:1", "proxy:2", forces_replacement=True, position=at(17)),),
            unchanged=2,
            cost="new one first, no downtime, ~1s",
            create_first=True,
        ),
        *(
            step(
                f"researcher[{index}]",
                Action.UPDATE,
                Reason.CONFIG_CHANGED,
                desired=declared(f"researcher[{index}]", 8),
                changes=(level,),
                unchanged=6,
                cost="in place, no restart",
            )
            for index in range(3)
        ),
        step(
            "worker",
            Action.UPDATE,
            Reason.DRIFTED,
            desired=declared("worker", 14),
            changes=(memory,),
            unchanged=5,
            cost="in place, no restart",
        ),
        step(
            'region["eu"]',
            Action.REPAIR,
            Reason.DEAD,
            desired=declared('region["eu"]', 20),
            detail="exit code 137",
            unchanged=3,
            cost="down until the new one is ready, ~1s",
        ),
        step("found", Action.ADOPT, Reason.FOUND, desired=declared("found", 24), unchanged=3),
        *(
            create(
                f"scout[{index}]",
                {
                    "image": "aio:2",
                    "environment.INDEX": str(index),
                    "secrets.KEY": "digest",
                    "resources.cpu": 1.5,
                },
                needs=(Address("db"),),
            )
            for index in range(5)
        ),
        step("old", Action.FORGET, Reason.GONE),
        unchanged=(Address("idle[0]"), Address("idle[1]")),
    )
