"""The snapshot's bytes: a `State` as stable JSON, and back with every key and type checked.

The file carries no checksum, because people may edit it deliberately; so nothing in it is taken on trust. It accepts
exactly what `schemas/state.v1.schema.json` describes. Must never open a file, nor quote a value that stands where a
secret's digest belongs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from msgspec import Struct

from reconciler.errors import StateCorrupt, StateTooNew, StoreError
from reconciler.model.desired import Address
from reconciler.model.state import FORMAT, SandboxRecord, State, Status
from reconciler.stores.encoding import as_written, indented
from reconciler.stores.typed import records_of

_Check = Callable[[Any, str], None]
_KNOWN = tuple(int(part) for part in FORMAT.split("."))
_FORMAT_SHAPE = r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})"


class _Wrong(Exception):
    """What is wrong, and where in the document."""


def encode(state: State) -> bytes:
    """Sorted keys, two spaces, a newline at the end: the same state, the same bytes. Raises StoreError for a state
    that `decode` would refuse: what cannot be read back must not replace what can."""
    document = state.to_dict()
    try:
        (_STATE if records_of(document["sandboxes"]) is None else _OUTSIDE)(document, "")
        return indented(document) + b"\n"
    except (_Wrong, TypeError, ValueError) as error:
        raise StoreError(f"the state of {state.stack} cannot be stored: {error}") from error


class Outline(Struct, frozen=True, kw_only=True):
    """What a snapshot says about itself; `at` in seconds since the epoch, `sandboxes` is how many are recorded."""

    stack: str
    lineage: str
    serial: int
    at: float
    sandboxes: int


def decode(data: bytes, *, place: str, hint: str) -> State:
    """The state, of whatever stack. `place` is where the bytes are from and `hint` what to do when they are damaged,
    both for messages. Raises StateCorrupt or StateTooNew."""
    document, records = _document(data, place, hint, _STATE, _OUTSIDE)
    return State.from_dict(document, records)


def outline(data: bytes, *, place: str, hint: str) -> Outline:
    """The same without a look at each record: twenty of these are read to show a history. Raises as `decode` does."""
    document, _ = _document(data, place, hint, _HEAD)
    return Outline(
        stack=document["stack"],
        lineage=document["lineage"],
        serial=document["serial"],
        at=float(document["updated_at"]),
        sandboxes=len(document["sandboxes"]),
    )


def _document(
    data: bytes, place: str, hint: str, check: _Check, outside: _Check | None = None
) -> tuple[dict[str, Any], Mapping[Address, SandboxRecord] | None]:
    """What stands there, checked. With `outside`, which checks all but the records, these are checked and made at once; None
    where they have to be made."""
    if not data.strip():
        raise StateCorrupt(f"{place} is empty", hint=hint)
    try:
        document: dict[str, Any] = as_written(data) or _parse(data)
        _check_format(document, place)
        records = None if outside is None else records_of(document.get("sandboxes"))
        if records is None or outside is None:
            check(document, "")
        else:
            outside(document, "")
    except _Wrong as wrong:
        raise StateCorrupt(f"{place} is no state: {wrong}", hint=hint) from wrong.__cause__
    return document, records


def _parse(data: bytes) -> Any:
    import json

    try:
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _Wrong(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise _Wrong(f"byte {error.start} is no UTF-8") from error
    except RecursionError as error:
        raise _Wrong("it is nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise _Wrong(str(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for position, key in enumerate(keys) if key in keys[:position])
        raise _Wrong(f"the key {twice!r} stands there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Wrong(f"{name} is no JSON value")


def _check_format(document: Any, place: str) -> None:
    """Before anything else: a newer format may look different everywhere."""
    form = document.get("format") if isinstance(document, dict) else None
    match = re.fullmatch(_FORMAT_SHAPE, form) if isinstance(form, str) else None
    if match is None:
        raise _Wrong("it does not begin with a format version")
    if (int(match[1]), int(match[2])) > _KNOWN:
        raise StateTooNew(
            f"{place} has the state format {form}, this version knows up to {FORMAT}",
            hint="update reconciler to at least the version that wrote it",
        )
    if int(match[1]) < _KNOWN[0]:
        raise _Wrong(f"there never was a state format {form}")


def _named(where: str) -> str:
    return where.removeprefix(".").encode(errors="backslashreplace").decode() or "the document"


def _is(kind: str, accepts: Callable[[Any], bool]) -> _Check:
    def check(value: Any, where: str) -> None:
        if not accepts(value):
            import json

            shown = "not shown" if ".secrets." in where else json.dumps(value)[:40]
            raise _Wrong(f"{_named(where)} is {shown}, expected {kind}")

    return check


def _object(required: Mapping[str, _Check], optional: Mapping[str, _Check] | None = None) -> _Check:
    known = {**required, **(optional or {})}

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _Wrong(f"{_named(where)} is no object")
        for key in required:
            if key not in value:
                raise _Wrong(f"{_named(f'{where}.{key}')} is missing")
        for key, item in value.items():
            if key not in known:
                raise _Wrong(f"{_named(f'{where}.{key}')} is an unknown key")
            known[key](item, f"{where}.{key}")

    return check


def _map(check_value: _Check, *, named: bool = False) -> _Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise _Wrong(f"{_named(where)} is no object")
        for key, item in value.items():
            if named and not key:
                raise _Wrong(f"{_named(where)} has an empty name in it")
            check_value(item, f"{where}.{key}")

    return check


def _array(check_item: _Check) -> _Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise _Wrong(f"{_named(where)} is no list")
        for index, item in enumerate(value):
            check_item(item, f"{where}[{index}]")

    return check


def _or_null(check: _Check) -> _Check:
    return lambda value, where: None if value is None else check(value, where)


_PLAIN = frozenset({str, int, bool, type(None)})
_TEXT = _is("a text", lambda v: isinstance(v, str))
_NAME = _is("a text that is not empty", lambda v: isinstance(v, str) and v != "")
_NUMBER = _is("a number", lambda v: type(v) in (float, int) and abs(v) < 1e300)
_SWITCH = _is("true or false", lambda v: type(v) is bool)
_COUNT = _is("a whole number from 0", lambda v: type(v) is int and v >= 0)
_PORT = _is("a port number", lambda v: type(v) is int and 0 <= v <= 65535)
_STATUS = _is(f"one of {', '.join(Status)}", lambda v: isinstance(v, str) and v in list(Status))
_SCALAR = _is("a plain value", lambda v: type(v) in _PLAIN or (type(v) is float and math.isfinite(v)))


def _anything(value: Any, where: str) -> None:
    """Backend options are the backend's own; JSON is all that is asked of them."""


