"""What Apple's `container` holds, field by field, and why not where it does not."""

from __future__ import annotations

from reconciler.model.capabilities import Capabilities, Support

_ENFORCED = (
    "image",
    "command",
    "entrypoint",
    "environment",
    "secrets",
    "ports",
    "mounts",
    "resources.cpu",
    "resources.memory",
    "resources.shm",
    "network.mode=open",
    "network.mode=isolated",
    "network.name",
    "security.read_only_root",
    "security.cap_drop",
    "security.cap_add",
    "security.init",
    "security.user",
    "security.no_new_privileges=false",
    "security.seccomp=unconfined",
    "runtime",
    "restart=no",
    "thread_id",
    "labels",
)
_REFUSED = {
    "network.mode=allowlist": "it filters no traffic by name; put a filtering proxy on a network of your own and use "
    "`network: {name: …}`",
    "network.allow": "it filters no traffic by name",
    "security.no_new_privileges": "it has no such switch; each sandbox is a virtual machine of its own",
    "security.seccomp": "it applies no seccomp profiles; each sandbox has a kernel of its own",
    "restart": "it never starts a container again by itself; the next `reconciler apply` does",
}

CAPABILITIES = Capabilities(
    fields={
        **dict.fromkeys(_ENFORCED, Support.ENFORCED),
        **dict.fromkeys(_REFUSED, Support.REFUSED),
        "resources.pids": Support.NOTED,
    },
    why={
        **_REFUSED,
        "resources.pids": "it has no such limit, and each sandbox is a virtual machine of its own: a fork bomb stays "
        "inside",
    },
    updatable=(),
    relabels=False,
    exposes_environment=True,
    probes=frozenset({"http", "tcp", "exec", "none"}),
    logs=True,
    exec=True,
    restarts=True,
    create_cost="~1s",
    max_in_flight=8,
)
