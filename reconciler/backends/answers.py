"""What a backend answered, held against the contract: each function gives its argument back, or raises Permanent that
says what is wrong with it. Pure.

A value of the wrong type would else be found where nobody can tell any more who brought it: in the planner, in a view, in
the state that cannot be written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar, cast

from reconciler.backends.base import ExecResult, ProbeAnswer, Subscription
from reconciler.errors import Permanent
from reconciler.model.desired import Owner
from reconciler.model.drift import Cause, Provenance
from reconciler.model.observed import Astray, ObservedSandbox, Phase, SandboxInfo, Usage

T = TypeVar("T")
BUG = "this is a bug in the backend"
_LARGEST = 2**63  # of a number that anybody can store
_LATEST = 1e11  # seconds since the epoch; the year 5138
_MOST_SHOWN = 60  # characters of a wrong value


def a_text(made: object, what: str = "the answer") -> str:
    if not isinstance(made, str):
        _wrong(what, "a text", made)
    return made


def a_truth(made: object, what: str = "the answer") -> bool:
    """None is no answer: taken for False, it would say that something is dead."""
    if not isinstance(made, bool):
        _wrong(what, "true or false", made)
    return made


def an_info(made: object) -> SandboxInfo:
    if not isinstance(made, SandboxInfo):
        _wrong("the answer", "a SandboxInfo", made)
    _need(a_text(made.sandbox_id, "sandbox_id") != "", "sandbox_id", "a name", made.sandbox_id)
    a_text(made.sandbox_url, "sandbox_url")
    for name in ("container_name", "container_id"):
        value = getattr(made, name)
        _need(value is None or isinstance(value, str), name, "a text or nothing", value)
    age = made.created_at
    _need(_is_number(age) and 0 <= age < _LATEST, "created_at", "seconds since the epoch", age)
    _need(isinstance(made.ports, Mapping), "ports", "a mapping", made.ports)
    for name, port in made.ports.items():
        a_text(name, "the name of a port")
        _need(_is_port(port), f"port {name}", "a port number", port)
    return made


def an_object(made: object) -> ObservedSandbox:
    if not isinstance(made, ObservedSandbox):
        _wrong("the answer", "an ObservedSandbox", made)
    an_info(made.info)
    _need(isinstance(made.phase, Phase), "phase", "a Phase", made.phase)
    a_text(made.detail, "detail")
    a_text(made.reach, "reach")
    if made.owner is not None:
        _check_owner(made.owner)
    if made.attributes is not None:
        _need(isinstance(made.attributes, Mapping), "attributes", "a mapping", made.attributes)
        for path, value in made.attributes.items():
            a_text(path, "the name of an attribute")
            _need(_is_scalar(value), f"attribute {path}", "a plain value", value)
    _need(isinstance(made.astray, tuple), "astray", "a tuple", made.astray)
    for one in made.astray:
        _check_astray(one)
    return made


def objects(made: object) -> list[ObservedSandbox]:
    return [an_object(one) for one in _each(made)]


def infos(made: object) -> list[SandboxInfo]:
    return [an_info(one) for one in _each(made)]


def texts(made: object) -> tuple[str, ...]:
    return tuple(a_text(one) for one in _each(made))


def an_iterator(made: object) -> Iterator[object]:
    return iter(_each(made))


def rows(made: object) -> tuple[tuple[str, bool, str], ...]:
    """Of `check`."""
    found = []
    for row in _each(made):
        _need(isinstance(row, tuple) and len(row) == 3, "the answer", "rows of three", row)
        what, well, detail = row
        found.append((a_text(what), a_truth(well), a_text(detail)))
    return tuple(found)


def headers(made: object) -> Mapping[str, str]:
    if not isinstance(made, Mapping):
        _wrong("the answer", "a mapping", type(made))
    for name, value in made.items():
        a_text(name, "a header's name")
        _need(isinstance(value, str), "a header's value", "a text", type(value))  # it may be a key: not shown
    return made


def a_result(made: object) -> ExecResult:
    if not isinstance(made, ExecResult):
        _wrong("the answer", "an ExecResult", made)
    code = made.exit_code
    _need(_is_whole(code), "exit_code", "a whole number", code)
    a_text(made.stdout, "stdout")
    a_text(made.stderr, "stderr")
    return made


def a_probe(made: object) -> ProbeAnswer:
    if not isinstance(made, ProbeAnswer):
        _wrong("the answer", "a ProbeAnswer", made)
    a_truth(made.ready, "ready")
    a_truth(made.dead, "dead")
    a_text(made.detail, "detail")
    return made


def a_usage(made: object) -> Usage:
    if not isinstance(made, Usage):
        _wrong("the answer", "a Usage", made)
    for name in ("cpu_seconds", "memory", "at"):
        value = getattr(made, name)
        _need(_is_number(value), name, "a number", value)
    _need(made.cores is None or _is_number(made.cores), "cores", "a number", made.cores)
    return made


def origins(made: object) -> Mapping[str, Provenance]:
    """Of `provenance`."""
    if not isinstance(made, Mapping):
        _wrong("the answer", "a mapping", type(made))
    for sandbox_id, origin in made.items():
        a_text(sandbox_id, "a sandbox id")
        _need(isinstance(origin, Provenance), "the answer", "a Provenance", origin)
        _need(isinstance(origin.cause, Cause), "cause", "a Cause", origin.cause)
        a_text(origin.detail, "detail")
        at = origin.at
        _need(at is None or (_is_number(at) and 0 <= at < _LATEST), "at", "seconds since the epoch", at)
    return made


def a_subscription(made: object) -> Subscription:
    if not callable(getattr(made, "close", None)):
        _wrong("the answer", "a Subscription", made)
    return cast("Subscription", made)


def maybe(check: Callable[[object], T]) -> Callable[[object], T | None]:
    """None is an answer too."""
    return lambda made: None if made is None else check(made)


def nothing(_: object) -> None:
    """Whatever it is, nobody looks at it."""


def _check_owner(owner: Any) -> None:
    _need(isinstance(owner, Owner), "owner", "an Owner", owner)
    for name in ("stack", "lineage", "address", "spec_hash"):
        a_text(getattr(owner, name), f"owner.{name}")
    _need(owner.address != "", "owner.address", "a name", owner.address)
    generation = owner.generation
    _need(_is_whole(generation) and generation >= 0, "owner.generation", "a number from 0", generation)
    a_truth(owner.protected, "owner.protected")


def _check_astray(one: Any) -> None:
    _need(isinstance(one, Astray), "astray", "an Astray", one)
    a_text(one.path, "astray.path")
    _need(_is_scalar(one.live) and _is_scalar(one.meant), f"astray {one.path}", "plain values", one.live)
    a_truth(one.in_place, "astray.in_place")


def _each(made: object) -> Iterable[Any]:
    """A text is no list, though Python takes it apart like one."""
    if isinstance(made, (str, bytes, Mapping)) or not isinstance(made, Iterable):
        _wrong("the answer", "a list", made)
    return made


def _is_whole(value: object) -> bool:
    return type(value) is int and -_LARGEST <= value < _LARGEST


def _is_number(value: object) -> bool:
    return _is_whole(value) or (type(value) is float and math.isfinite(value))


def _is_port(value: object) -> bool:
    return type(value) is int and 0 <= value <= 65535


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, (str, bool)) or _is_number(value)


def _need(holds: bool, what: str, kind: str, made: object) -> None:
    if not holds:
        _wrong(what, kind, made)


def _wrong(what: str, kind: str, made: object) -> NoReturn:
    raise Permanent(f"{what} is {shown(made)}, where {kind} belongs", hint=BUG)


def shown(made: object) -> str:
    """A value in a few words. Its own `repr` may fail, or print a million characters."""
    try:
        text = repr(made)
    except Exception:  # noqa: BLE001 - it is not ours
        return f"a {type(made).__name__}"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
