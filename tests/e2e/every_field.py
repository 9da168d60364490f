"""What there is to test: every path that a specification can have, every key that the schema allows.

Both are read from the product itself, so that what is added there is missed by the matrix until it has a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from reconciler.model.desired import SandboxSpec

SCHEMA = Path(__file__).parents[2] / "schemas" / "config.v1.schema.json"
_ANY_NAME = re.compile(r"^(ports|mounts|environment|secrets|labels)\.(.+?)(\.[a-z_]+)?$")
_LEAVES = ("environment", "labels")  # their names may have dots


def canonical_paths() -> set[str]:
    """The paths of a specification that says everything, `*` for names that users choose."""
    return {generic(path) for path in _everything(SandboxSpec).canonical()}


def generic(path: str) -> str:
    """`ports.http.container` as `ports.*.container`."""
    found = _ANY_NAME.match(path)
    if found is None:
        return path
    return f"{found[1]}.*" + ("" if found[1] in _LEAVES else found[3] or "")


def _everything(kind: Any) -> Any:
    """A value of a type with every field of it set to something that is not its default."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        hints = get_type_hints(kind)
        made = {f.name: _something(f.name, hints[f.name]) for f in fields(kind)}
        return kind(**made)
    raise TypeError(kind)


def _something(name: str, kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _something(name, next(one for one in arguments if one is not type(None)))
    if origin is tuple:
        return (_something(name, arguments[0]),)
    if origin is not None and issubclass(origin, Mapping):
        return {"NAME": _something(name, arguments[1])}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return list(kind)[-1]
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _everything(kind)
    plain: dict[Any, Any] = {
        str: "environment" if name == "delivery" else "x",
        int: 1,
        float: 1.0,
        bool: True,
    }
    return plain.get(kind)


def schema_keys() -> set[str]:
    """The keys of a sandbox, `resources.cpu` for one inside another; of a list or of names that users choose, those
    of each entry."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return set(_keys(schema, schema["$defs"]["sandbox"], ""))


def _keys(schema: Mapping[str, Any], node: Mapping[str, Any], prefix: str) -> Iterator[str]:
    if "$ref" in node:
        node = {**schema["$defs"][node["$ref"].rpartition("/")[2]], **node, "$ref": None}
    for name, inner in (node.get("properties") or {}).items():
        yield f"{prefix}{name}"
        yield from _keys(schema, inner, f"{prefix}{name}.")
    entries = [kid for name, kid in (node.get("patternProperties") or {}).items() if name != "^x-"]
    for inner in (*entries, *([node["items"]] if isinstance(node.get("items"), dict) else [])):
        if inner.get("$ref") is not None or "properties" in inner:
            yield from _keys(schema, inner, prefix)


def keys_in(block: Mapping[str, Any]) -> set[str]:
    """The same of a sandbox's block as it is written."""
    found: set[str] = set()
    for name, value in block.items():
        found.add(name)
        entries: list[Any] = value if isinstance(value, list) else [value]
        if name == "secrets":
            entries = list(value.values())
        for entry in entries:
            if isinstance(entry, dict):
                found |= {f"{name}.{key}" for key in entry}
    return found
