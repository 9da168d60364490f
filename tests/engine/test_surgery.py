"""Surgery under the lock: what is written, what is kept to go back to, and what may not be pushed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from reconciler.engine.surgery import Edit, forget, move, pull, push
from reconciler.errors import (
    LockHeld,
    NotFound,
    ReconcilerError,
    Refused,
    StateCorrupt,
    StateTooNew,
    StoreError,
)
from reconciler.model.desired import Address
from reconciler.model.outcome import Intent, Operation
from reconciler.model.state import State
from tests.support.build import desired, wanted
from tests.support.running import Stack


def applied() -> Stack:
    stack = Stack(desired(wanted("a", image="one"), wanted("b", depends_on=["a"], image="one")))
    stack.apply()
    stack.clear()
    return stack


def read(stack: Stack) -> State:
    state = stack.store.read()
    assert state is not None
    return state


def test_a_move_is_one_write_and_no_call_to_a_backend() -> None:
    stack = applied()
    before = read(stack)
    edit = move(stack.context(), "a", "c")
    after = read(stack)
    assert stack.log == ["snapshot"]
    assert (edit.moved, edit.backup, edit.written) == ((("a", "c"),), before.serial, True)
    assert set(after.sandboxes) == {"b", "c"}
    assert after.sandboxes[Address("b")].depends_on == ("c",)
    assert (after.serial, after.lineage) == (before.serial + 1, before.lineage)
    assert stack.store.lock_info() is None


def test_letting_go_leaves_the_sandbox_running_and_notes_whose_it_was() -> None:
    stack = applied()
    record = read(stack).sandboxes[Address("a")]
    edit = forget(stack.context(), ["a"])
    assert edit.forgotten == (record,)
    assert read(stack).released == {("main", record.sandbox_id): "a"}
    assert record.sandbox_id in stack.ids()


EDITS: list[Callable[[Stack, bool], Edit]] = [
    lambda stack, dry: move(stack.context(), "a", "c", dry_run=dry),
    lambda stack, dry: forget(stack.context(), ["a"], dry_run=dry),
    lambda stack, dry: push(
        stack.context(), edited(stack, lambda d: d["sandboxes"].pop("a")), place="old.json", dry_run=dry
    ),
]
NAMED = pytest.mark.parametrize("edit", EDITS, ids=["move", "forget", "push"])


def edited(stack: Stack, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The state as pulled, changed by hand."""
    document = json.loads(pull(stack.store)[1])
    change(document)
    return json.dumps(document).encode()


@NAMED
def test_a_dry_run_writes_nothing_and_needs_no_lock(edit: Callable[[Stack, bool], Edit]) -> None:
    stack = applied()
    before = read(stack)
    with stack.store.lock("apply"):
        would = edit(stack, True)
    assert not would.written
    assert would.backup is None
    assert would.after != before
    assert read(stack) == before
    assert stack.log == []


@NAMED
def test_it_waits_for_nobody_unless_told_to(edit: Callable[[Stack, bool], Edit]) -> None:
    stack = applied()
    before = read(stack)
    with stack.store.lock("apply"), pytest.raises(LockHeld, match="apply"):
        edit(stack, False)
    assert read(stack) == before


@NAMED
def test_pushing_the_version_before_undoes_it(edit: Callable[[Stack, bool], Edit]) -> None:
    stack = applied()
    before = read(stack)
    done = edit(stack, False)
    assert read(stack).sandboxes != before.sandboxes
    undone = push(stack.context(), pull(stack.store, done.backup)[1], place="old.json", force=True)
    after = read(stack)
    assert undone.after == after
    assert replace(after, serial=before.serial, updated_at=before.updated_at) == before
    assert after.serial == before.serial + 2


@NAMED
def test_what_a_killed_run_left_in_the_journal_is_in_the_version_before(
    edit: Callable[[Stack, bool], Edit],
) -> None:
    """Going back must not forget a sandbox that exists."""
    stack = applied()
    lease = stack.store.lock("apply")
    made = Intent(
        at=1.0,
        operation=Operation.CREATE,
        address=Address("new"),
        sandbox_id="new-1",
        backend="main",
        generation=1,
    )
    stack.store.append(lease, [made])
    stack.store.crash()
    done = edit(stack, False)
    assert done.backup is not None
    assert "new" in stack.store.version(done.backup).sandboxes
    assert "new" in read(stack).sandboxes


@pytest.mark.parametrize(
    "act",
    [lambda s: move(s.context(), "a", "c"), lambda s: forget(s.context(), ["a"]), lambda s: pull(s.store)],
    ids=["move", "forget", "pull"],
)
def test_where_nothing_was_ever_applied_there_is_nothing_to_do(act: Callable[[Stack], object]) -> None:
    stack = Stack(desired(wanted("a")))
    with pytest.raises(NotFound, match="does not exist yet") as refused:
        act(stack)
    assert "apply" in refused.value.hint
    assert stack.store.read() is None


@pytest.mark.parametrize("source", ["x", "b"], ids=["what is not there", "onto another"])
def test_a_refused_edit_writes_nothing_and_gives_the_lock_back(source: str) -> None:
    stack = applied()
    with pytest.raises(ReconcilerError):
        move(stack.context(), source, "a")
    assert stack.log == []
    assert stack.store.lock_info() is None


