"""Who owns which field: managedFields, and server-side apply with its conflicts.

Sources: "Server-Side Apply" in the Kubernetes documentation, and the structure of managedFields entries that a real
server stores (fieldsType FieldsV1).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from typing import Any

from tests.support.kubernetes import structure
from tests.support.kubernetes.refusals import Json, Refusal
from tests.support.kubernetes.structure import MISSING, Path

Fields = set[Path]

_NOBODYS = {
    ("f:apiVersion",), ("f:kind",), ("f:metadata",), ("f:metadata", "f:name"), ("f:metadata", "f:namespace"),
    ("f:metadata", "f:creationTimestamp"), ("f:metadata", "f:uid"), ("f:metadata", "f:generation"),
    ("f:metadata", "f:managedFields"), ("f:metadata", "f:resourceVersion"), ("f:metadata", "f:generateName"),
    ("f:metadata", "f:selfLink"), ("f:metadata", "f:deletionTimestamp"),
    ("f:metadata", "f:deletionGracePeriodSeconds"),
}  # fmt: skip


def _nobodys(path: Path) -> bool:
    return path in _NOBODYS or path[:1] in (("f:apiVersion",), ("f:kind",)) or path[:2] in _NOBODYS


def owned(value: Any, path: Path = ()) -> Fields:
    """What an applied configuration claims: every leaf, and every list item."""
    found: Fields = set()
    parts = structure.children(path, value)
    parts = None if parts is None else list(parts)  # type: ignore[assignment]
    if path and (not parts or path[-1][:2] == "k:"):
        found.add(path)
    for name, part in parts or ():
        found |= owned(part, (*path, name))
    return {path for path in found if not _nobodys(path)}


def changed(before: Any, after: Any, path: Path = ()) -> Fields:
    """What an update claims: every leaf that is new or different, and every new item, map or list."""
    if before == after:
        return set()
    found: Fields = set()
    parts = structure.children(path, after)
    if parts is None or (not after and path):
        return {path} if path not in _NOBODYS else set()
    old = {} if before is MISSING else dict(structure.children(path, before) or ())
    if path and before is MISSING and (path[-1][:2] == "k:" or structure.is_map(path)):
        found.add(path)
    for name, part in parts:
        found |= changed(old.get(name, MISSING), part, (*path, name))
    return {path for path in found if not _nobodys(path)}


def encoded(fields: Iterable[Path]) -> Json:
    """As FieldsV1."""
    tree: Json = {}
    paths = set(fields)
    for path in sorted(paths):
        at = tree
        for name in path:
            at = at.setdefault(name, {})
    for path in paths:
        at = tree
        for name in path:
            at = at[name]
        if at:
            at["."] = {}
    return tree


def decoded(tree: Json, path: Path = ()) -> Fields:
    found: Fields = set()
    for name, below in tree.items():
        if name == ".":
            found.add(path)
        elif not below:
            found.add((*path, name))
        else:
            found |= decoded(below, (*path, name))
    return found


class Managers:
    """The entries of one object, by (manager, operation, subresource)."""

    def __init__(self, thing: Json | None, api_version: str) -> None:
        self._api_version = api_version
        self.sets: dict[tuple[str, str, str], Fields] = {}
        self._times: dict[tuple[str, str, str], str] = {}
        for entry in (thing or {}).get("metadata", {}).get("managedFields") or ():
            key = (entry.get("manager", ""), entry["operation"], entry.get("subresource", ""))
            self.sets[key] = decoded(entry.get("fieldsV1") or {})
            self._times[key] = entry.get("time", "")

    def entries(self, now: str, former: Managers) -> list[Json]:
        """For metadata.managedFields; an entry that says what it said keeps its time."""
        out = []
        for (manager, operation, subresource), fields in self.sets.items():
            if not fields:
                continue
            key = (manager, operation, subresource)
            same = former.sets.get(key) == fields
            entry: Json = {
                "manager": manager,
                "operation": operation,
                "apiVersion": self._api_version,
                "time": former._times[key] if same else now,
                "fieldsType": "FieldsV1",
                "fieldsV1": encoded(fields),
            }
            out.append({**entry, **({"subresource": subresource} if subresource else {})})
        return sorted(out, key=lambda entry: (entry["operation"], entry["time"], entry["manager"]))

    def update(self, manager: str, subresource: str, before: Json | None, after: Json) -> None:
        """Somebody wrote the whole object: what changed is theirs now, what is gone is nobody's."""
        mine = changed(MISSING if before is None else before, after)
        for key in self.sets:
            self.sets[key] = {
                path for path in self.sets[key] - mine if structure.get(after, path) is not MISSING
            }
        key = (manager, "Update", subresource)
        self.sets[key] = self.sets.get(key, set()) | mine

    def apply(self, manager: str, subresource: str, live: Json | None, wanted: Json, *, force: bool) -> Json:
        """The object after this configuration is applied. Raises Refusal (409) with a cause per contested field."""
        key = (manager, "Apply", subresource)
        mine = owned(wanted)
        result = copy.deepcopy(structure.merged((), live or {}, wanted))
        contested: list[tuple[str, Path]] = []
        for other, fields in self.sets.items():
            if other == key:
                continue
            lost = {
                path
                for path in fields & mine
                if structure.get(live, path) != structure.get(result, path)
                and not (path[-1][:2] == "k:" and structure.get(live, path) is not MISSING)
            }
            contested += [(other[0] + _using(other, self._api_version), path) for path in sorted(lost)]
            if force:
                self.sets[other] = fields - lost
        if contested and not force:
            raise _conflicts(contested)
        gone = self.sets.get(key, set()) - mine
        theirs = {path for other, fields in self.sets.items() if other != key for path in fields}
        for path in sorted(gone, key=len, reverse=True):
            below = any(other[: len(path)] == path for other in theirs | mine)
            if not below:
                result = structure.without(result, path)
        self.sets[key] = mine
        return result


def _using(key: tuple[str, str, str], api_version: str) -> str:
    return "" if key[1] == "Apply" else f" using {api_version}"


def _conflicts(contested: list[tuple[str, Path]]) -> Refusal:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{who}"', "field": dotted(path)}
        if " using " not in who
        else {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "{}" using {}'.format(*who.split(" using ")),
            "field": dotted(path),
        }
        for who, path in contested
    ]
    noun = "conflict" if len(causes) == 1 else "conflicts"
    lines = f": {causes[0]['message']}: {causes[0]['field']}" if len(causes) == 1 else f": {_listed(causes)}"
    return Refusal(
        409, f"Apply failed with {len(causes)} {noun}{lines}", "Conflict", details={"causes": causes}
    )


def _listed(causes: list[dict[str, str]]) -> str:
    lines: list[str] = []
    last = ""
    for cause in causes:
        if cause["message"] != last:
            lines.append(f"conflicts with {cause['message'].removeprefix('conflict with ')}:")
            last = cause["message"]
        lines.append(f"- {cause['field']}")
    return "\n".join(lines)


def dotted(path: Path) -> str:
    """`.spec.containers[name="main"].image`."""
    out = ""
    for name in path:
        if name[:2] == "f:":
            out += f".{name[2:]}"
        else:
            value = json.loads(name[2:])
            if isinstance(value, dict):
                inner = ",".join(f"{key}={json.dumps(part)}" for key, part in value.items())
                out += f"[{inner}]"
            else:
                out += f"[={name[2:]}]"
    return out
