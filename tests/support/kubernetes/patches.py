"""The three kinds of patch that are not server-side apply, and how each changes an object."""

from __future__ import annotations

import copy
from typing import Any

from tests.support.kubernetes import structure
from tests.support.kubernetes.refusals import Json, Refusal, bad_request
from tests.support.kubernetes.structure import Path


def merge(live: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396): null removes, lists are replaced."""
    if not isinstance(patch, dict):
        return patch
    out = dict(live) if isinstance(live, dict) else {}
    for name, part in patch.items():
        if part is None:
            out.pop(name, None)
        else:
            out[name] = merge(out.get(name), part)
    return out


def json_patch(live: Json, operations: list[Json]) -> Json:
    """A JSON patch (RFC 6902). Raises Refusal (422) for a test that fails or a path that is not there."""
    thing: Any = copy.deepcopy(live)
    for operation in operations:
        kind = operation.get("op")
        try:
            if kind in ("add", "replace", "remove", "test"):
                thing = _change(thing, _steps(operation["path"]), kind, operation.get("value"))
            elif kind in ("copy", "move"):
                value = copy.deepcopy(_at(thing, _steps(operation["from"])))
                if kind == "move":
                    thing = _change(thing, _steps(operation["from"]), "remove", None)
                thing = _change(thing, _steps(operation["path"]), "add", value)
            else:
                raise bad_request(f"Unexpected kind: {kind}")
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise Refusal(
                422, f"the server rejected our request due to an error in our request ({error})", "Invalid"
            ) from error
    result: Json = thing
    return result


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _at(thing: Any, steps: list[str]) -> Any:
    for step in steps:
        thing = thing[int(step)] if isinstance(thing, list) else thing[step]
    return thing


def _change(thing: Any, steps: list[str], kind: str, value: Any) -> Any:
    if not steps:
        return value
    parent = _at(thing, steps[:-1])
    last = steps[-1]
    if kind == "test":
        if _at(parent, [last]) != value:
            raise ValueError(f"testing value /{'/'.join(steps)} failed")
    elif isinstance(parent, list):
        at = len(parent) if last == "-" else int(last)
        if kind == "add":
            parent.insert(at, value)
        elif kind == "replace":
            parent[at] = value
        else:
            del parent[at]
    elif kind == "remove":
        del parent[last]
    else:
        if kind == "replace":
            parent[last]  # must be there
        parent[last] = value
    return thing


def strategic(live: Any, patch: Any, path: Path = ()) -> Any:
    """A strategic merge patch: lists with keys are merged item by item; `$patch: delete` and `replace` are obeyed."""
    if isinstance(patch, dict):
        if patch.get("$patch") == "replace":
            return {name: part for name, part in patch.items() if name != "$patch"}
        out = dict(live) if isinstance(live, dict) else {}
        for name, part in patch.items():
            if name.startswith("$"):
                continue
            if part is None:
                out.pop(name, None)
            else:
                out[name] = strategic(out.get(name), part, (*path, f"f:{name}"))
        return out
    if isinstance(patch, list) and path and isinstance(live, list):
        if structure.is_set(path):
            return [*live, *(item for item in patch if item not in live)]
        names = structure.keys(path)
        if names:
            return _items(live, patch, path, names)
    return patch


def _items(live: list[Json], patch: list[Json], path: Path, names: tuple[str, ...]) -> list[Json]:
    out = {structure.element(item, names): item for item in live}
    for item in patch:
        key = structure.element(item, names)
        if item.get("$patch") == "delete":
            out.pop(key, None)
        else:
            out[key] = strategic(out.get(key), item, (*path, key))
    return list(out.values())
