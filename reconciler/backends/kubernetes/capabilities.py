"""What a cluster holds, field by field, and for some fields by what their value is."""

from __future__ import annotations

import json
import re
from contextlib import suppress

from reconciler.backends.kubernetes.pod import numbers
from reconciler.backends.kubernetes.policies import destination
from reconciler.backends.kubernetes.quantities import is_exact
from reconciler.model.capabilities import Capabilities, Support

_ENFORCED = (
    "image",
    "command",
    "entrypoint",
    "environment",
    "secrets",
    "ports",
    "mounts",
    "resources",
    "network.mode",
    "network.allow",
    "security",
    "runtime",
    "restart",
    "thread_id",
    "labels",
)
_PORT_NAME = re.compile(r"ports\.[a-z0-9]*(?:-[a-z0-9]+)*\.container")


class ClusterCapabilities(Capabilities, frozen=True, kw_only=True):
    """The table, and what no table can say: whether a cluster takes this very value."""

    def support(self, path: str, value: object = None) -> Support:
        if _objection(path, value):
            return Support.REFUSED
        return super().support(path, _kind(path, value))

    def reason(self, path: str, value: object = None) -> str:
        return _objection(path, value) or super().reason(path, _kind(path, value))


def _kind(path: str, value: object) -> object:
    """What the table calls a value: the source of a mount is a path or the name of a volume."""
    is_source = path.startswith("mounts.") and path.endswith(".source")
    return "/…" if is_source and str(value).startswith("/") else value


def _objection(path: str, value: object) -> str:
    """Why a cluster does not take this value of a field that it holds otherwise; "" when it does."""
    match path:
        case "network.allow":
            return _names(value)
        case "resources.cpu" if isinstance(value, (int, float)) and not is_exact(float(value)):
            return "a cluster counts cores in thousandths"
        case "security.user" if not _is_number(value):
            return (
                'a cluster knows users by number alone: write `user: "1000"`, or `1000:1000` with the group'
            )
        case "security.seccomp" if value not in (None, "default", "unconfined"):
            return "a profile is a file on each node, which a cluster's API cannot bring there"
        case "restart" if str(value).startswith("on-failure:"):
            return "a cluster does not count how often it starts a pod's container again"
    if path.startswith("ports.") and path.endswith(".container") and not _PORT_NAME.fullmatch(path):
        return "a cluster takes no port name with two dashes in a row"
    return ""


def _names(value: object) -> str:
    """The entries of an allow list that are no addresses."""
    with suppress(ValueError, TypeError):
        entries = json.loads(str(value)) if value is not None else []
        names = [str(entry) for entry in entries if not _is_address(str(entry))]
        return f"a NetworkPolicy speaks of addresses, not of names ({', '.join(names)})" if names else ""
    return "that is no list"


def _is_address(entry: str) -> bool:
    with suppress(ValueError):
        return bool(destination(entry))
    return False


def _is_number(value: object) -> bool:
    with suppress(ValueError):
        return value is None or bool(numbers(str(value)))
    return False


def capabilities(*, service: str = "none", host_paths: bool = False) -> Capabilities:
    """Of a backend with these options."""
    fixed_ports = Support.ENFORCED if service == "NodePort" else Support.REFUSED
    paths = Support.ENFORCED if host_paths else Support.REFUSED
    return ClusterCapabilities(
        fields={
            **dict.fromkeys(_ENFORCED, Support.ENFORCED),
            "ports.*.host": fixed_ports,
            "ports.*.host=auto": Support.ENFORCED,
            "ports.*.bind": Support.NOTED,
            "ports.*.bind=127.0.0.1": Support.ENFORCED,
            "mounts.*.source=/…": paths,
            "mounts.*.type": Support.ENFORCED,
            "entrypoint=[]": Support.REFUSED,
            "command=[]": Support.REFUSED,
            "network.name": Support.REFUSED,
            "resources.pids": Support.NOTED,
            "security.seccomp": Support.ENFORCED,
        },
        why={
            "ports.*.host": "a cluster gives fixed ports with `service: NodePort` on the backend alone",
            "ports.*.bind": "a cluster publishes at addresses of its own",
            "mounts.*.source=/…": "that would be a path of whichever node it runs on, not of this machine: "
            "`host_paths: true` on the backend says that it is meant",
            "entrypoint=[]": "to a cluster an empty list is the image's own",
            "command=[]": "to a cluster an empty list is the image's own",
            "network.name": "a cluster has one network; `mode: allowlist` says what may be reached on it",
            "resources.pids": "a pod cannot say it: the kubelet's `podPidsLimit` bounds each pod of a node",
        },
        updatable=("labels", "thread_id"),
        probes=frozenset({"http", "tcp", "exec", "none"}),
        logs=True,
        exec=True,
        events=True,
        create_cost="~2s",
        max_in_flight=32,
    )
