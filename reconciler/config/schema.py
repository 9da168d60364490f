"""Validation against the JSON Schema, which is the one source of truth for keys and types.

Every complaint of the validator becomes one diagnostic in plain words; what the schema says in `x-expected` and
`x-names` is what the message says. Invalid parts are taken out, so that the rest can be looked at in the same run.
Must never quote a value that stands where a secret belongs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from reconciler.config.advice import describe, fix_unknown, fix_value, known_keys
from reconciler.config.diagnostics import Problems, quote
from reconciler.config.nodes import Node
from reconciler.config.schemas import schema_text

if TYPE_CHECKING:
    import jsonschema_rs

_Path = tuple[str | int, ...]
_ABOUT_THE_WHOLE = frozenset({"required", "oneOf", "not", "minProperties"})


@cache
def config_schema() -> Mapping[str, Any]:
    """The configuration's schema as data."""
    import json

    schema: Mapping[str, Any] = json.loads(schema_text("config"))
    return schema


@cache
def _validator(definition: str | None) -> jsonschema_rs.Draft202012Validator:
    import jsonschema_rs

    schema = dict(config_schema())
    if definition is not None:
        schema = {
            "$schema": schema["$schema"],
            "$ref": f"#/$defs/{definition}",
            "$defs": schema["$defs"],
        }
    return jsonschema_rs.Draft202012Validator(schema)


class _Complaint(Struct, frozen=True):
    keyword: str
    path: _Path
    schema: Mapping[str, Any]  # the schema node whose keyword failed
    names: tuple[str, ...]  # unknown keys, or the missing one


def is_valid(root: Node) -> bool:
    """Whether the whole document is, as far as a schema can say."""
    return bool(_validator(None).is_valid(root.data))


def validate(root: Node, problems: Problems, *, definition: str | None = None, complete: bool = True) -> bool:
    """Tell every problem and take the invalid parts out of `root`; True when there was none.

    `definition` validates against one of the schema's `$defs` instead of the whole. `complete` False does not ask
    for required top-level keys, because a file that may hold them could not be read.
    """
    validator = _validator(definition)
    if validator.is_valid(root.data):
        return True
    complaints = [_complaint(error) for error in validator.iter_errors(root.data)]
    complaints = [item for item in complaints if complete or item.path or item.keyword != "required"]
    complaints = [item for item in complaints if not _is_installed_backend(item, root)]
    if not complaints:
        return True
    unknown = {item.path: item for item in complaints if item.keyword == "additionalProperties"}
    mistyped = {item.path for item in complaints if item.keyword == "type"}
    removals: dict[tuple[int, str | int], tuple[Node, str | int]] = {}
    told = False
    for item in complaints:
        chain = _chain(root, item.path)
        echo = item.keyword in _ABOUT_THE_WHOLE and item.path in mistyped
        if problems.is_full():
            told = True  # nobody reads on, and advice takes its time
        elif not echo and not _follows_from(item, unknown.get(item.path)):
            _tell(item, chain, problems)
            told = True
        # An alias leads to the same node on several ways: it is taken out once.
        removals |= {(id(parent), key): (parent, key) for parent, key in _removals(item, chain)}
    for parent, key in sorted(removals.values(), key=lambda pair: isinstance(pair[1], int) and -pair[1]):
        _remove(parent, key)
    return not told


def _complaint(error: Any) -> _Complaint:
    *steps, keyword = error.schema_path
    if error.kind.name == "propertyNames":
        *steps, keyword = steps
    schema: Any = config_schema()
    for step in steps:
        schema = schema[step] if isinstance(schema, Sequence | Mapping) else {}
    names: tuple[str, ...] = ()
    if keyword == "additionalProperties":
        names = tuple(error.kind.unexpected)
    elif keyword == "required":
        names = (error.kind.property,)
    return _Complaint(str(keyword), tuple(error.instance_path), schema, names)


def _chain(root: Node, path: _Path) -> list[tuple[Node, str | int]]:
    """The nodes on the way to a value with the step into each; the first is the root."""
    chain: list[tuple[Node, str | int]] = [(root, "")]
    for step in path:
        parent = chain[-1][0]
        kid = parent.listed()[step] if isinstance(step, int) else parent.named()[step]
        chain.append((kid, step))
    return chain


