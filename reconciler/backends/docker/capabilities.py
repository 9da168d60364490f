"""What a container engine holds, field by field."""

from __future__ import annotations

from reconciler.model.capabilities import Capabilities, Support

IN_PLACE = ("resources.cpu", "resources.memory", "resources.pids", "restart")

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
    "network.name",
    "security",
    "runtime",
    "restart",
    "thread_id",
    "labels",
)

CAPABILITIES = Capabilities(
    fields={
        **dict.fromkeys(_ENFORCED, Support.ENFORCED),
        "network.mode=allowlist": Support.REFUSED,
        "network.allow": Support.REFUSED,
    },
    why={
        "network.mode=allowlist": "an engine filters no traffic by name; put a filtering proxy on a network of your "
        "own and use `network: {name: …}`",
        "network.allow": "an engine filters no traffic by name",
    },
    updatable=IN_PLACE,
    unlisted=IN_PLACE,
    relabels=False,
    exposes_environment=True,
    seals_isolated=True,
    probes=frozenset({"http", "tcp", "exec", "none"}),
    logs=True,
    exec=True,
    events=True,
    restarts=True,
    create_cost="~1s",
    max_in_flight=16,
)
