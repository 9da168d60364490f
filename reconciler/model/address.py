"""Addresses: what a sandbox is called in the configuration, in the state and on every object."""

from __future__ import annotations

from typing import NewType

Address = NewType("Address", str)  # researcher, researcher[0], region["eu"]
SandboxId = NewType("SandboxId", str)  # ^[a-z0-9]([-a-z0-9]{0,49}[a-z0-9])?$

_LONGEST_INDEX = 9  # digits


def address_order(address: str) -> tuple[str, int, str]:
    """A sort key under which `a[2]` comes before `a[10]`."""
    group, _, key = address.partition("[")
    key = key.removesuffix("]")
    return (group, int(key) if is_index(key) else -1, key)


def is_index(key: str) -> bool:
    """Whether the key of an address is a replica's number. Labels hold any text; a number of a million digits is none."""
    return key.isdecimal() and len(key) <= _LONGEST_INDEX


def covers(name: str, address: str) -> bool:
    """Whether `name`, an address or the name of a group, means this address."""
    return name == address or ("[" not in name and address.startswith(name + "["))
