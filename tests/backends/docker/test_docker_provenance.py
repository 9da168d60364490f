"""What is made of a container's state and of what its engine remembers. Pure: no engine is asked."""

from __future__ import annotations

import json

import pytest

from reconciler.backends.docker.engine import Engine
from reconciler.backends.docker.history import Event, history, moment
from reconciler.backends.docker.provenance import (
    Circumstances,
    End,
    of_dead,
    of_gone,
    of_paused,
    of_running,
    tells_all,
)
from reconciler.model.drift import Cause

NOW = 10_000.0


def happened(*words: str, own: bool = False) -> list[Event]:
    """ "kill 9", "die 137", "rename was", a second apart, the last of them now."""
    found = []
    for ago, text in enumerate(reversed(words)):
        action, _, more = text.partition(" ")
        number = int(more) if more.isdigit() else None
        found.append(
            Event(
                at=NOW - ago,
                action=action,
                container="c",
                signal=number if action == "kill" else None,
                exit_code=number if action == "die" else None,
                name="" if number is not None else more,
            )
        )
    return found[::-1]


@pytest.mark.parametrize(
    ("words", "cause", "detail"),
    [
        pytest.param(("die 0",), Cause.ENDED, "exit code 0", id="it ended"),
        pytest.param(("die 3",), Cause.CRASHED, "exit code 3", id="it failed"),
        pytest.param(("die 139",), Cause.CRASHED, "exit code 139 (SIGSEGV)", id="a bug of it"),
        pytest.param(
            ("kill 9", "die 137"), Cause.KILLED, "exit code 137 (SIGKILL), sent through the engine", id="killed"
        ),
        pytest.param(
            ("die 137",), Cause.KILLED, "exit code 137 (SIGKILL), not sent through the engine", id="killed beside it"
        ),
        pytest.param(("kill 6", "die 134"), Cause.KILLED, "exit code 134 (SIGABRT), sent through the engine", id="another signal"),
        pytest.param(("kill 15", "die 0"), Cause.STOPPED, "exit code 0 after SIGTERM, sent through the engine", id="stopped, not yet told as such"),
        pytest.param(("kill 15", "die 143", "stop"), Cause.STOPPED, "exit code 143 (SIGTERM) after SIGTERM, sent through the engine", id="stopped"),
        pytest.param(("kill 15", "kill 9", "die 137", "stop"), Cause.STOPPED, "exit code 137 (SIGKILL), when it did not end after SIGTERM", id="stopped, and deaf"),
        pytest.param(("kill 10", "die 0", "stop"), Cause.STOPPED, "exit code 0 after SIGUSR1, sent through the engine", id="stopped by a signal of its own"),
        pytest.param(("die 143",), Cause.STOPPED, "exit code 143 (SIGTERM), not sent through the engine", id="asked beside it"),
        pytest.param(("stop", "die 0"), Cause.STOPPED, "exit code 0 after SIGTERM, sent through the engine", id="stopped in Podman's order"),
        pytest.param(("kill", "die 137"), Cause.KILLED, "exit code 137 (SIGKILL), sent through the engine", id="killed, without the signal, as Podman tells it"),
        pytest.param(("kill 1", "die 3"), Cause.CRASHED, "exit code 3", id="it was told to reload, and failed"),
        pytest.param(("kill 9", *["exec"] * 90, "die 3"), Cause.CRASHED, "exit code 3", id="a signal long ago"),
        pytest.param(("oom", "die 137"), Cause.OUT_OF_MEMORY, "exit code 137 (SIGKILL), at its limit of memory", id="out of memory"),
        pytest.param(("oom", "die 0"), Cause.ENDED, "exit code 0", id="a child out of memory"),
        pytest.param(("kill 9", "die 137", "start", "die 1"), Cause.CRASHED, "exit code 1", id="an earlier run does not count"),
    ],
)  # fmt: skip
def test_the_history_says_how_it_ended(words: tuple[str, ...], cause: Cause, detail: str) -> None:
    found = of_dead(None, happened(*words), Circumstances(engine_began=1.0, booted=1.0))
    assert found is not None
    assert (found.cause, found.detail) == (cause, detail)
    assert found.at is not None
    assert NOW - 1 <= found.at <= NOW


FORGOTTEN = "; the engine does not remember how"


@pytest.mark.parametrize(
    ("end", "cause", "detail"),
    [
        pytest.param(End(code=0, at=NOW), Cause.UNKNOWN, f"exit code 0{FORGOTTEN}", id="well, or asked to"),
        pytest.param(
            End(code=3, at=NOW, error="no such file"),
            Cause.CRASHED,
            f"exit code 3{FORGOTTEN}: no such file",
            id="failed",
        ),
        pytest.param(
            End(code=137, at=NOW),
            Cause.KILLED,
            f"exit code 137 (SIGKILL){FORGOTTEN}",
            id="killed by somebody",
        ),
        pytest.param(
            End(code=143, at=NOW),
            Cause.STOPPED,
            f"exit code 143 (SIGTERM){FORGOTTEN}",
            id="asked by somebody",
        ),
        pytest.param(
            End(code=137, at=NOW, out_of_memory=True),
            Cause.OUT_OF_MEMORY,
            "exit code 137 (SIGKILL), at its limit of memory",
            id="out of memory",
        ),
    ],
)
def test_its_state_alone_says_so_and_no_more(end: End, cause: Cause, detail: str) -> None:
    found = of_dead(end, [], Circumstances(engine_began=NOW - 500, booted=NOW - 900))
    assert found is not None
    assert (found.cause, found.detail, found.at) == (cause, detail, NOW)


