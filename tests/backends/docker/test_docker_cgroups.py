"""What the kernel tells of a container, in each layout that engines make."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.backends.docker.cgroups import usage_of
from reconciler.model.observed import Usage

ID = "ab" * 32

SECOND = ("docker/{id}", "system.slice/docker-{id}.scope", "machine.slice/libpod-{id}.scope")
FIRST = ("docker/{id}", "system.slice/docker-{id}.scope", "libpod_parent/libpod-{id}")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def second_version(root: Path, place: str) -> None:
    group = root / place.format(id=ID)
    write(group / "memory.current", "5000\n")
    write(group / "memory.stat", "anon 3000\nfile 2000\ninactive_file 1500\n")
    write(group / "cpu.stat", "usage_usec 2500000\nuser_usec 2000000\n")


def first_version(root: Path, place: str) -> None:
    group = place.format(id=ID)
    write(root / "memory" / group / "memory.usage_in_bytes", "5000\n")
    write(root / "memory" / group / "memory.stat", "inactive_file 1\ntotal_inactive_file 1500\n")
    write(root / "cpuacct" / group / "cpuacct.usage", "2500000000\n")


def taken(found: Usage | None) -> tuple[float, int] | None:
    return None if found is None else (found.cpu_seconds, found.memory)


@pytest.mark.parametrize(
    ("make", "place"),
    [(second_version, place) for place in SECOND] + [(first_version, place) for place in FIRST],
)
def test_a_container_is_found_wherever_its_engine_puts_it(tmp_path: Path, make, place: str) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path, place)
    assert taken(usage_of(ID, root=str(tmp_path))) == (2.5, 3500)


def test_another_container_is_not_taken_for_it(tmp_path: Path) -> None:
    second_version(tmp_path, SECOND[0])
    assert usage_of("cd" * 32, root=str(tmp_path)) is None


@pytest.mark.parametrize("short", ["", ID[:12], "../../" + "x" * 58], ids=["empty", "short", "a path"])
def test_only_a_whole_id_is_looked_for(tmp_path: Path, short: str) -> None:
    second_version(tmp_path, SECOND[0])
    assert usage_of(short, root=str(tmp_path)) is None


@pytest.mark.parametrize(
    ("name", "text"), [("memory.stat", "anon 1\n"), ("memory.current", ""), ("cpu.stat", "x")]
)
def test_a_file_that_says_something_else_is_no_answer(tmp_path: Path, name: str, text: str) -> None:
    second_version(tmp_path, SECOND[0])
    write(tmp_path / SECOND[0].format(id=ID) / name, text)
    assert usage_of(ID, root=str(tmp_path)) is None


def test_more_cache_than_memory_is_none(tmp_path: Path) -> None:
    second_version(tmp_path, SECOND[0])
    write(tmp_path / SECOND[0].format(id=ID) / "memory.current", "1000\n")
    assert taken(usage_of(ID, root=str(tmp_path))) == (2.5, 0)
