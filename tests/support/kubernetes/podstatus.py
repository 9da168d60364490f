"""A pod's status as a kubelet writes it: pure functions from what happened to conditions and container statuses."""

from __future__ import annotations

import hashlib
from typing import Any

from tests.support.kubernetes.api import stamp
from tests.support.kubernetes.refusals import Json


def condition(kind: str, status: bool, reason: str = "", message: str = "") -> Json:
    out: Json = {
        "type": kind,
        "status": "True" if status else "False",
        "lastProbeTime": None,
        "lastTransitionTime": stamp(),
    }
    if reason:
        out["reason"] = reason
    if message:
        out["message"] = message
    return out


def with_conditions(status: Json, *new: Json) -> Json:
    """A condition that says what it said keeps its time."""
    found = {each["type"]: each for each in status.get("conditions") or ()}
    for each in new:
        old = found.get(each["type"])
        if old and all(old.get(name) == each.get(name) for name in ("status", "reason", "message")):
            continue
        found[each["type"]] = {name: value for name, value in each.items() if value is not None}
    return {**status, "conditions": list(found.values())}


def unschedulable(status: Json, message: str) -> Json:
    return with_conditions(
        {**status, "phase": "Pending"}, condition("PodScheduled", False, "Unschedulable", message)
    )


def gated(status: Json) -> Json:
    return with_conditions(
        {**status, "phase": "Pending"},
        condition(
            "PodScheduled",
            False,
            "SchedulingGated",
            "Scheduling is blocked due to non-empty scheduling gates",
        ),
    )


def scheduled(status: Json) -> Json:
    return with_conditions({**status, "phase": "Pending"}, condition("PodScheduled", True))


def statuses(
    spec: Json, state: Json, *, ready: bool, restarts: int = 0, last: Json | None = None
) -> list[Json]:
    """One status for each container, all in the same state."""
    return [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": _image_id(container["image"]) if "running" in state or restarts else "",
            "containerID": f"containerd://{container['name']}-{restarts}"
            if "running" in state or restarts
            else "",
            "ready": ready,
            "started": "running" in state,
            "restartCount": restarts,
            "state": state,
            "lastState": last or {},
        }
        for container in spec["containers"]
    ]


def _image_id(image: str) -> str:
    repository = image.partition("@")[0].rpartition(":")[0] or image
    return f"{repository}@sha256:{hashlib.sha256(image.encode()).hexdigest()}"


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}


def running() -> Json:
    return {"running": {"startedAt": stamp()}}


def terminated(code: int, reason: str, container: str = "") -> Json:
    now = stamp()
    ended: Json = {"exitCode": code, "reason": reason, "startedAt": now, "finishedAt": now}
    if container:
        ended["containerID"] = f"containerd://{container}"
    return {"terminated": ended}


def placed(
    status: Json, spec: Json, state: Json, *, ready: bool, phase: str, restarts: int = 0, last: Json | None = None,
    address: str = "", host: str = "",
) -> Json:  # fmt: skip
    """The status of a pod that has a node."""
    why = {} if ready else {"reason": "ContainersNotReady", "message": _unready(spec)}
    if phase == "Succeeded":
        why = {"reason": "PodCompleted"}
    out: dict[str, Any] = {
        **status,
        "phase": phase,
        "hostIP": host,
        "startTime": status.get("startTime") or stamp(),
        "containerStatuses": statuses(spec, state, ready=ready, restarts=restarts, last=last),
    }
    if address:
        out["podIP"] = address
        out["podIPs"] = [{"ip": address}]
    return with_conditions(
        out,
        condition("PodScheduled", True),
        condition("Initialized", True),
        condition("ContainersReady", ready, **why),
        condition("Ready", ready, **why),
    )


def _unready(spec: Json) -> str:
    names = " ".join(container["name"] for container in spec["containers"])
    return f"containers with unready status: [{names}]"