@pytest.mark.parametrize(
    ("end", "engine", "boot", "cause"),
    [
        pytest.param(End(code=0, at=NOW), NOW + 2, 1.0, Cause.ENGINE_RESTARTED, id="it ended with the engine"),
        pytest.param(End(code=255, at=NOW), NOW + 999, 1.0, Cause.ENGINE_RESTARTED, id="nobody saw it end"),
        pytest.param(End(code=255, at=NOW), NOW - 5, 1.0, Cause.CRASHED, id="255 of its own"),
        pytest.param(End(code=3, at=NOW), NOW + 999, 1.0, Cause.CRASHED, id="long before the engine's end"),
        pytest.param(End(code=143, at=NOW), NOW + 99, NOW + 30, Cause.HOST_RESTARTED, id="before the machine's start"),
        pytest.param(End(code=255, at=NOW, started=NOW - 900), NOW + 1, NOW - 20, Cause.HOST_RESTARTED, id="noted after it"),
        pytest.param(End(code=3, at=NOW), None, None, Cause.CRASHED, id="neither is known"),
        pytest.param(End(code=0, at=NOW), NOW + 1, None, Cause.ENGINE_RESTARTED, id="the machine is another one"),
    ],
)  # fmt: skip
def test_a_restart_of_the_engine_or_of_its_machine_shows_in_the_times(
    end: End, engine: float | None, boot: float | None, cause: Cause
) -> None:
    found = of_dead(end, [], Circumstances(engine_began=engine, booted=boot))
    assert found is not None
    assert found.cause is cause


def test_what_an_engine_ended_before_it_was_up_was_nobodys_stop() -> None:
    """After its own crash it stops what lived on, and remembers that like any other stop."""
    found = of_dead(None, happened("kill 15", "die 0", "stop"), Circumstances(engine_began=NOW + 0.3))
    assert found is not None
    assert found.cause is Cause.ENGINE_RESTARTED


def test_what_this_object_did_is_nobodys_deed() -> None:
    def ours(at: float) -> bool:
        return at > NOW - 5

    around = Circumstances(own_work=ours, own_end=ours)
    assert of_dead(None, happened("kill 15", "die 0", "stop"), around) is None
    assert of_dead(End(code=0, at=NOW), [], around) is None
    assert of_gone(happened("kill 9", "die 137", "destroy"), around) is None
    assert of_running(happened("rename was", "update", "start", "connect net"), around) is None
    crashed = of_dead(None, happened("kill 15", "die 0", "stop", "start", "die 3"), around)
    assert crashed is not None  # it was started by this object, and failed by itself
    assert crashed.cause is Cause.CRASHED


@pytest.mark.parametrize(
    ("words", "detail"),
    [
        pytest.param(
            ("kill 9", "die 137", "destroy"), "removed through the engine while it ran", id="by force"
        ),
        pytest.param(
            ("die 3", "destroy"), "removed through the engine, after it had ended (exit code 3)", id="when it had ended"
        ),
        pytest.param(("destroy",), "removed through the engine", id="the rest is forgotten"),
        pytest.param(("die 3",), None, id="its end is forgotten"),
        pytest.param((), None, id="all is forgotten"),
    ],
)  # fmt: skip
def test_of_one_that_is_gone(words: tuple[str, ...], detail: str | None) -> None:
    found = of_gone(happened(*words), Circumstances())
    assert (found and found.detail) == detail
    assert found is None or (found.cause, found.at) == (Cause.REMOVED, NOW)


def test_of_one_that_runs_what_was_changed_is_told_except_what_comes_with_every_start() -> None:
    events = happened(
        "create", "connect net", "start", "rename was", "disconnect net", "update", "start", "connect other"
    )
    found = of_running(events, Circumstances())
    assert found is not None
    assert found.cause is Cause.EDITED
    assert (
        found.detail == "renamed from was; changed by `docker update` or the like; connected to network other"
    )
    assert of_running(happened("create", "connect net", "start"), Circumstances()) is None


def test_of_one_that_is_paused_the_time_may_be_unknown() -> None:
    assert [of_paused(happened(*words)).at for words in (("pause", "exec"), ())] == [NOW - 1, None]


def test_a_container_is_inspected_only_where_that_may_add_something() -> None:
    assert tells_all(happened("die 3"))
    assert tells_all(happened("kill 9", "die 137"))
    assert not tells_all(happened("die 137")), "memory may have run out"
    assert not tells_all(happened("die 3", "start")), "its last end is forgotten"


class Remembers(Engine):
    """An engine that answers with these lines; nothing is asked."""

    def __init__(self, *lines: object) -> None:
        super().__init__("unix:///nowhere")
        self._is_podman = False
        self._lines = lines

    def text(self, path: str, query: object = None) -> str:
        return "\n".join(line if isinstance(line, str) else json.dumps(line) for line in self._lines)


def test_events_that_make_no_sense_are_no_evidence() -> None:
    good = {"Type": "container", "Action": "died", "timeNano": 5_000_000_000, "Actor": {"ID": "c", "Attributes": {"name": "n", "containerExitCode": "3"}}}  # fmt: skip
    wrong = [{**good, "Actor": None}, {**good, "timeNano": "soon"}, {**good, "Actor": {"ID": "c", "Attributes": {"signal": "KILL"}}}, [], "{"]  # fmt: skip
    [found] = history(Remembers(*wrong, good), 9.0)
    assert found == Event(at=5.0, action="die", container="c", sandbox_id="n", exit_code=3)


@pytest.mark.parametrize("stamp", ["0001-01-01T00:00:00Z", "", None, "soon", "-292277022399-01-01T00:00:00Z"])
def test_a_stamp_of_never_is_no_time(stamp: object) -> None:
    assert moment(stamp) is None
    assert moment("1970-01-01T00:00:01.123456789Z") == 1.123456