def _is_installed_backend(item: _Complaint, root: Node) -> bool:
    """A schema cannot list the backends that other packages bring; what is installed here counts as known."""
    if item.path[:1] != ("backends",) or item.path[2:] != ("type",) or item.keyword != "anyOf":
        return False
    from importlib.metadata import entry_points

    named = _chain(root, item.path)[-1][0].data
    return any(point.name == named for point in entry_points(group="reconciler.backends"))


def _follows_from(item: _Complaint, unknown: _Complaint | None) -> bool:
    """Whether a complaint about a whole block is only the echo of an unknown key in it."""
    if unknown is None or item.keyword not in _ABOUT_THE_WHOLE or item is unknown:
        return False
    if item.keyword == "required":
        return any(
            item.names[0] in fix_unknown(name, unknown.schema, config_schema()) for name in unknown.names
        )
    return item.keyword == "oneOf"


def _tell(item: _Complaint, chain: list[tuple[Node, str | int]], problems: Problems) -> None:
    node, step = chain[-1]
    label = _label(chain)
    if item.keyword == "additionalProperties":
        for name in item.names:
            if problems.is_full():
                break
            _tell_unknown(name, node, item.schema, problems)
    elif item.keyword == "required":
        name = item.names[0]
        wanted = known_keys(item.schema, config_schema()).get(name, {}).get("x-expected", "")
        problems.error(
            node, "missing-key", f"`{name}` is missing" + (f" from {label}" if label else ""),
            f"add `{name}: …`" + (f": {wanted}" if wanted else ""),
        )  # fmt: skip
    else:
        expected = item.schema.get("x-expected") or _expected(item.schema)
        if item.keyword == "type" and expected.startswith(("exactly", "only")):
            expected = f"a mapping with {expected}" if expected.startswith("exactly") else "a mapping"
        word = (
            "needs"
            if expected.startswith("exactly")
            else "takes"
            if expected.startswith("only")
            else "must be"
        )
        found = "" if item.keyword in _ABOUT_THE_WHOLE else f", not {describe(node)}"
        code = "wrong-type" if item.keyword == "type" else "wrong-value"
        fix = fix_value(node, step, item.schema, expected)
        problems.error(node, code, f"{label or 'this'} {word} {expected}{found}", fix)


def _tell_unknown(name: str, node: Node, schema: Mapping[str, Any], problems: Problems) -> None:
    key = node.keys[name]
    names = schema.get("x-names")
    if names is not None:
        what, _, rule = names.partition(": ")
        problems.error(key, "bad-name", f"{quote(name)} is not {what}", f"use {rule}")
        return
    problems.error(
        key, "unknown-key", f"unknown key {quote(name)}", fix_unknown(name, schema, config_schema())
    )


def _label(chain: list[tuple[Node, str | int]]) -> str:
    step = chain[-1][1]
    if isinstance(step, int):
        return f"entry {step + 1} of {quote(str(chain[-2][1]))}"
    return quote(step) if step else ""


def _expected(schema: Mapping[str, Any]) -> str:
    words = {
        "object": "a mapping",
        "array": "a list",
        "string": "text",
        "number": "a number",
        "boolean": "true or false",
    }
    types = schema.get("type", ())
    types = [types] if isinstance(types, str) else types
    return " or ".join(words.get(word, word) for word in types) or "something else"


def _removals(item: _Complaint, chain: list[tuple[Node, str | int]]) -> list[tuple[Node, str | int]]:
    node, step = chain[-1]
    for ancestor, _ in chain:
        ancestor.damaged = True
    if item.keyword == "additionalProperties":
        return [(node, name) for name in item.names]
    return [(chain[-2][0], step)] if len(chain) > 1 else []


def _remove(parent: Node, key: str | int) -> None:
    """Take a part out. An alias may have brought the same node here twice, so it may be gone already."""
    if isinstance(key, int):
        if parent.items is not None and key < len(parent.items):
            del parent.items[key], parent.data[key]
    elif parent.kids is not None and parent.kids.pop(key, None) is not None:
        parent.data.pop(key, None)
