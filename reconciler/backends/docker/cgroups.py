"""What a container takes, read from the kernel where its engine is on this machine: in microseconds, while older engines
answer the same question once a second. Reads only, and knows nothing of the engine.
"""

from __future__ import annotations

import time

from reconciler.model.observed import Usage

ROOT = "/sys/fs/cgroup"
# Where Docker and Podman put a container: by plain directories, or as a scope of systemd.
_PLACES = (
    "docker/{id}",
    "system.slice/docker-{id}.scope",
    "machine.slice/libpod-{id}.scope",
    "libpod_parent/libpod-{id}",
)


def usage_of(container_id: str, *, root: str = ROOT) -> Usage | None:
    """One sample; memory without the file cache that the kernel would give back. `container_id` is the whole one, which
    no other container has, so that what is found is it. None where it is not found: on another machine, under
    another parent, or not running."""
    if len(container_id) != 64 or not container_id.isalnum():
        return None
    for place in (pattern.format(id=container_id) for pattern in _PLACES):
        for read in (_second_version, _first_version):
            found = read(root, place)
            if found is not None:
                return found
    return None


def _second_version(root: str, place: str) -> Usage | None:
    try:
        used = _number(f"{root}/{place}/memory.current")
        cache = _named(f"{root}/{place}/memory.stat", "inactive_file")
        cpu = _named(f"{root}/{place}/cpu.stat", "usage_usec") / 1e6
    except (OSError, ValueError):
        return None
    return Usage(cpu_seconds=cpu, memory=max(0, used - cache), at=time.monotonic())


def _first_version(root: str, place: str) -> Usage | None:
    try:
        used = _number(f"{root}/memory/{place}/memory.usage_in_bytes")
        cache = _named(f"{root}/memory/{place}/memory.stat", "total_inactive_file")
        cpu = _number(f"{root}/cpuacct/{place}/cpuacct.usage") / 1e9
    except (OSError, ValueError):
        return None
    return Usage(cpu_seconds=cpu, memory=max(0, used - cache), at=time.monotonic())


def _number(path: str) -> int:
    with open(path, encoding="ascii") as file:
        return int(file.read())


def _named(path: str, name: str) -> int:
    """The number after a name, one such pair a line. Raises ValueError when it is not there."""
    with open(path, encoding="ascii") as file:
        for line in file:
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    raise ValueError(f"{path} has no {name}")
