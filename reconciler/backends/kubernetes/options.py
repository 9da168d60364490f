"""The backend's options held against each other, and a specification without what its user goes without. Pure."""

from __future__ import annotations

import re
import shlex

from msgspec.structs import replace

from reconciler.errors import ConfigError
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Mount, Network, Port, SandboxSpec, Scalar

ACCESS = {"ClusterIP": "service", "NodePort": "node", "none": "pod"}  # what a service is made for
_WORDS = {
    "api": ("pod", "agent-sandbox"),
    "service": tuple(ACCESS),
    "access": (None, "service", "node", "pod", "proxy", "port-forward"),
    "pull": ("missing", "always", "never"),
}
_PREFIX = re.compile(
    r"[a-z](?:[-a-z0-9]{0,9}[a-z0-9])?"
)  # a service's name begins with a letter; 63 with an id behind it


def check(*, api: str, service: str, access: str | None, url: str | None, pull: str, prefix: str) -> None:
    """Raises ConfigError for a word that is not known, and for words that do not go together."""
    for name, value in (("api", api), ("service", service), ("access", access), ("pull", pull)):
        if value not in _WORDS[name]:
            known = ", ".join(word for word in _WORDS[name] if word)
            raise ConfigError(f"{name} {value!r} is not known", hint=f"use one of {known}")
    if access in ("service", "node") and ACCESS[service] != access and service != "NodePort":
        needed = "NodePort" if access == "node" else "ClusterIP"
        raise ConfigError(f"`access: {access}` needs a service", hint=f"set `service: {needed}`")
    if not _PREFIX.fullmatch(prefix):
        raise ConfigError(
            f"prefix {prefix!r} cannot begin the names of a cluster's objects",
            hint="use at most 11 of a-z, 0-9 and -, a letter first and no dash last",
        )
    if url is not None:
        _check_template(url)


def kubectl(kubeconfig: str | None, context: str | None, namespace: str) -> str:
    """The command by which a person reaches the same objects; its verb follows."""
    words = ["kubectl", *(("--kubeconfig", kubeconfig) if kubeconfig else ())]
    words += ["--context", context] if context else []
    return shlex.join([*words, "--namespace", namespace])


def _check_template(url: str) -> None:
    try:
        url.format(name="n", namespace="s", port=1)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"`url: {url}` cannot be filled in: {error}", hint="it may hold {name}, {namespace} and {port}"
        ) from error


def without_unheld(spec: SandboxSpec, able: Capabilities) -> SandboxSpec:
    """What is left of it once everything is dropped that is refused."""

    def held(path: str, value: Scalar) -> bool:
        return able.support(path, value) is not Support.REFUSED

    flat, security = spec.canonical(), spec.security
    allowed = held("network.allow", flat.get("network.allow"))
    restart = spec.restart if held("restart", spec.restart) else str(spec.restart).partition(":")[0]
    cpu = spec.resources.cpu
    return replace(
        spec,
        command=spec.command if held("command", flat.get("command")) else None,
        entrypoint=spec.entrypoint if held("entrypoint", flat.get("entrypoint")) else None,
        network=replace(spec.network, name=None) if allowed else Network(),
        restart=restart,
        resources=replace(spec.resources, cpu=None if cpu is None else max(0.001, round(cpu, 3))),
        security=replace(
            security,
            user=security.user if held("security.user", security.user) else None,
            seccomp=security.seccomp if held("security.seccomp", security.seccomp) else None,
        ),
        mounts=tuple(mount for mount in spec.mounts if _mount_held(mount, able)),
        ports=tuple(
            _port(port, able) for port in spec.ports if held(f"ports.{port.name}.container", port.container)
        ),
    )


def _mount_held(mount: Mount, able: Capabilities) -> bool:
    return able.support(f"mounts.{mount.target}.source", mount.source) is not Support.REFUSED


def _port(port: Port, able: Capabilities) -> Port:
    refused = port.host is not None and able.support(f"ports.{port.name}.host", port.host) is Support.REFUSED
    return replace(port, host=None) if refused else port
