"""That a disk refuses what it was to refuse, as a full or broken one does, and that silence about it would be told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.checks import mend, untold
from tests.crash.matrix import Cell, living
from tests.crash.operations import BY_NAME, prepare
from tests.crash.points import Fault, Point
from tests.crash.runs import Ended, Runs, runs
from tests.crash.worlds import InMemory

APPEND = "stores/file/store.py:append"
CREATE = BY_NAME["create more"]


@pytest.fixture(scope="module")
def run() -> Iterator[Runs]:
    with runs() as made:
        yield made


@pytest.fixture
def world(run: Runs, tmp_path: Path) -> Iterator[InMemory]:
    with living(InMemory(tmp_path, run)) as made:
        yield made


def refused(world: InMemory, point: str) -> Ended:
    prepare(world, CREATE)
    ended = world.run(*CREATE.argv, point=Point.parse(point))
    assert [str(met) for met in ended.points] == [point]
    return ended


def journal(world: InMemory) -> bytes:
    [path] = (world.folder / "state").glob("*.journal.jsonl")
    return path.read_bytes()


def test_every_kind_of_effect_can_be_refused_and_a_write_be_torn(world: InMemory) -> None:
    points = Cell(world=world, operation=CREATE).points(Fault.DISK)
    assert {point.fault for point in points} == {Fault.DISK}
    met = {(point.side, point.effect) for point in points}
    effects = ("write", "open", "fsync", "rename", "unlink", "truncate")
    assert met == {(side, effect) for side in ("once", "onwards") for effect in effects} | {("torn", "write")}


@pytest.mark.parametrize("side", ["once", "torn"])
def test_a_write_that_is_refused_is_told_and_what_was_written_of_it_is_taken_back(
    world: InMemory, side: str
) -> None:
    ended = refused(world, f"{side} write in {APPEND} #2")
    assert ended.code == 1
    assert "cannot append to state/crash.journal.jsonl: No space left on device" in ended.out
    assert journal(world).count(b"\n") == 1  # the header
    assert journal(world).endswith(b"\n")
    assert world.lock() is None


def test_half_of_what_a_buffer_holds_is_written_where_that_is_torn(world: InMemory) -> None:
    ended = refused(world, "torn write in backends/worlds.py:transaction #1")
    assert "retrying: cannot write" in ended.out
    assert ended.code == 0


def test_a_disk_that_stays_full_takes_no_byte_any_more_and_gives_what_was_there(world: InMemory) -> None:
    refused(world, f"onwards write in {APPEND} #2")
    assert journal(world).count(b"\n") == 1
    assert world.lock() is not None  # that it was given back could not be noted
    assert mend(world, CREATE) == []


def test_a_broken_disk_refuses_to_sync(world: InMemory) -> None:
    ended = refused(world, f"once fsync in {APPEND} #1")
    assert "cannot write state/crash.journal.jsonl: Input/output error" in ended.out
    assert "check the disk" in ended.out


@pytest.mark.parametrize(
    ("code", "out", "told"),
    [
        pytest.param(0, "Apply complete", True, id="it came to its end"),
        pytest.param(1, "cannot write a/b: No space left on device\nfree some space", True, id="all is told"),
        pytest.param(1, "cannot write a/b: No space left on device", False, id="no next step"),
        pytest.param(1, "No space left on device\nfree some space", False, id="no file"),
        pytest.param(70, "cannot write a/b: No space left on device\nfree some space", False, id="a code of none"),
        pytest.param(0, "Traceback (most recent call last)", False, id="a traceback"),
        pytest.param(1, "internal error: OSError: No space left on device", False, id="as a bug"),
    ],
)  # fmt: skip
def test_what_a_run_did_not_say_is_told(code: int, out: str, told: bool) -> None:
    assert (untold(CREATE, Ended(code=code, out=out)) == []) is told