class TestPull:
    def test_it_has_what_the_journal_says_and_a_version_has_not(self) -> None:
        stack = applied()
        serial = read(stack).serial
        with stack.store.lock("apply") as lease:
            gone = Intent(
                at=1.0, operation=Operation.RELEASE, address=Address("b"), generation=1, backend="main",
                sandbox_id=read(stack).sandboxes[Address("b")].sandbox_id,
            )  # fmt: skip
            stack.store.append(lease, [gone])
        assert set(json.loads(pull(stack.store)[1])["sandboxes"]) == {"a"}
        assert set(json.loads(pull(stack.store, serial)[1])["sandboxes"]) == {"a", "b"}

    def test_a_version_that_is_not_there_is_told(self) -> None:
        with pytest.raises(StoreError, match="serial 99"):
            pull(applied().store, 99)


class TestPush:
    def test_what_was_pulled_is_stored_already(self) -> None:
        stack = applied()
        edit = push(stack.context(), pull(stack.store)[1], place="old.json")
        assert not edit.written
        assert stack.log == []

    def test_it_brings_a_state_to_where_none_is(self) -> None:
        stack, other = applied(), Stack(desired(wanted("a")))
        edit = push(other.context(), pull(stack.store)[1], place="old.json")
        assert edit.written
        assert edit.backup is None
        assert read(other).sandboxes == read(stack).sandboxes
        assert read(other).lineage == read(stack).lineage

    @pytest.mark.parametrize("force", [False, True], ids=["", "even with force"])
    @pytest.mark.parametrize(
        ("change", "error", "says"),
        [
            pytest.param(lambda d: d.update(stack="theirs"), Refused, "the state of stack 'theirs'", id="another stack's"),
            pytest.param(lambda d: d.update(format="9.0"), StateTooNew, "old.json has the state format 9.0", id="a newer format"),
            pytest.param(lambda d: d.pop("lineage"), StateCorrupt, "lineage is missing", id="one without a lineage"),
            pytest.param(lambda d: d.update(extra=1), StateCorrupt, "extra is an unknown key", id="an unknown key"),
            pytest.param(lambda d: d["sandboxes"]["a"].update(status="well"), StateCorrupt, "status is", id="a status that there is not"),
            pytest.param(
                lambda d: d["sandboxes"].update(c=d["sandboxes"]["a"]), StateCorrupt, "twice, as a and as c", id="one object twice"
            ),
            pytest.param(
                lambda d: d["sandboxes"]["a"]["spec"].update({"secrets.TOKEN": "hunter2"}),
                Refused, "something else than a digest as secrets.TOKEN of a", id="a secret's value",
            ),
            pytest.param(
                lambda d: d["sandboxes"]["a"].update(healthy={"secrets.TOKEN": "hunter2"}),
                Refused, "something else than a digest", id="a secret's value in what was healthy",
            ),
            pytest.param(
                lambda d: d["sandboxes"]["a"]["spec"].update({"secrets.TOKEN": ["hunter2"]}),
                StateCorrupt, "secrets.TOKEN is not shown", id="a secret's value in a list",
            ),
        ],
    )  # fmt: skip
    def test_it_refuses(
        self, change: Callable[[dict[str, Any]], object], error: type, says: str, force: bool
    ) -> None:
        stack = applied()
        data = edited(stack, change)
        with pytest.raises(ReconcilerError) as refused:
            push(stack.context(), data, place="old.json", force=force)
        assert type(refused.value) is error
        assert says in refused.value.message
        assert refused.value.hint
        assert "hunter2" not in refused.value.message + refused.value.hint
        assert stack.log == []

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            pytest.param(lambda d: d.update(lineage="other"), "of lineage other", id="another lineage"),
            pytest.param(
                lambda d: d.update(serial=0, outputs={"x": "y"}),
                "of serial 0, older than",
                id="an older serial",
            ),
        ],
    )
    def test_it_takes_with_force_alone(self, change: Callable[[dict[str, Any]], object], says: str) -> None:
        stack = applied()
        before = read(stack)
        data = edited(stack, change)
        with pytest.raises(Refused, match=says) as refused:
            push(stack.context(), data, place="old.json")
        assert "--force" in refused.value.hint
        assert read(stack) == before
        assert push(stack.context(), data, place="old.json", force=True).written
        assert read(stack).serial == before.serial + 1

    def test_a_serial_from_the_future_is_gone_on_from(self) -> None:
        stack = applied()
        push(
            stack.context(),
            edited(stack, lambda d: d.update(serial=40, outputs={"x": "y"})),
            place="old.json",
        )
        assert read(stack).serial == 41

    @pytest.mark.parametrize("keep", [0, 1, 50, -2, -3])
    def test_a_file_cut_short_is_never_stored(self, keep: int) -> None:
        stack = applied()
        data = pull(stack.store)[1][:keep]
        with pytest.raises(StateCorrupt, match=r"old\.json") as refused:
            push(stack.context(), data, place="old.json", force=True)
        assert "state history" in refused.value.hint
        assert stack.log == []

    def test_a_kill_at_any_system_call_leaves_the_state_before_or_the_pushed_one(
        self, tmp_path: Path
    ) -> None:
        """The driver forks a push per kill point; see `pushed_anywhere.py`."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.engine.pushed_anywhere", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert int(done.stdout.split()[0]) > 40
