"""What every container engine's backend shares: labels of ownership, names, ports. Pure; knows no engine and must
never call one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reconciler.errors import Permanent
from reconciler.model.desired import Address, Owner, Port, SandboxSpec

PREFIX = "sandbox-reconciler/"  # of every label of ours
MANAGED_BY = f"{PREFIX}managed-by"
SANDBOX_ID = f"{PREFIX}sandbox-id"
THREAD_ID = f"{PREFIX}thread-id"
_STACK = f"{PREFIX}stack"
_LINEAGE = f"{PREFIX}lineage"
_ADDRESS = f"{PREFIX}address"
_GENERATION = f"{PREFIX}generation"
_SPEC_HASH = f"{PREFIX}spec-hash"
_PROTECTED = f"{PREFIX}protected"  # "true", or not there

NAME_PREFIX = "reconciler"  # our containers are called {prefix}-{sandbox id}
SEED_PREFIX = "deer-flow-sandbox"  # what the system that came before calls its own
AIO_IMAGE = "ghcr.io/agent-infra/sandbox:latest"
HTTP_PORT = 8080  # where an AIO sandbox listens
LOOPBACK = "127.0.0.1"
SECRETS_DIR = "/run/secrets"  # where secrets appear as files inside

_GENERATION_SHAPE = re.compile(
    r"0|[1-9][0-9]{0,17}", re.ASCII
)  # int() would take more: spaces, signs, any length
_ID = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,49}[a-z0-9])?")


def checked_id(sandbox_id: str) -> str:
    """Raises Permanent unless it is 1 to 51 of a-z, 0-9 and -, neither first nor last a dash."""
    if not _ID.fullmatch(sandbox_id):
        raise Permanent(f"{sandbox_id!r} cannot be a sandbox id", hint="use 1 to 51 of a-z, 0-9 and -")
    return sandbox_id


def labels_of(sandbox_id: str, owner: Owner | None, thread_id: str | None) -> dict[str, str]:
    """Our labels for a new container, all text. Without an owner it is managed, but nobody's."""
    labels = {MANAGED_BY: "reconciler", SANDBOX_ID: sandbox_id}
    if thread_id is not None:
        labels[THREAD_ID] = thread_id
    if owner is not None:
        labels |= {
            _STACK: owner.stack,
            _LINEAGE: owner.lineage,
            _ADDRESS: owner.address,
            _GENERATION: str(owner.generation),
            _SPEC_HASH: owner.spec_hash,
            **({_PROTECTED: "true"} if owner.protected else {}),
        }
    return labels


def owner_of(labels: Mapping[str, str]) -> Owner | None:
    """Whose it is; None without complete labels of ours, or with ones that make no sense."""
    if MANAGED_BY not in labels:
        return None
    needed = (_STACK, _LINEAGE, _ADDRESS, _GENERATION, _SPEC_HASH)
    if any(key not in labels for key in needed):
        return None
    stack, lineage, address, generation, spec_hash = (labels[key] for key in needed)
    if not (stack and lineage and address and _GENERATION_SHAPE.fullmatch(generation)):
        return None
    return Owner(
        stack=stack,
        lineage=lineage,
        address=Address(address),
        generation=int(generation),
        spec_hash=spec_hash,
        protected=labels.get(_PROTECTED) == "true",
    )


def free_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Everybody else's labels."""
    return {key: value for key, value in labels.items() if not key.startswith(PREFIX)}


def ended_again(sandbox_id: str, detail: str, last_words: Sequence[str]) -> Permanent:
    """What to say of a container that was started again, and is dead already. `last_words` are lines of its log."""
    said = "; ".join(line.strip() for line in last_words if line.strip())
    told = f"sandbox {sandbox_id} ended right after it was started again: {detail}"
    return Permanent(
        f"{told}: {said}" if said else told, hint="what it holds is kept; only a new one starts afresh"
    )


def ports_to_publish(spec: SandboxSpec, bind: str) -> tuple[Port, ...]:
    """The declared ports, and the sandbox's own (`http`, on `bind`) where the declaration does not speak of it."""
    if any(port.name == "http" or port.container == HTTP_PORT for port in spec.ports):
        return spec.ports
    return (Port(name="http", container=HTTP_PORT, bind=bind), *spec.ports)


def url_port(ports: tuple[Port, ...]) -> Port:
    """The port of the sandbox's URL: the one called `http`, else the one the AIO server listens on."""
    return next((port for port in ports if port.name == "http"), None) or next(
        port for port in ports if port.container == HTTP_PORT
    )


def url_of(host: str, port: int) -> str:
    """A URL a client on this machine can use; `host` may be an address that was bound."""
    reach = {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://{f'[{reach}]' if ':' in reach else reach}:{port}"
