"""Which addresses a pattern means: an exact address, a group's name, a glob, or `label:key=value`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from reconciler.model.desired import Address
from reconciler.model.state import SandboxRecord


def select(
    patterns: Sequence[str], addresses: Iterable[Address], labels: Mapping[Address, Mapping[str, str]]
) -> tuple[Address, ...]:
    """The addresses that any of the patterns matches, sorted; all of them when there are no patterns."""
    found = {a for a in addresses if not patterns or any(matches(p, a, labels.get(a, {})) for p in patterns)}
    return tuple(sorted(found))


def matches(pattern: str, address: Address, labels: Mapping[str, str]) -> bool:
    """`researcher` matches all its replicas; in a glob only `*` and `?` are special, since brackets are addresses'."""
    if pattern.startswith("label:"):
        key, equals, value = pattern.removeprefix("label:").partition("=")
        return key in labels and (not equals or bool(glob(value).fullmatch(labels[key])))
    if pattern == address or address.startswith(pattern + "["):
        return True
    return bool(glob(pattern).fullmatch(address))


@lru_cache(maxsize=256)
def glob(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern))


def recorded_labels(record: SandboxRecord) -> dict[str, str]:
    """The labels that were declared when it was last changed."""
    head = "labels."
    return {
        path.removeprefix(head): str(value) for path, value in record.spec.items() if path.startswith(head)
    }
