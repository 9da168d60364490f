"""Label and field selectors, as the list and watch requests write them."""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.support.kubernetes.refusals import Json, Refusal, bad_request

Matches = Callable[[Json], bool]

_SET = re.compile(r"\s*(?P<key>[^\s!=,()]+)\s+(?P<how>in|notin)\s+\((?P<values>[^)]*)\)\s*")
_EQUAL = re.compile(r"\s*(?P<key>[^\s!=,()]+)\s*(?P<how>==|=|!=)\s*(?P<value>[^\s!=,()]*)\s*")
_EXISTS = re.compile(r"\s*(?P<no>!?)\s*(?P<key>[^\s!=,()]+)\s*")

FIELDS = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
    ),
    "events": (
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
        "reportingComponent", "source", "type",
    ),
    "secrets": ("type",),
    "namespaces": ("status.phase",),
}  # fmt: skip


def labels(text: str) -> Matches:
    """Raises Refusal (400) for text that is no label selector."""
    tests = [_requirement(part, text) for part in _split(text)]
    return lambda thing: all(test(thing["metadata"].get("labels") or {}) for test in tests)


def _split(text: str) -> list[str]:
    return [part for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _requirement(part: str, text: str) -> Matches:
    if found := _SET.fullmatch(part):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["how"] == "in":
            return lambda has: has.get(key) in values
        return lambda has: key not in has or has[key] not in values
    if found := _EQUAL.fullmatch(part):
        key, value = found["key"], found["value"]
        if found["how"] == "!=":
            return lambda has: has.get(key) != value
        return lambda has: has.get(key) == value
    if found := _EXISTS.fullmatch(part):
        key, no = found["key"], bool(found["no"])
        return lambda has: (key in has) != no
    raise bad_request(f"unable to parse requirement: found '{text}', expected: a label selector")


def fields(text: str, plural: str) -> Matches:
    """Raises Refusal (400) for a field that objects of this type cannot be selected by."""
    tests: list[Matches] = []
    for part in filter(None, text.split(",")):
        found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if not found:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        path, how, value = found.groups()
        if path not in ("metadata.name", "metadata.namespace", *FIELDS.get(plural, ())):
            raise _unsupported(path)
        tests.append(
            lambda thing, path=path, how=how, value=value: (_value(thing, path) == value) != (how == "!=")
        )
    return lambda thing: all(test(thing) for test in tests)


def _unsupported(path: str) -> Refusal:
    return bad_request(f'field label not supported: "{path}"')


def _value(thing: Json, path: str) -> str:
    if path == "source":
        return str(thing.get("source", {}).get("component", ""))
    at: object = thing
    for name in path.split("."):
        at = at.get(name, "") if isinstance(at, dict) else ""
    return str(at)
