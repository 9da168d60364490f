"""CPU and memory of a fleet: two samples of each, side by side, and never in anybody's way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from reconciler.backends.base import SandboxBackend
from reconciler.backends.memory import MemoryBackend
from reconciler.engine.inspect import status
from reconciler.engine.usage import PATIENCE, Meter, Taken
from reconciler.errors import NotFound
from reconciler.model.desired import Address
from reconciler.model.observed import ObservedSandbox, Phase, SandboxInfo, Usage
from tests.support.build import desired, wanted
from tests.support.running import Stack


class Clock:
    """Moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds


class Measured(MemoryBackend):
    """Gives what `answer` says, by sandbox and how often that one was asked before."""

    def __init__(self, answer: Callable[[str, int], Usage | None], **more: Any) -> None:
        super().__init__(**more)
        self.answer = answer
        self.asked: list[str] = []

    def usage(self, info: SandboxInfo) -> Usage | None:
        count = self.asked.count(info.sandbox_id)
        self.asked.append(info.sandbox_id)
        return self.answer(info.sandbox_id, count)


def live(*names: str, phase: Phase = Phase.STARTING) -> dict[Address, ObservedSandbox]:
    return {
        Address(name): ObservedSandbox(
            info=SandboxInfo(sandbox_id=name, sandbox_url="", container_id=f"c-{name}"),
            backend="main",
            phase=phase,
        )
        for name in names
    }


def once(backend: SandboxBackend, *names: str) -> dict[str, Taken]:
    clock = Clock()
    meter = Meter(clock.monotonic, clock.sleep)
    return dict(meter.start(live(*names), lambda _: backend).finish())


def test_the_rate_is_what_was_computed_between_two_samples() -> None:
    backend = Measured(lambda _, n: Usage(cpu_seconds=5 + 0.03 * n, memory=1000 + n, at=7 + 0.25 * n))
    assert once(backend, "a") == {"a": Taken(cpu=pytest.approx(0.12), memory=1001)}
    assert backend.asked == ["a", "a"]


def test_a_rate_that_the_backend_knows_is_taken_as_it_is_and_asked_for_once() -> None:
    backend = Measured(lambda _, n: Usage(cpu_seconds=0.0, memory=1000, at=7.0, cores=0.5))
    assert once(backend, "a") == {"a": Taken(cpu=0.5, memory=1000)}
    assert backend.asked == ["a"]


CURIOUS: dict[str, tuple[Callable[[str, int], Usage | None], Taken]] = {
    "one that cannot tell is a blank": (lambda _, n: None, Taken()),
    "one that was started anew has memory only": (
        lambda _, n: Usage(cpu_seconds=9.0 - 8 * n, memory=7, at=n),
        Taken(memory=7),
    ),
    "one whose time stands still has memory only": (
        lambda _, n: Usage(cpu_seconds=n, memory=7, at=1.0),
        Taken(memory=7),
    ),
    "one that cannot tell the second time has memory only": (
        lambda _, n: Usage(cpu_seconds=1.0, memory=7, at=1.0) if n == 0 else None,
        Taken(memory=7),
    ),
}


@pytest.mark.parametrize("name", CURIOUS)
def test_what_cannot_be_is_not_shown(name: str) -> None:
    answer, expected = CURIOUS[name]
    assert once(Measured(answer), "a") == {"a": expected}


def test_a_failure_leaves_its_own_row_blank() -> None:
    def answer(sandbox_id: str, n: int) -> Usage:
        if sandbox_id == "gone":
            raise NotFound("it is gone")
        return Usage(cpu_seconds=n, memory=1, at=n)

    assert once(Measured(answer), "a", "gone") == {"a": Taken(cpu=1.0, memory=1), "gone": Taken()}


def test_only_what_lives_on_a_backend_that_can_tell_is_asked() -> None:
    backend = Measured(lambda _, n: Usage(cpu_seconds=n, memory=1, at=n))
    assert Meter().start(live("a", phase=Phase.FAILED), lambda _: backend).finish() == {}
    assert backend.asked == []
    assert once(MemoryBackend("usage"), "a") == {}


