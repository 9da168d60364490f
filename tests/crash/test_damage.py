"""What is not a kill: full disks, torn and foreign files, jumping clocks. Each is told, and nothing is lost by it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import StateCorrupt
from reconciler.model.plan import Action, Reason
from tests.crash.checks import Before, mend, wrong
from tests.crash.operations import BY_NAME, Operation, prepare
from tests.crash.runs import Runs, runs
from tests.crash.worlds import STACK, InMemory, World
from tests.fuzz.backends import Clock
from tests.fuzz.scenario import Apply, Config, Declare, Group, Scenario
from tests.fuzz.world import World as Simulated
from tests.support.required import skip_unless

CREATE = BY_NAME["create more"]
APPLY = CREATE.argv
PAGE = os.sysconf("SC_PAGESIZE")
ROOM = 96  # pages of a small disk


@pytest.fixture(scope="module")
def run() -> Iterator[Runs]:
    with runs() as made:
        yield made


@pytest.fixture
def world(run: Runs, tmp_path: Path) -> InMemory:
    return InMemory(tmp_path, run)


def state_file(world: World) -> Path:
    return world.folder / "state" / f"{STACK}.json"


def refused(world: World, operation: Operation, *words: str) -> None:
    """The apply ends with an error that says all that, and every sandbox is as it was."""
    before = world.live()
    ended = world.run(*operation.argv)
    assert ended.code == 1, ended.out
    assert "Traceback" not in ended.out
    told = " ".join(ended.out.split())
    for word in words:
        assert word in told, ended.out
    assert world.live() == before


# -- disks


@contextmanager
def small_disk(directory: Path, *more: str) -> Iterator[None]:
    """What is in the directory, on a disk of its own, with `more` options of a mount. Skips where nobody may mount; in CI that fails."""
    aside = directory.with_name("aside")
    shutil.copytree(directory, aside)
    options = ",".join((f"size={ROOM * PAGE}", "mode=0700", *more))
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)], capture_output=True, text=True
    )
    skip_unless(
        done.returncode == 0, f"a small disk takes a mount, which is refused here: {done.stderr.strip()}"
    )
    try:
        shutil.copytree(aside, directory, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)
        shutil.rmtree(aside)


def fill(directory: Path, *, but: int) -> Path:
    """Leave `but` pages; returns the file that takes all others."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            file.truncate(max(0, file.tell() // PAGE - but) * PAGE)
    return filler


@pytest.mark.slow
def test_a_disk_that_is_full_at_any_write_of_an_apply_is_told_and_nothing_is_lost(world: InMemory) -> None:
    """A page more each time, until there is room for all of it: every write that needs one is refused once."""
    prepare(world, CREATE)
    world.save()
    before = Before.of(world)
    failed = 0
    for room in range(40):
        world.restore()
        with small_disk(world.folder / "state"):
            filler = fill(world.folder / "state", but=room)
            ended = world.run(*APPLY)
            filler.unlink()
            if ended.code != 0:
                failed += 1
                assert ended.code in (1, 5), ended.out
                assert "No space left on device" in ended.out
                assert "free some space" in ended.out
                assert "Traceback" not in ended.out
            assert mend(world, CREATE) == [], f"with room for {room} pages"
            assert wrong(world, CREATE, before) == [], f"with room for {room} pages"
        if ended.code == 0:
            break
    assert ended.code == 0, "an apply needs less room than that"
    assert failed >= 3


def test_a_full_disk_leaves_a_configuration_as_it_was(world: InMemory) -> None:
    prepare(world, CREATE)
    config = world.folder / "state" / "reconciler.yaml"
    with small_disk(world.folder / "state"):
        config.write_text("stack:   demo\nversion: 1\nsandboxes: {a: {}}\n")
        fill(world.folder / "state", but=0)
        before = config.read_bytes()
        ended = world.run("-f", str(config), "fmt")
        assert ended.code == 1
        assert f"cannot rewrite {config}: No space left on device" in " ".join(ended.out.split())
        assert config.read_bytes() == before
        assert [path.name for path in config.parent.glob(".*.fmt")] == []


def test_a_read_only_disk_is_told_before_anything_is_made(world: InMemory) -> None:
    prepare(world, CREATE)
    with small_disk(world.folder / "state"):
        remount = ["mount", "-o", "remount,ro", str(world.folder / "state")]
        assert subprocess.run(remount).returncode == 0
        assert world.run("plan", "--detailed-exitcode").code == 2  # looking needs nothing
        refused(world, CREATE, "Read-only file system", "choose another `state: {path: …}`")


# -- files


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def newer(data: bytes) -> bytes:
    return data.replace(b'"format": "1.0"', b'"format": "9.0"')


def of_another_lineage(data: bytes) -> bytes:
    return json.dumps({**json.loads(data), "lineage": "0" * 32}).encode()


