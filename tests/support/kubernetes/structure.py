"""What the published schemas say about merging: which lists have keys, which values are one piece.

A path is a tuple of elements: `f:name` for a field, `k:{...}` for a list item with that key, `v:...` for a member of a
set, exactly as managedFields spells them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.support.kubernetes.refusals import Json

Path = tuple[str, ...]

_KEYS = {
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "podIPs": ("ip",),
    "resourceClaims": ("name",),
    "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_ATOMIC = {
    "configMapKeyRef", "fieldRef", "resourceFieldRef", "secretKeyRef", "labelSelector", "matchLabels", "nodeSelector",
    "podSelector", "namespaceSelector", "selector", "capabilitiesList",
}  # fmt: skip
# Maps of strings, not structures: a manager may own the map itself.
_MAPS = {
    "annotations",
    "binaryData",
    "data",
    "finalizers",
    "labels",
    "limits",
    "requests",
    "stringData",
    *_KEYS,
    "ports",
}
_DEFAULTS = {"protocol": "TCP"}


def keys(path: Path) -> tuple[str, ...]:
    """What the items of the list at this path are told apart by; () when the list is one piece."""
    if path[-1] == "f:ports":
        if any(element in ("f:containers", "f:initContainers") for element in path):
            return ("containerPort", "protocol")
        return ("port", "protocol") if path == ("f:spec", "f:ports") else ()
    return _KEYS.get(path[-1][2:], ())


def is_set(path: Path) -> bool:
    return path == ("f:metadata", "f:finalizers")


def is_atomic(path: Path) -> bool:
    return path[-1][2:] in _ATOMIC or (len(path) > 1 and path[-2] == "f:spec" and path[-1] == "f:selector")


def is_map(path: Path) -> bool:
    return path[-1][2:] in _MAPS


def element(item: Json, names: tuple[str, ...]) -> str:
    """The path element of a list item."""
    key = {name: item.get(name, _DEFAULTS.get(name)) for name in sorted(names)}
    return "k:" + json.dumps(key, separators=(",", ":"))


def children(path: Path, value: Any) -> Iterator[tuple[str, Any]] | None:
    """The parts that have owners of their own; None when the value is one piece."""
    if path and is_atomic(path):
        return None
    if isinstance(value, dict):
        return ((f"f:{name}", part) for name, part in value.items())
    if isinstance(value, list) and path:
        if is_set(path):
            return (("v:" + json.dumps(part), part) for part in value)
        names = keys(path)
        if names and all(isinstance(part, dict) for part in value):
            return ((element(part, names), part) for part in value)
    return None


def merged(path: Path, live: Any, wanted: Any) -> Any:
    """`live` with everything `wanted` says; what `wanted` does not mention stays."""
    if isinstance(live, dict) and isinstance(wanted, dict) and not (path and is_atomic(path)):
        out = dict(live)
        for name, part in wanted.items():
            here = (*path, f"f:{name}")
            out[name] = merged(here, live[name], part) if name in live else part
        return out
    if isinstance(live, list) and isinstance(wanted, list) and path:
        return _merged_list(path, live, wanted)
    return wanted


def _merged_list(path: Path, live: list[Any], wanted: list[Any]) -> list[Any]:
    if is_set(path):
        return [*live, *(item for item in wanted if item not in live)]
    names = keys(path)
    if not names:
        return wanted
    found = {element(item, names): item for item in live}
    new = {element(item, names): item for item in wanted}
    out = [
        merged((*path, key), found[key], item) if key in found else item for key, item in new.items()
    ]  # the applied order comes first, as the real merge does for lists of the same items
    rest = [item for key, item in found.items() if key not in new]
    if [key for key in found if key in new] == list(new):  # nothing new, nothing moved: keep the order
        return [merged((*path, key), item, new[key]) if key in new else item for key, item in found.items()]
    return [*out, *rest]


def get(thing: Any, path: Path, at: Path = ()) -> Any:
    """The value at a path; `MISSING` when there is none."""
    for step in path:
        parts = children(at, thing)
        if parts is None:
            return MISSING
        for name, part in parts:
            if name == step:
                thing = part
                break
        else:
            return MISSING
        at = (*at, step)
    return thing


def without(thing: Any, path: Path, at: Path = ()) -> Any:
    """A copy without what is at the path; empty lists and maps that this leaves behind go too."""
    first, rest = path[0], path[1:]
    here = (*at, first)
    if isinstance(thing, dict):
        name = first[2:]
        if name not in thing:
            return thing
        out = dict(thing)
        if rest:
            out[name] = without(thing[name], rest, here)
        if not rest or out[name] in ({}, []):
            del out[name]
        return out
    if isinstance(thing, list):
        out_list = []
        for name, part in children(at, thing) or ():
            if name != first:
                out_list.append(part)
            elif rest:
                out_list.append(without(part, rest, here))
        return out_list
    return thing


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()
