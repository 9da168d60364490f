"""What a backend tells from inside a verb, and how it comes out as events of its step."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from reconciler.backends.adapter import SeedAdapter
from reconciler.backends.base import SandboxBackend
from reconciler.engine.progress import ROUND, ProgressNotes
from reconciler.model.desired import ProbeKind, Readiness, Secret, SecretRef
from reconciler.model.event import Activity, StepEnded, StepProgress
from reconciler.model.outcome import StepStatus
from reconciler.model.plan import Plan
from tests.support.build import desired, wanted
from tests.support.running import Stack


def stack_of(*addresses: str) -> Stack:
    return Stack(desired(*(wanted(address) for address in addresses)))


def told(stack: Stack) -> list[tuple[str, str]]:
    return [(e.address, e.note) for e in stack.events if isinstance(e, StepProgress) and e.note]


class Rounds:
    """Notes of a plan in virtual time; `wakes` counts how often the coordinator was woken."""

    def __init__(self, plan: Plan) -> None:
        self.wakes = 0
        self.notes = ProgressNotes(plan, self._wake)
        self.tell: Callable[[str, str], None] = lambda sandbox_id, note: None
        self.notes.listen({"main": self})  # type: ignore[dict-item]

    def _wake(self) -> None:
        self.wakes += 1

    def tell_progress(self, tell: Callable[[str, str], None]) -> None:
        self.tell = tell


class TestRounds:
    def made(self, *addresses: str) -> tuple[Rounds, list[str]]:
        plan = stack_of(*addresses).plan()
        return Rounds(plan), [step.sandbox_id for step in plan.steps]

    def test_the_newest_of_many_is_given_out_and_the_coordinator_woken_once(self) -> None:
        rounds, [a] = self.made("a")
        for done in range(1000):
            rounds.tell(a, f"{done} of 1000 MB")
        assert rounds.wakes == 1
        assert rounds.notes.due(5.0) == [("a", "999 of 1000 MB")]
        assert rounds.notes.due(5.0) == []

    def test_a_step_is_told_of_four_times_a_second_at_most_and_the_last_is_not_lost(self) -> None:
        rounds, [a] = self.made("a")
        given = []
        for tick in range(1000):  # one second
            rounds.tell(a, f"{tick}")
            given += rounds.notes.due(tick / 1000)
        assert len(given) == 4
        assert rounds.notes.wake_at(0.999) == pytest.approx(1.0)
        assert rounds.notes.due(1.0) == [("a", "999")]
        assert rounds.notes.wake_at(1.0) is None

    def test_each_of_several_that_wait_for_the_same_hears_it(self) -> None:
        rounds, ids = self.made("a", "b", "c")
        for sandbox_id in ids:
            rounds.tell(sandbox_id, "pulling app:1")
        assert sorted(rounds.notes.due(1.0)) == [(name, "pulling app:1") for name in "abc"]

    def test_sandboxes_that_are_no_business_of_the_run_are_ignored(self) -> None:
        rounds, _ = self.made("a")
        rounds.tell("somebody-else", "pulling")
        assert (rounds.wakes, rounds.notes.due(1.0)) == (0, [])

    def test_after_the_run_nothing_is_heard(self) -> None:
        rounds, [a] = self.made("a")
        still_running = rounds.tell
        rounds.notes.close({"main": rounds})  # type: ignore[dict-item]
        assert rounds.tell is not still_running
        still_running(a, "late")
        rounds.tell(a, "late")
        assert (rounds.wakes, rounds.notes.due(9.0)) == (0, [])


class TestApply:
    def test_notes_of_a_create_are_events_of_its_step_before_its_end(self) -> None:
        stack = stack_of("a", "b")
        stack.memory._create_seconds, stack.memory._progress = (
            2.5 * ROUND,
            ("pulling 1 of 2", "pulling 2 of 2"),
        )
        stack.apply()
        for address in "ab":
            mine = [e for e in stack.events if getattr(e, "key", "") == address]
            seen = [e.note for e in mine if isinstance(e, StepProgress) and e.activity is Activity.CREATING]
            assert seen == ["", "pulling 1 of 2", "pulling 2 of 2"]
            assert isinstance(mine[-1], StepEnded)
        assert all(thread is threading.main_thread() for thread in stack.emitted_on)

    def test_a_secret_in_a_note_does_not_get_out(self) -> None:
        ref = SecretRef(
            source="env T", kind="env", target=("T",), digest="d", value=Secret("hunter2-hunter2")
        )
        stack = Stack(desired(wanted("a", secrets={"T": ref})))
        stack.memory._create_seconds, stack.memory._progress = ROUND, ("logging in with hunter2-hunter2",)
        stack.apply()
        assert told(stack) == [("a", "logging in with •••")]

    def test_a_backend_that_cannot_even_be_asked_to_tell_does_not_end_the_run(self) -> None:
        stack = stack_of("a")

        def broken(tell: object) -> None:
            raise TypeError("takes no arguments")

        stack.memory.tell_progress = broken  # type: ignore[method-assign, assignment]
        assert [result.status for result in stack.apply().results] == [StepStatus.DONE]

    def test_a_backend_of_the_five_verbs_alone_is_applied_in_silence(self) -> None:
        stack = Stack(desired(wanted("a", readiness=Readiness(kind=ProbeKind.NONE))))
        seed: SandboxBackend = SeedAdapter(FiveVerbs(stack.memory))
        stack.backend = seed  # type: ignore[assignment]
        assert [result.status for result in stack.apply().results] == [StepStatus.DONE]
        assert told(stack) == []


class FiveVerbs:
    """As somebody wrote it before there was anything else."""

    def __init__(self, backend: SandboxBackend) -> None:
        self._backend = backend

    def create(self, thread_id: str | None, sandbox_id: str, extra_mounts: object = None) -> object:
        return self._backend.create(thread_id, sandbox_id)

    def __getattr__(self, name: str) -> object:
        if name not in ("destroy", "is_alive", "discover", "list_running"):
            raise AttributeError(name)
        return getattr(self._backend, name)


class TestExitAtOnce:
    def died(self, readiness: Readiness) -> tuple[Stack, float]:
        """It is killed between its creation and the first look."""
        stack = Stack(desired(wanted("a", readiness=readiness)))
        stack.memory._ready_seconds = 1e9
        made = stack.memory.create

        def create(*args: object, **kwargs: object) -> object:
            info = made(*args, **kwargs)  # type: ignore[arg-type]
            stack.memory.kill(info.sandbox_id, "exit code 3")
            return info

        stack.memory.create = create  # type: ignore[method-assign, assignment]
        return stack, stack.apply().seconds

    @pytest.mark.parametrize(
        ("readiness", "what"),
        [
            (Readiness(timeout=600), "it stopped before it was ready: exit code 3"),
            (Readiness(kind=ProbeKind.NONE), "it stopped right after its creation: exit code 3"),
        ],
        ids=["a sandbox that is waited for", "a sandbox that nobody waits for"],
    )
    def test_it_fails_at_once_with_exit_code_and_last_lines(self, readiness: Readiness, what: str) -> None:
        stack, seconds = self.died(readiness)
        [ended] = [event.result for event in stack.events if isinstance(event, StepEnded)]
        assert (ended.status, ended.ready, ended.error) == (StepStatus.FAILED, False, what)
        assert ended.log_tail[-1] == "exit code 3"
        assert seconds < 30

    def test_what_keeps_running_is_done_without_readiness(self) -> None:
        stack = Stack(desired(wanted("a", readiness=Readiness(kind=ProbeKind.NONE))))
        stack.memory._ready_seconds = 1e9
        [result] = stack.apply().results
        assert (result.status, result.ready) == (StepStatus.DONE, True)
        assert stack.backend.count("is_alive") == 1
        assert stack.plan().empty