def empty(_: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(cut, ["crash.json", "look at state/crash.json.backup"], id="torn in the middle"),
        pytest.param(empty, ["crash.json", "look at state/crash.json.backup"], id="empty"),
        pytest.param(newer, ["crash.json", "9.0", "update reconciler"], id="of a newer version"),
    ],
)
def test_a_state_that_cannot_be_read_is_told_with_what_to_do_and_nothing_happens(
    world: InMemory, change: Callable[[bytes], bytes], words: list[str]
) -> None:
    prepare(world, CREATE)
    before = Before.of(world)
    path = state_file(world)
    whole = path.read_bytes()
    path.write_bytes(change(whole))
    assert path.read_bytes() != whole
    refused(world, CREATE, *words)
    path.write_bytes(whole)
    assert mend(world, CREATE) == []
    assert wrong(world, CREATE, before) == []


def test_a_state_cut_at_any_byte_is_damage_and_never_another_state(world: InMemory) -> None:
    prepare(world, CREATE)
    path = state_file(world)
    whole, state = path.read_bytes(), world.state()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        if whole[size:].strip():
            with pytest.raises(StateCorrupt):
                world.store.read()
        else:
            assert world.store.read() == state


def test_a_state_that_alone_is_gone_is_no_reason_to_make_everything_again(world: InMemory) -> None:
    prepare(world, CREATE)
    state_file(world).unlink()
    refused(world, CREATE, "state/crash.json is missing, but", "restore state/crash.json")


def test_a_state_of_another_lineage_makes_no_sandbox_of_this_one_its_own(world: InMemory) -> None:
    """As when the state of another checkout is copied here: its sandboxes are others', and stay as they are."""
    prepare(world, CREATE)
    path = state_file(world)
    path.write_bytes(of_another_lineage(path.read_bytes()))
    before = world.live()
    ended = world.run(*APPLY)
    assert ended.code == 7, ended.out
    told = " ".join(ended.out.split())
    assert "which belongs to stack 'crash', lineage" in told
    assert "bring back its state, or give this stack another name" in told
    after = world.live()
    assert {name: after.get(name) for name in before} == before


def test_of_two_checkouts_of_one_stack_the_second_touches_nothing_of_the_first(world: InMemory) -> None:
    prepare(world, CREATE)
    before = world.live()
    second = world.folder / "second"
    second.mkdir()
    shutil.copy(world.folder / "sandboxes.yaml", second)
    text = json.loads((second / "sandboxes.yaml").read_text())
    text["sandboxes"]["w"]["environment"] = {"V": "2"}
    (second / "sandboxes.yaml").write_text(json.dumps(text))
    ended = world.run("-C", "second", *APPLY)
    assert ended.code == 7, ended.out
    assert "there is no state for stack 'crash' here" in ended.out
    assert "give this stack a name of its own" in " ".join(ended.out.split())
    assert world.live() == before


# -- clocks


class Leaping(Clock):
    """The calendar's time can be set; what is waited by is another."""

    leap = 0.0

    def now(self) -> float:
        return self.time + self.leap


class Aging(Simulated):
    def leap(self, seconds: float) -> None:
        assert isinstance(self.clock, Leaping)
        self.clock.leap += seconds


@pytest.fixture
def aging() -> Iterator[Aging]:
    """One sandbox that may live for 10,000 s, made just now."""
    made = Aging(Scenario(store="file"), clock=Leaping())
    made.do(Declare(config=Config(groups=(Group(name="a", lifetime=10_000.0),))))
    assert made.do(Apply()).complete
    yield made
    made.close()


@pytest.mark.parametrize("jump", [-1e9, -86_400.0, -1.0, 9_000.0])
def test_a_clock_that_jumps_replaces_nothing_before_its_time(aging: Aging, jump: float) -> None:
    before = aging.live()
    aging.leap(jump)
    assert aging.plan().empty
    assert aging.do(Apply()).complete
    assert {key: seen.info for key, seen in aging.live().items()} == {
        key: seen.info for key, seen in before.items()
    }


def test_a_clock_that_jumps_past_a_lifetime_replaces_and_never_only_destroys(aging: Aging) -> None:
    aging.leap(1e6)
    [step] = aging.plan().steps
    assert (step.action, step.reason) == (Action.REPLACE, Reason.EXPIRED)
    assert aging.do(Apply()).complete
    assert len(aging.live()) == 1
    aging.leap(-1e6)
    assert aging.plan().empty  # what was made in the future is not old


def test_a_run_whose_clock_jumps_on_the_way_goes_on(aging: Aging) -> None:
    """Waiting is counted on another clock than the calendar's, on which a lease and an age are."""
    aging.do(Declare(config=Config(groups=(Group(name="a", lifetime=10_000.0), Group(name="b", replicas=2)))))
    jumps: Any = iter([86_400.0, -172_800.0, 86_400.0] * 50)

    def hear() -> None:
        aging.leap(next(jumps))

    for backend in aging.backends.values():
        backend.heard = hear
    report = aging.do(Apply()).report
    assert report is not None
    assert [result.status for result in report.results] == ["done"] * 2
