"""References from one sandbox to another: `${sandbox.ADDRESS.url|id|ports.NAME}` once expansion has found them.

Inside a spec a reference is written between NUL characters, which no YAML scalar can hold: what the user escaped
with `$${` can therefore never be taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from reconciler.model.desired import Address, SandboxSpec
from reconciler.model.observed import SandboxInfo
from reconciler.model.plan import UNKNOWN_VALUE

_MARK = re.compile("\x00([^\x00|]+)\\|([^\x00]+)\x00")

Lookup = Callable[[Address, str], str | None]
"""(address, "url" | "id" | "ports.NAME") to the live value, None while it is not known."""


def mark(address: Address, attribute: str) -> str:
    """The inner form of a reference, to be put into a value's text."""
    return f"\x00{address}|{attribute}\x00"


def find(text: str) -> Iterator[tuple[Address, str]]:
    """Every reference in a text, in order."""
    for match in _MARK.finditer(text):
        yield Address(match[1]), match[2]


def has_reference(text: str) -> bool:
    return "\x00" in text


def resolve_text(text: str, lookup: Lookup) -> str:
    """The text with every reference replaced; the whole is UNKNOWN_VALUE when one of them is not known yet."""
    if "\x00" not in text:
        return text
    parts: list[str] = []
    end = 0
    for match in _MARK.finditer(text):
        value = lookup(Address(match[1]), match[2])
        if value is None:
            return UNKNOWN_VALUE
        parts += [text[end : match.start()], value]
        end = match.end()
    return "".join([*parts, text[end:]])


def readable(text: str) -> str:
    """The text as the user wrote it, for messages."""
    return _MARK.sub(lambda match: f"${{sandbox.{match[1]}.{match[2]}}}", text)


def resolve_spec(spec: SandboxSpec, lookup: Lookup) -> SandboxSpec:
    """The spec with references in `environment` and `command` replaced as far as they are known."""
    environment = {name: resolve_text(value, lookup) for name, value in spec.environment.items()}
    command = None if spec.command is None else tuple(resolve_text(word, lookup) for word in spec.command)
    return replace(spec, environment=environment, command=command)


def attribute_of(info: SandboxInfo, attribute: str) -> str | None:
    """What a reference to this attribute of a live sandbox yields."""
    if attribute == "url":
        return info.sandbox_url
    if attribute == "id":
        return info.sandbox_id
    kind, _, name = attribute.partition(".")
    port = info.ports.get(name) if kind == "ports" else None
    return None if port is None else str(port)