_INFO = _object(
    {
        "sandbox_id": _NAME,
        "sandbox_url": _TEXT,
        "container_name": _or_null(_TEXT),
        "container_id": _or_null(_TEXT),
        "created_at": _NUMBER,
    },
    {"ports": _map(_PORT)},
)
_RECORD = _object(
    {
        "sandbox_id": _NAME,
        "backend": _NAME,
        "generation": _COUNT,
        "status": _STATUS,
        "spec_hash": _TEXT,
        "spec": _map(_SCALAR),
        "info": _or_null(_INFO),
        "depends_on": _array(_NAME),
        "created_at": _NUMBER,
        "updated_at": _NUMBER,
        "error": _TEXT,
    },
    {
        "imported": _SWITCH,
        "protected": _SWITCH,
        "triggers": _map(_TEXT),
        "healthy": _map(_SCALAR),
    },
)
_RELEASED = _object({"backend": _TEXT, "sandbox_id": _NAME, "address": _NAME})
_MIGRATED = _object({"to": _NAME, "at": _NUMBER})


def _state(sandboxes: _Check) -> _Check:
    return _object(
        {
            "format": _TEXT,
            "stack": _NAME,
            "serial": _COUNT,
            "lineage": _NAME,
            "updated_at": _NUMBER,
            "backends": _map(_object({"type": _TEXT, "options": _map(_anything)}, {"place": _TEXT})),
            "outputs": _map(_TEXT),
            "sandboxes": sandboxes,
        },
        {"released": _array(_RELEASED), "migrated": _MIGRATED},
    )


_STATE = _state(_map(_RECORD, named=True))
_OUTSIDE = _state(_anything)  # of the records, which are seen to elsewhere
_HEAD = _object(
    {
        "format": _TEXT,
        "stack": _NAME,
        "serial": _COUNT,
        "lineage": _NAME,
        "updated_at": _NUMBER,
        "backends": _anything,
        "outputs": _anything,
        "sandboxes": _map(_anything),
    },
    {"released": _anything, "migrated": _anything},
)
