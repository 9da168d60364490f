"""The new one first, on a real backend in memory: never without one that answers, wherever the run is cut off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from reconciler.core.references import mark
from reconciler.engine.explain import why
from reconciler.engine.inspect import status
from reconciler.engine.survey import validate
from reconciler.errors import ConfigError, Permanent, StoreError
from reconciler.model.capabilities import Capabilities, Support
from reconciler.model.desired import Address, DesiredSandbox, Port, Readiness
from reconciler.model.observed import Phase
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Action, Reason
from tests.support.build import desired, wanted
from tests.support.running import Stack

READY_AFTER = 0.03  # seconds


def sandbox(image: str, timeout: float = 2.0) -> DesiredSandbox:
    """Two good answers are asked for, so that there is always a second probe, however slow this machine is."""
    readiness = Readiness(timeout=timeout, successes=2, interval=0.01)
    return wanted("a", image=image, create_first=True, readiness=readiness)


def serving() -> Stack:
    """One sandbox that answers, and a configuration that wants another image."""
    stack = Stack(desired(sandbox("one")))
    stack.apply()
    stack.clear()
    stack.memory._ready_seconds = READY_AFTER
    stack.desired = desired(sandbox("two"))
    return stack


def images(stack: Stack) -> list[object]:
    return [(seen.attributes or {})["image"] for seen in stack.memory.observe()]


def answers(stack: Stack) -> bool:
    return any(seen.phase is Phase.READY for seen in stack.memory.observe())


def converges_to(stack: Stack, image: str) -> None:
    for _ in range(3):
        if stack.apply().plan.empty:
            break
    assert stack.plan().empty
    assert images(stack) == [image]
    state = stack.store.read()
    assert state is not None
    [record] = state.sandboxes.values()
    assert (record.status, [record.sandbox_id]) == ("ready", stack.ids())


def test_there_is_always_one_that_answers() -> None:
    stack = serving()
    gaps: list[str] = []
    stack.backend.fault = lambda verb, n: gaps.append(verb) if not answers(stack) else None  # type: ignore[func-returns-value]
    [step] = stack.apply().plan.steps
    assert (step.action, step.create_first) == (Action.REPLACE, True)
    verbs = [verb for verb in stack.backend.calls if verb in ("look", "create", "destroy")]
    assert verbs == ["look", "create", "look", "destroy"]
    assert gaps == []
    converges_to(stack, "two")


POINTS = (
    ("observe", 1),
    ("look", 1),
    ("create", 1),
    ("probe", 1),
    ("probe", 2),
    ("look", 2),
    ("destroy", 1),
)


def cut_off(stack: Stack, verb: str, nth: int, *, after: bool) -> Callable[[], None]:
    """From this call on nothing happens and nothing is written any more, as if the process had been killed there.
    Returns what brings it back, and fails when there was ever none that answered."""
    dead, gaps = False, []

    def fault(called: str, n: int) -> Exception | tuple[Exception, bool] | None:
        nonlocal dead
        if not answers(stack):
            gaps.append(called)
        if dead:
            return Permanent("killed")
        dead = (called, n) == (verb, nth)
        return (Permanent("killed"), after) if dead else None

    append, write = stack.store.append, stack.store.write

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            if dead:
                raise StoreError("killed")
            return real(*args)

        return call

    stack.backend.fault = fault
    stack.store.append = failing(append)  # type: ignore[method-assign,assignment]
    stack.store.write = failing(write)  # type: ignore[method-assign,assignment]

    def revive() -> None:
        assert dead, f"{verb} was not called {nth} times"
        assert gaps == []
        stack.backend.fault = lambda called, n: None
        stack.store.append, stack.store.write = append, write  # type: ignore[method-assign]

    return revive


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"call {point[1]} of {point[0]}")
@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
@pytest.mark.parametrize("then", ["two", "one", "three"], ids=lambda image: f"then {image} is wanted")
def test_killed_anywhere_it_ends_with_exactly_one(point: tuple[str, int], after: bool, then: str) -> None:
    stack = serving()
    revive = cut_off(stack, *point, after=after)
    with contextlib.suppress(Exception):
        stack.apply()
    revive()
    assert answers(stack)
    assert len(stack.ids()) <= 2
    stack.desired = desired(sandbox(then))
    converges_to(stack, then)


@pytest.mark.parametrize("point", POINTS[1:], ids=lambda point: f"call {point[1]} of {point[0]}")
@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
def test_whichever_call_fails_one_answers_and_the_next_run_converges(
    point: tuple[str, int], after: bool
) -> None:
    stack = serving()
    gaps: list[str] = []

    def fault(verb: str, n: int) -> tuple[Exception, bool] | None:
        if not answers(stack):
            gaps.append(verb)
        return (Permanent("broken"), after) if (verb, n) == point else None

    stack.backend.fault = fault
    stack.apply()
    stack.backend.fault = lambda verb, n: None
    assert gaps == []
    assert answers(stack)
    converges_to(stack, "two")


@pytest.mark.parametrize("nth", range(1, 8))
def test_a_journal_that_cannot_be_written_any_more_leaves_one_that_answers(nth: int) -> None:
    stack = serving()
    append, count = stack.store.append, 0

    def failing(lease: object, entries: object) -> None:
        nonlocal count
        count += 1
        if count >= nth:
            raise StoreError("disk full")
        append(lease, entries)  # type: ignore[arg-type]

    stack.store.append = failing  # type: ignore[method-assign]
    with contextlib.suppress(StoreError):
        stack.apply()
    stack.store.append = append  # type: ignore[method-assign]
    assert answers(stack)
    converges_to(stack, "two")


class TestANewOneThatNeverAnswers:
    def stack(self) -> Stack:
        stack = serving()
        stack.memory._ready_seconds = 1e9
        stack.desired = desired(sandbox("two", timeout=0.1))
        return stack

    def test_the_old_one_goes_on(self) -> None:
        stack = self.stack()
        before = stack.ids()
        [result] = stack.apply().results
        assert result.status is StepStatus.FAILED
        assert f"the old one ({before[0]}) was left running" in result.error
        assert answers(stack)
        assert sorted(map(str, images(stack))) == ["one", "two"]

    def test_the_next_run_repairs_the_new_one_before_the_old_one_goes(self) -> None:
        stack = self.stack()
        old = stack.ids()[0]
        stack.apply()
        stack.memory._ready_seconds = READY_AFTER
        gaps: list[str] = []
        stack.backend.fault = lambda verb, n: gaps.append(verb) if not answers(stack) else None  # type: ignore[func-returns-value]
        repair, destroy = stack.apply().plan.steps
        assert (repair.action, repair.reason) == (Action.REPAIR, Reason.TAINTED)
        assert (destroy.sandbox_id, destroy.needs) == (old, ("a",))
        assert gaps == []
        converges_to(stack, "two")

    def test_status_and_why_speak_of_the_new_one(self) -> None:
        stack = self.stack()
        old = stack.ids()[0]
        stack.apply()
        [row] = status(stack.context())
        assert (row.sandbox_id != old, row.ready) == (True, False)
        told = why(stack.context(), "a")
        assert (told.action, told.reason) == ("repair", "tainted")


def test_an_old_one_that_cannot_be_destroyed_goes_in_the_next_run() -> None:
    stack = serving()
    stack.backend.fault = lambda verb, n: Permanent("device busy") if verb == "destroy" else None
    [result] = stack.apply().results
    assert result.status is StepStatus.FAILED
    assert result.error.startswith("the new one is ready, but the old one (")
    stack.backend.fault = lambda verb, n: None
    [step] = stack.apply().plan.steps
    assert (step.action, step.reason) == (Action.DESTROY, Reason.SUPERSEDED)
    converges_to(stack, "two")


def test_what_refers_to_it_is_made_with_the_new_ones_address() -> None:
    app = wanted("app", environment={"A": mark(Address("a"), "url")}, references=["a"])
    stack = Stack(desired(sandbox("one"), app))
    stack.apply()
    stack.memory._ready_seconds = READY_AFTER
    stack.desired = desired(sandbox("two"), app)
    assert [str(result.status) for result in stack.apply().results] == ["done", "done"]
    live = {seen.owner.address: seen for seen in stack.memory.observe() if seen.owner}
    attributes = live[Address("app")].attributes
    assert attributes is not None
    assert attributes["environment.A"] == live[Address("a")].info.sandbox_url
    assert stack.plan().empty


class TestRefused:
    def test_a_fixed_port_before_any_call(self) -> None:
        stack = Stack(
            desired(
                wanted("a", create_first=True, ports=(Port(name="http", container=8080, host=9000),)),
            )
        )
        assert [d.code for d in validate(stack.context())] == ["unsupported"]
        with pytest.raises(ConfigError) as caught:
            stack.plan()
        assert any("port 9000" in getattr(d, "summary", "") for d in caught.value.diagnostics)
        assert stack.backend.calls == []

    def test_a_backend_that_cannot_label(self) -> None:
        stack = Stack(desired(sandbox("one")))
        stack.memory.capabilities = Capabilities(default=Support.ENFORCED, owns=False)  # type: ignore[misc]
        assert [d.code for d in validate(stack.context())] == ["unsupported"]
        with pytest.raises(ConfigError):
            stack.apply()
        assert stack.backend.calls == []
