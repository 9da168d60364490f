"""From the canonical form back to a spec: what a state remembers can be made again. Pure.

The canonical form holds digests of secrets, not secrets: their values come from a spec that has the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from reconciler.model.desired import (
    FlatSpec,
    Mount,
    MountKind,
    Network,
    NetworkMode,
    Port,
    Resources,
    SandboxSpec,
    Scalar,
    SecretRef,
    Security,
)

_WORDS = ("command", "entrypoint")
_PLAIN = ("image", "runtime", "restart", "thread_id")
_LISTS = ("cap_drop", "cap_add")


class Unrestorable(Exception):
    """A secret of the canonical form has another value now, so what was made with it cannot be made again."""


def restored(flat: FlatSpec, like: SandboxSpec) -> SandboxSpec:
    """A spec whose canonical form is `flat`; what that leaves out, such as readiness and secrets' values, is `like`'s.

    Raises Unrestorable, naming the secrets whose values `like` does not have.
    """
    parts = _by_head(flat)
    plain: dict[str, Any] = {name: parts.get(name, {}).get("") for name in _PLAIN}
    words: dict[str, Any] = {name: _words(parts.get(name, {}).get("")) for name in _WORDS}
    return replace(
        like,
        **plain,
        **words,
        environment={name: str(value) for name, value in parts.get("environment", {}).items()},
        labels={name: str(value) for name, value in parts.get("labels", {}).items()},
        secrets=_secrets(parts.get("secrets", {}), like.secrets),
        ports=tuple(
            _port(name, own) for name, own in _by_name(parts.get("ports", {})).items() if "container" in own
        ),
        mounts=tuple(_mount(name, own) for name, own in _by_name(parts.get("mounts", {})).items()),
        resources=_resources(parts.get("resources", {})),
        network=_network(parts.get("network", {})),
        security=_security(parts.get("security", {})),
    )


def _by_head(flat: FlatSpec) -> dict[str, dict[str, Scalar]]:
    """`environment.A` under `environment` as `A`; what has no dot under its own name as ""."""
    parts: dict[str, dict[str, Scalar]] = {}
    for path, value in flat.items():
        head, _, rest = path.partition(".")
        parts.setdefault(head, {})[rest] = value
    return parts


def _by_name(part: Mapping[str, Scalar]) -> dict[str, dict[str, Scalar]]:
    """`http.container` under `http`: the last dot counts, since names of mounts are paths."""
    found: dict[str, dict[str, Scalar]] = {}
    for path, value in part.items():
        name, _, field = path.rpartition(".")
        found.setdefault(name, {})[field] = value
    return found


def _words(value: Scalar) -> tuple[str, ...] | None:
    return None if value is None else tuple(json.loads(str(value)))


def _resources(part: Mapping[str, Any]) -> Resources:
    return Resources(**part)


def _secrets(part: Mapping[str, Scalar], known: Mapping[str, SecretRef]) -> dict[str, SecretRef]:
    names = [path for path in part if not path.endswith(".as")]
    lost = sorted(name for name in names if name not in known or known[name].digest != part[name])
    if lost:
        raise Unrestorable(f"the value of {', '.join(lost)} is another one now")
    return {name: replace(known[name], delivery=str(part.get(f"{name}.as", "file"))) for name in names}


def _port(name: str, own: Mapping[str, Any]) -> Port:
    host = own.get("host", "auto")
    return Port(
        name=name,
        container=own["container"],
        host=None if host == "auto" else host,
        bind=own.get("bind", "127.0.0.1"),
    )


def _mount(target: str, own: Mapping[str, Any]) -> Mount:
    return Mount(
        target=target,
        source=own.get("source", ""),
        read_only=own.get("read_only", False),
        kind=MountKind(own.get("type", "bind")),
        size=own.get("size"),
    )


def _network(part: Mapping[str, Any]) -> Network:
    mode = part.get("mode")
    allow: Iterable[str] = json.loads(part["allow"]) if "allow" in part else ()
    return Network(
        mode=None if mode is None else NetworkMode(mode), name=part.get("name"), allow=tuple(allow)
    )


def _security(part: Mapping[str, Any]) -> Security:
    values: dict[str, Any] = {
        name: tuple(json.loads(part[name])) if name in _LISTS else part[name] for name in part
    }
    return Security(**values)