def test_a_backend_that_hangs_costs_no_more_than_the_patience_and_the_others_are_measured() -> None:
    hangs = threading.Event()

    def answer(sandbox_id: str, n: int) -> Usage:
        if sandbox_id.startswith("hung"):
            hangs.wait(30)
        return Usage(cpu_seconds=n, memory=1, at=n)

    stuck, well = Measured(answer), Measured(answer)
    there = {**live(*(f"hung{n}" for n in range(50))), **live("a")}
    started = time.monotonic()
    clock = Clock()
    there[Address("a")] = ObservedSandbox(info=there[Address("a")].info, backend="other")
    found = (
        Meter(clock.monotonic, clock.sleep)
        .start(there, lambda name: well if name == "other" else stuck)
        .finish()
    )
    assert time.monotonic() - started < PATIENCE + 1.0  # the margin is for a busy machine
    assert found[Address("a")] == Taken(cpu=1.0, memory=1)
    assert found[Address("hung0")] == Taken()
    hangs.set()


class TestAgainAndAgain:
    def test_the_second_time_takes_one_sample_and_waits_for_nothing(self) -> None:
        backend = Measured(lambda _, n: Usage(cpu_seconds=n * n, memory=n, at=n))
        clock = Clock()
        meter = Meter(clock.monotonic, clock.sleep)
        meter.start(live("a"), lambda _: backend).finish()
        clock.now += 1.0
        before = clock.now
        assert meter.start(live("a"), lambda _: backend).finish() == {"a": Taken(cpu=3.0, memory=2)}
        assert backend.asked == ["a"] * 3
        assert clock.now == before

    def test_another_object_of_that_name_is_measured_from_its_beginning(self) -> None:
        backend = Measured(lambda _, n: Usage(cpu_seconds=n, memory=n, at=n))
        clock = Clock()
        meter = Meter(clock.monotonic, clock.sleep)
        meter.start(live("a"), lambda _: backend).finish()
        clock.now += 1.0
        replaced = live("a")
        replaced[Address("a")].info.container_id = "c-new"
        meter.start(replaced, lambda _: backend).finish()
        assert len(backend.asked) == 4

    def test_what_comes_too_late_counts_the_next_time_and_nobody_is_asked_twice_at_once(self) -> None:
        answered = threading.Event()

        def answer(_: str, n: int) -> Usage:
            if n == 2:
                answered.wait(30)
            return Usage(cpu_seconds=n * n, memory=n, at=n)

        backend = Measured(answer)
        clock = Clock()
        meter = Meter(clock.monotonic, clock.sleep)
        assert meter.start(live("a"), lambda _: backend).finish() == {"a": Taken(cpu=1.0, memory=1)}
        clock.now += 1.0
        for _ in range(2):  # the third sample hangs: what was known stands, and no fourth is asked for
            assert meter.start(live("a"), lambda _: backend).finish() == {"a": Taken(cpu=1.0, memory=1)}
        assert len(backend.asked) == 3
        hanging = meter.start(live("a"), lambda _: backend)
        answered.set()
        assert hanging.finish() == {"a": Taken(cpu=3.0, memory=2)}


def test_the_status_of_a_fleet_has_what_each_takes() -> None:
    stack = Stack(desired(wanted("a"), wanted("b")))
    stack.apply()
    alive, dead = (record.sandbox_id for record in stack.store.read().sandboxes.values())  # type: ignore[union-attr]
    stack.memory.kill(dead)
    backend = Measured(lambda _, n: Usage(cpu_seconds=0.5 * n, memory=2048, at=float(n)))
    backend._world = stack.memory._world
    stack.backend = backend  # type: ignore[assignment]
    stack.memory.notes = lambda: ()  # type: ignore[method-assign]
    first, second = status(stack.context())
    assert (first.address, first.cpu, first.memory) == ("a", 0.5, 2048)
    assert (second.address, second.phase, second.cpu, second.memory) == ("b", Phase.FAILED, None, None)
    assert set(backend.asked) == {alive}
