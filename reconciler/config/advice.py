"""What to do about a value or key that the schema does not take: the likely meaning, a neighbour, an example."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reconciler.config.diagnostics import closest, one_of, quote
from reconciler.config.nodes import Node, spell

_SYNONYMS: Mapping[str, str] = {
    "args": "command",
    "cmd": "command",
    "count": "replicas",
    "cpus": "cpu",
    "env": "environment",
    "envs": "environment",
    "foreach": "for_each",
    "health": "readiness",
    "healthcheck": "readiness",
    "health_check": "readiness",
    "limits": "resources",
    "mem": "memory",
    "mem_limit": "memory",
    "name": "stack",
    "needs": "depends_on",
    "pids_limit": "pids",
    "provider": "backend",
    "providers": "backends",
    "readiness_probe": "readiness",
    "readonly": "read_only",
    "ro": "read_only",
    "scale": "replicas",
    "services": "sandboxes",
    "shm_size": "shm",
    "src": "source",
    "vars": "variables",
    "volumes": "mounts",
}
_TRUE_WORDS, _FALSE_WORDS = frozenset({"yes", "on", "y"}), frozenset({"no", "off", "n"})
_LEADING_ZERO = r"[-+]?0[0-9_]+"
_UNDERSCORES = r"[-+]?[0-9][0-9_]*_[0-9_]*"
_VARIABLE = r"""["']?\$\{var\.([A-Za-z0-9_-]+)\}["']?"""
_NUMBER = r"-?[0-9]{1,15}(\.[0-9]{1,15})?"
_TOO_LARGE = r"[0-9]{7,}(ms|[smhd]|[kKmMgGtT]?i?[bB]?)"
_SIXTIES = r"[-+]?[0-9]+(:[0-5]?[0-9])+"


def describe(node: Node) -> str:
    """What was found, for the end of a sentence."""
    if node.kids is not None:
        return "a mapping"
    if node.items is not None:
        return "a list"
    if node.secret:
        return "this text"
    if node.data is None:
        return "empty" if not node.text else quote(node.text)
    if isinstance(node.data, str) and (re.fullmatch(_NUMBER, node.data) or node.data in ("true", "false")):
        return quote(f'"{node.data}"')  # text, which without its quotes would look like what is asked for
    return quote(node.text or '""')


def known_keys(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The keys a schema node takes, each with its own schema node."""
    return {name: _followed(kid, root) for name, kid in schema.get("properties", {}).items()}


def fix_unknown(name: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """What to write instead of an unknown key."""
    known = known_keys(schema, root)
    lowered, synonym = _spellings(name)
    if meant := _meant(name, known):
        return f"did you mean `{meant}`?"
    for parent, kid in known.items():
        nested = kid.get("properties", {})
        for word in (lowered, synonym):
            if word in nested:
                return f"write it under `{parent}`: `{parent}: {{{word}: …}}`"
    if meant := closest(name, known):
        return f"did you mean `{meant}`?"
    return f"remove it, or choose one of {one_of(known, 24)}; keys of your own begin with `x-`"


def likely(name: str, known: Mapping[str, object]) -> str:
    """The known key that an unknown one stands for; "" for none."""
    return _meant(name, known) or closest(name, known)


def _meant(name: str, known: Mapping[str, object]) -> str:
    return next((word for word in _spellings(name) if word in known), "")


def _spellings(name: str) -> tuple[str, str]:
    """As we would write it, and what others call so here."""
    lowered = name.lower().replace("-", "_")
    return lowered, _SYNONYMS.get(lowered, "")


def fix_value(node: Node, key: str | int, schema: Mapping[str, Any], expected: str) -> str:
    """What to write instead of a value."""
    label = f"{key}: " if isinstance(key, str) and key else ""
    types = schema.get("type", ())
    types = {types} if isinstance(types, str) else set(types)
    if node.text is not None and not node.secret:
        fix = _fix_scalar(node, label, types, expected)
        if fix:
            return fix
    choices = _choices(schema)
    if choices and node.text is not None:
        if isinstance(node.data, str) and node.text in choices and not node.secret:
            return f"remove the quotes: `{label}{node.text}`"
        meant = "" if node.secret else closest(node.text, choices)
        return f"did you mean {quote(meant)}?" if meant else f"write {one_of(choices, 12)}"
    if "array" in types and node.text and not node.secret and "object" not in types:
        return f"write a list: `{label}[{node.text[:40]}]`"
    if "object" in types and isinstance(key, str) and key in schema.get("properties", ()):
        return f"indent it further: `{key}` is a key of a {schema.get('title', 'mapping').lower()}, not the name of one"
    if expected.startswith(("exactly", "only")):
        return f"give {expected}"
    examples = schema.get("examples")
    if examples:
        if node.text and not node.secret and re.fullmatch(_TOO_LARGE, node.text):
            return f"that is too much: write, for example, `{label}{_flow(examples[0])}`"
        return f"write, for example, `{label}{_flow(examples[0])}`"
    if types == {"object"} and node.items is not None:
        return "write a mapping, each name a key of its own: `NAME: …`"
    return f"write {expected}"


def _fix_scalar(node: Node, label: str, types: set[str], expected: str) -> str:
    text = node.text or ""
    lowered = text.lower()
    typed = _fix_variable(node, types, expected)
    if typed:
        return typed
    if node.data is None and "null" not in types:
        return f"write a value after `{label.strip() or '-'}`, or remove it"
    if types == {"string"} and isinstance(node.data, bool | int | float):
        return f'put it in quotes: `{label}"{text}"`'
    if lowered in _TRUE_WORDS | _FALSE_WORDS and ("boolean" in types or "true" in expected):
        return f"write `{label}{'true' if lowered in _TRUE_WORDS else 'false'}`; `{text}` is text in YAML 1.2"
    if types & {"integer", "number"} or "number" in expected:
        if re.fullmatch(_LEADING_ZERO, text):
            return f"write `{label}{text.lstrip('0') or '0'}`: with a leading zero some YAML tools read it as octal"
        if re.fullmatch(_UNDERSCORES, text):
            return f"write `{label}{text.replace('_', '')}`, without `_`"
        if re.fullmatch(_SIXTIES, text):
            return "write a plain number; with colons it is text, and some YAML tools count it in sixties"
        bare = text.strip()
        if node.data == text and bare.lstrip("-").isdigit() and len(bare) < 10:
            return f"remove the quotes: `{label}{bare}`"
    return ""


def _fix_variable(node: Node, types: set[str], expected: str) -> str:
    """The value is that of a variable, which is text unless it says otherwise."""
    written = node.source.line(node.mark.line)[node.mark.column :]
    variable = re.match(_VARIABLE, written)
    if variable is None or not isinstance(node.data, str):
        return ""
    if node.data in ("true", "false") and ("boolean" in types or "true" in expected):
        kind = "bool"
    elif re.fullmatch(_NUMBER, node.data) and (types & {"integer", "number"} or "number" in expected):
        kind = "number"
    else:
        return ""
    return f"say that the variable is no text: `{variable[1]}: {{type: {kind}, …}}`"


def _choices(schema: Mapping[str, Any]) -> list[str]:
    options = list(schema.get("enum", ()))
    if "const" in schema:
        options.append(schema["const"])
    for branch in schema.get("anyOf", ()):
        options += _choices(branch)
    return [spell(option) for option in options]


def _followed(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref", "")
    if not reference:
        return schema
    target = root["$defs"][reference.rpartition("/")[2]]
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


def _flow(value: Any) -> str:
    """A value as flow YAML, for an example in a message."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(kid)}" for key, kid in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = spell(value)
    return f'"{text}"' if isinstance(value, str) and ("${" in text or ": " in text) else text
