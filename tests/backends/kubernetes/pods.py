"""Pods as a cluster shows them, in the shapes that real ones have."""

from __future__ import annotations

from typing import Any

from reconciler.backends.kubernetes.manifests import pod, sandbox
from tests.backends.kubernetes.builders import order


def a_pod(phase: str = "Pending", *containers: dict[str, Any], **status: Any) -> dict[str, Any]:
    made = pod(order())
    made["metadata"]["uid"] = "u-1"
    made["status"] = {"phase": phase, "containerStatuses": list(containers), **status}
    return made


def waiting(reason: str, message: str = "", **fields: Any) -> dict[str, Any]:
    return {
        "name": "sandbox",
        "image": "aio",
        "state": {"waiting": {"reason": reason, "message": message}},
        "restartCount": 0,
        **fields,
    }


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {
        "name": "sandbox",
        "image": "aio",
        "state": {"terminated": {"exitCode": code, "reason": reason, "message": message}},
        "restartCount": 0,
    }


def running() -> dict[str, Any]:
    return {"name": "sandbox", "image": "aio", "state": {"running": {}}, "restartCount": 0}


def said(kind: str, status: str, reason: str = "", message: str = "", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, **fields}


def warning(reason: str, message: str) -> dict[str, Any]:
    return {"type": "Warning", "reason": reason, "message": message}


def a_sandbox(*conditions: dict[str, Any], generation: int = 1, **spec: Any) -> dict[str, Any]:
    made = sandbox(order(agent_sandbox=True))
    made["metadata"] |= {"uid": "s-1", "generation": generation}
    made["spec"] |= spec
    made["status"] = {"conditions": list(conditions)}
    return made
