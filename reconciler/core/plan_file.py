"""A plan file's bytes: a `SavedPlan` as one line of JSON with an integrity code, and back.

There is one way to write a document, and bytes that are not written in it are refused: so is every edit, before anything
in the file is believed. Must never open a file.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from msgspec import Struct

from reconciler.core.plan_document import plan_dict, plan_of
from reconciler.errors import PlanFileBroken
from reconciler.model.saved import FORMAT, Inputs, SavedPlan

KIND = "reconciler plan"
_KEYED, _PLAIN = "hmac-sha256", "sha256"
_FORMAT_SHAPE = re.compile(r"(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})", re.ASCII)
_KNOWN = tuple(int(part) for part in FORMAT.split("."))
_AGAIN = "make it anew with `reconciler plan -o`"


class _Wrong(Exception):
    """What is wrong with the document."""


def encode(saved: SavedPlan, *, key: bytes | None) -> bytes:
    """The file. The same saved plan and key, the same bytes. `key` is the stack's; None when there is none yet, and then
    the code tells damage but no intent."""
    document = {
        "kind": KIND,
        "format": FORMAT,
        "tool": saved.tool,
        "made_at": saved.made_at,
        "inputs": {
            "configuration": saved.inputs.configuration,
            "variables": dict(saved.inputs.variables),
            "secrets": saved.inputs.secrets,
        },
        **plan_dict(saved.plan),
    }
    kind = _PLAIN if key is None else _KEYED
    return _written({**document, "integrity": {"kind": kind, "code": _code(document, kind, key)}})


class Unverified(Struct, frozen=True, kw_only=True):
    """A document of the right shape. `saved` is for deciding how to go on; believe it only after `verified`."""

    place: str
    saved: SavedPlan
    document: Mapping[str, Any]

    @property
    def keyed(self) -> bool:
        """Whether it says that its code was made with a key."""
        return bool(self.document["integrity"]["kind"] == _KEYED)

    def verified(self, *, key: bytes | None, stack: str) -> SavedPlan:
        """`key` is the stack's, as it was before this run. Raises PlanFileBroken when the plan is another stack's, or
        its code is not the one of this content and key."""
        if self.saved.plan.stack != stack:
            raise PlanFileBroken(
                f"{self.place} is a plan for stack {self.saved.plan.stack!r}, and this configuration is of stack {stack!r}",
                hint="use it with the configuration it was made from",
            )
        body = {name: value for name, value in self.document.items() if name != "integrity"}
        integrity = self.document["integrity"]
        keyed = self.keyed
        if keyed and key is None:
            raise PlanFileBroken(
                f"{self.place} was made with a key that is not here, so nobody can tell whether it was edited",
                hint="apply it where the state's key is, or set RECONCILER_STATE_KEY",
            )
        code = _code(body, integrity["kind"], key)
        if not hmac.compare_digest(code, integrity["code"]):
            why = "or its code was made with another key" if keyed else ""
            raise PlanFileBroken(
                f"{self.place} was changed after it was made" + (f", {why}" if why else ""), hint=_AGAIN
            )
        return SavedPlan(
            plan=self.saved.plan,
            inputs=self.saved.inputs,
            made_at=self.saved.made_at,
            tool=self.saved.tool,
            keyed=keyed,
            forgeable=key is not None and not keyed,
        )


def decode(data: bytes, *, place: str, shape: Callable[[Any], str]) -> Unverified:
    """`place` is the file's name, for messages; `shape` says what about a document is not after the schema, "" when
    nothing. Raises PlanFileBroken for everything that `encode` does not write, truncated and edited files among it."""
    try:
        document = _parsed(data)
        _check_format(document, place)
        if _written(document) != data:
            raise _Wrong("it is not written as plans are, so it was edited or cut short")
        told = shape(document)
        if told:
            raise _Wrong(told)
        saved = SavedPlan(
            plan=plan_of(document),
            inputs=Inputs(**document["inputs"]),
            made_at=document["made_at"],
            tool=document["tool"],
        )
    except _Wrong as wrong:
        raise PlanFileBroken(f"{place} is no plan file: {wrong}", hint=_AGAIN) from wrong.__cause__
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise PlanFileBroken(f"{place} is no plan file: it does not hold a plan", hint=_AGAIN) from error
    return Unverified(place=place, saved=saved, document=document)


def _written(document: Mapping[str, Any]) -> bytes:
    return _canonical(document) + b"\n"


def _canonical(document: Mapping[str, Any]) -> bytes:
    """Sorted, without spaces, in ASCII: one form for one content."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _code(body: Mapping[str, Any], kind: str, key: bytes | None) -> str:
    """The key signs other things as well; what stands in front keeps them apart."""
    message = KIND.encode() + b"\0" + _canonical(body)
    if kind == _KEYED and key is not None:
        return hmac.new(key, message, hashlib.sha256).hexdigest()
    return hashlib.sha256(message).hexdigest()


def _parsed(data: bytes) -> dict[str, Any]:
    if not data.strip():
        raise _Wrong("it is empty")
    try:
        document = json.loads(data.decode("ascii"), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise _Wrong(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise _Wrong(f"byte {error.start} is no ASCII") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise _Wrong("it is something else")
    return document


def _no_constant(name: str) -> NoReturn:
    raise _Wrong(f"{name} is no JSON value")


def _check_format(document: Mapping[str, Any], place: str) -> None:
    """Before anything else: a newer format may look different everywhere."""
    form = document.get("format")
    match = _FORMAT_SHAPE.fullmatch(form) if isinstance(form, str) else None
    if match is None:
        raise _Wrong("it has no format version")
    found = (int(match[1]), int(match[2]))
    if found > _KNOWN:
        raise PlanFileBroken(
            f"{place} has the plan format {form}, this version knows up to {FORMAT}",
            hint="update reconciler to at least the version that made it",
        )
    if found[0] < _KNOWN[0]:
        raise _Wrong(f"there never was a plan format {form}")
