"""What a provisioner holds, field by field: it is told an id, a thread and mounts, and decides the rest itself."""

from __future__ import annotations

from reconciler.model.capabilities import Capabilities, Support

_DECIDES = "cannot be enforced; the provisioner decides it for all of its sandboxes"
_NOTED = {
    "image": _DECIDES,
    "environment": _DECIDES,
    "resources": _DECIDES,
    "labels": "cannot be enforced; a provisioner keeps none, so the state alone knows them",
}
_REFUSED = {
    "command": _DECIDES,
    "entrypoint": _DECIDES,
    "secrets": "a provisioner takes no secrets",
    "ports": "a provisioner publishes one address per sandbox",
    "mounts.*.type": "a provisioner mounts paths of its hosts alone",
    "network": _DECIDES,
    "security": _DECIDES,
    "runtime": _DECIDES,
    "restart": _DECIDES,
}

CAPABILITIES = Capabilities(
    fields={
        "mounts": Support.ENFORCED,
        "thread_id": Support.ENFORCED,
        **dict.fromkeys(_NOTED, Support.NOTED),
        **dict.fromkeys(_REFUSED, Support.REFUSED),
    },
    why={**_NOTED, **_REFUSED},
    updatable=tuple(_NOTED),  # replacing a sandbox for what the new one would not have either helps nobody
    owns=False,
    lingers=True,  # a deletion is done with the Service; its Pod takes its time
    create_cost="~10s",
    max_in_flight=8,
)
