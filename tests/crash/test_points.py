"""That a point is where it says, and that what is found there would be told if it were wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.crash.checks import Before, mend, wrong
from tests.crash.matrix import Cell, Row, Some, living, table
from tests.crash.operations import BY_NAME, prepare
from tests.crash.points import Fault, Point
from tests.crash.runs import Runs, runs
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


def test_a_point_is_read_as_it_is_written() -> None:
    for side, fault in (("before", Fault.KILL), ("torn", Fault.DISK)):
        point = Point(side, "verb:create", "backends/memory.py:create", 2)
        assert Point.parse(str(point)) == point
        assert point.fault is fault
    with pytest.raises(ValueError, match="is no point"):
        Point.parse("before the end")


def test_every_kind_of_effect_is_met_on_both_sides(world: InMemory) -> None:
    met = {(point.side, point.effect) for point in Cell(world=world, operation=CREATE).points()}
    for effect in (
        "write",
        "fsync",
        "rename",
        "unlink",
        "flock",
        "unlock",
        "verb:create",
        "stream.write",
    ):
        for side in ("before", "after"):
            assert (side, effect) in met, f"{side} {effect}"


def journal(world: InMemory) -> int:
    [path] = (world.folder / "state").glob("*.journal.jsonl")
    return path.read_bytes().count(b"\n")


def test_a_run_is_killed_between_the_write_and_its_sync(world: InMemory) -> None:
    """The first write there is the header's; with the second the first intents are there, and nothing was created."""
    ids = {}
    for side in ("before", "after"):
        world.clear()
        prepare(world, CREATE)
        there = len(world.live())
        ended = world.run("apply", "--auto-approve", point=Point(side, "write", APPEND, 2))
        assert ended.killed
        assert len(world.live()) == there
        ids[side] = journal(world)
    assert ids["after"] > ids["before"] == 1


def test_a_run_is_killed_after_the_verb_and_before_it_is_noted(world: InMemory) -> None:
    prepare(world, CREATE)
    before = len(world.live())
    assert world.run(
        "apply", "--auto-approve", point=Point("after", "verb:create", "backends/memory.py:create", 1)
    ).killed
    assert len(world.live()) == before + 1
    assert '"outcome"' not in next((world.folder / "state").glob("*.journal.jsonl")).read_text()


def test_a_cut_is_the_same_for_the_same_seed_and_has_all_effects(world: InMemory) -> None:
    points = Cell(world=world, operation=CREATE).points()
    chosen = [Some(seed, "x")(points) for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]
    for some in chosen:
        assert {(p.side, p.effect) for p in some} == {(p.side, p.effect) for p in points}


class TestWhatIsWrongIsTold:
    """Each of the promises, broken by hand."""

    @pytest.fixture
    def mended(self, world: InMemory) -> tuple[InMemory, Before]:
        prepare(world, CREATE)
        before = Before.of(world)
        assert mend(world, CREATE) == wrong(world, CREATE, before) == []
        return world, before

    def test_an_orphan(self, mended: tuple[InMemory, Before]) -> None:
        world, before = mended
        seen = world.live()[world.recorded("w[0]")]
        assert seen.owner is not None
        world.stranger("orphan", replace(seen.owner, generation=7))
        assert any("orphan is an orphan" in text for text in wrong(world, CREATE, before))

    def test_one_that_is_missing(self, mended: tuple[InMemory, Before]) -> None:
        world, before = mended
        world.backend.destroy(world.live()[world.recorded("w[2]")].info)
        found = "\n".join(wrong(world, CREATE, before))
        assert "w[2] is there 0 times" in found
        assert "the next plan is not empty" in found

    def test_one_that_was_replaced_though_it_should_stay(self, mended: tuple[InMemory, Before]) -> None:
        world, before = mended
        assert world.run("apply", "--auto-approve", "--replace", "w[0]").code == 0
        assert any(text.startswith("w[0] was") for text in wrong(world, CREATE, before))

    def test_a_stranger_that_is_gone(self, mended: tuple[InMemory, Before]) -> None:
        world, before = mended
        world.backend.destroy(world.live()["of-nobody"].info)
        assert any(text.startswith("of-nobody was") for text in wrong(world, CREATE, before))

    def test_one_that_was_let_go_and_is_gone(self, mended: tuple[InMemory, Before]) -> None:
        world, before = mended
        [name] = before.released
        world.backend.destroy(world.live()[name].info)
        assert any(text.startswith(f"{name} was") for text in wrong(world, CREATE, before))

    def test_a_lock_that_is_held_and_a_file_that_is_left(self, mended: tuple[InMemory, Before]) -> None:
        world, before = mended
        (world.folder / "state" / ".crash.tmp-0123abcd").write_text("half")
        with world.store.lock("apply"):
            (world.folder / "state" / ".crash.tmp-0123abcd").write_text("half")
            found = "\n".join(wrong(world, CREATE, before))
        assert "holds the lock" in found
        assert "is left over" in found


def test_a_failure_names_the_command_that_shows_it_again(world: InMemory) -> None:
    from tests.crash.matrix import Failure

    point = Point("after", "fsync", APPEND, 3)
    failure = Failure(backend="memory", operation="create more", point=point, wrong=("db is there 2 times",))
    assert f"--backend memory --operation 'create more' --point '{point}'" in str(failure)
    row = Row(
        operation="create more", backend="memory", fault=Fault.KILL, points=9, runs=4, failures=[failure]
    )
    assert table([row]).splitlines()[-1].split() == ["all", "9", "0", "4", "0", "1"]
