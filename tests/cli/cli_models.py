"""Small builders of what views are shown. Each call makes fresh data; nothing is shared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.model.desired import Address, DesiredSandbox, SandboxSpec, Scalar
from reconciler.model.diagnostic import Diagnostic, Severity
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo
from reconciler.model.outcome import StepResult, StepStatus
from reconciler.model.plan import Action, FieldChange, Moved, Plan, Reason, Rung, Selection, Step, Waves
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


def refusal(
    summary: str = "it destroys 5 sandboxes, and `policy.max_destroy` is 2", **more: Any
) -> Diagnostic:
    values: dict[str, Any] = {
        "code": "max-destroy",
        "position": at(31),
        "fix": "select fewer with `--target`",
    }
    return Diagnostic(severity=Severity.ERROR, summary=summary, **{**values, **more})


def moved(source: str, target: str, line: int = 12) -> Moved:
    return Moved(source=Address(source), target=Address(target), position=at(line))


def waves(group: str, *sizes: int, **more: Any) -> Waves:
    """A rollout through `group[0]`, `group[1]` and on, so many a wave."""
    keys, count = [], 0
    for size in sizes:
        keys.append(tuple(f"{group}[{index}]" for index in range(count, count + size)))
        count += size
    return Waves(group=group, waves=tuple(keys), size=count, **{"at_once": max(sizes), **more})


def replaced(address: str, **more: Any) -> Step:
    """A replacement for a new image."""
    image = change("image", "aio:1", "aio:2", forces_replacement=True, position=at(9))
    return step(
        address,
        Action.REPLACE,
        Reason.CONFIG_CHANGED,
        desired=declared(address, 8),
        **{"changes": (image,), "unchanged": 6, "cost": "down until the new one is ready, ~1s", **more},
    )


def broken(address: str, **more: Any) -> Step:
    values: dict[str, Any] = {
        "desired": declared(address, 20),
        "detail": "exit code 137",
        "unchanged": 3,
        "cost": "down until it answers",
        "rungs": (Rung.PROBE, Rung.RESTART),
    }
    return step(address, Action.REPAIR, Reason.DEAD, **{**values, **more})


def rollout_plan() -> Plan:
    """Ten replicas that are replaced in six waves, and what a life cycle adds to a plan."""
    rollout = waves("researcher", 1, 2, 2, 2, 2, 1, min_healthy=10.0, canary=True, auto_revert=True)
    wave_of = {key: number for number, wave in enumerate(rollout.waves, start=1) for key in wave}
    return plan(
        step(
            "db",
            Action.UPDATE,
            Reason.CONFIG_CHANGED,
            changes=(change("resources.cpu", 1, 2),),
            needed_by="researcher[0]",
            desired=declared("db"),
            cost="in place, no restart",
        ),
        *(
            replaced(key, wave=wave, needs=("db", *(k for k, w in wave_of.items() if w == wave - 1)))
            for key, wave in wave_of.items()
        ),
        broken("worker[0]"),
        broken("worker[1]", rungs=(Rung.PROBE,), passed_over=("not restarted: environment.LEVEL changed",)),
        step("legacy", Action.FORGET, Reason.LET_GO, current=seen("legacy")),
        step("old", Action.FORGET, Reason.GONE),
        unchanged=tuple(Address(f"thread[{index}]") for index in range(9)),
        selection=Selection(targets=("researcher", "worker*"), excludes=("scout[0]",)),
        moves=(moved("search", "finder"), *(moved(f"scout[{n}]", f"scouts[{n}]", 13) for n in range(3))),
        rollouts=(rollout,),
        left_out=(Address("proxy"), Address("scouts[0]"), Address("scouts[1]")),
        expiring={Address(f"thread[{index}]"): 850.0 + 4000 * (index // 2) for index in range(9)},
    )


def refused_plan() -> Plan:
    """More destroys than a policy allows, one of them protected."""
    return plan(
        *(step(f"scout[{n}]", Action.DESTROY, Reason.REMOVED, current=seen("scout")) for n in range(5)),
        replaced("db"),
        refusals=(
            refusal(),
            refusal(
                "db is protected, and would be replaced because `image` changes",
                code="prevent-destroy",
                position=at(9),
                fix="take `lifecycle.prevent_destroy` out for this change, and apply again",
                related=(("protected here", at(7)),),
            ),
        ),
    )
