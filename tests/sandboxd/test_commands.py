"""Commands in sessions, with a real shell."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.sandboxd import commands
from reconciler.sandboxd.commands import Command, Session, SessionBusy, SessionMissing, Sessions
from tests.backends.processes import eventually, processes_with

ENV = {"PATH": os.environ["PATH"]}


@pytest.fixture
def sessions(tmp_path: Path) -> Iterator[Sessions]:
    sessions = Sessions(str(tmp_path))
    yield sessions
    sessions.stop()


def run(session: Session, text: str, **named: bool) -> Command:
    command = session.run(
        text, cwd=None, env=ENV, merge=named.get("merge", False), feed=named.get("feed", False)
    )
    command.wait(10)
    return command


@pytest.mark.parametrize(
    ("text", "code", "stdout", "stderr"),
    [
        pytest.param("echo a; echo b >&2", 0, "a\n", "b\n", id="both outputs"),
        pytest.param("exit 3", 3, "", "", id="an exit code"),
        pytest.param("kill -9 $$", 137, "", "", id="a signal"),
        pytest.param(
            """echo "it's" 'a "quote"' $((1+1)) \\$x""", 0, 'it\'s a "quote" 2 $x\n', "", id="quotes"
        ),
        pytest.param("# only a comment", 0, "", "", id="a comment"),
        pytest.param("for i in 1 2\ndo echo $i\ndone", 0, "1\n2\n", "", id="several lines"),
        pytest.param('echo "[$#]"', 0, "[0]\n", "", id="no arguments of ours"),
        pytest.param("printf '\\377'", 0, "�", "", id="bytes that are no text"),
        pytest.param("cat", 0, "", "", id="reading finds the end at once"),
    ],
)
def test_a_command_runs_as_in_a_shell(
    sessions: Sessions, text: str, code: int, stdout: str, stderr: str
) -> None:
    command = run(sessions.open(), text)
    assert (command.exit_code, command.stdout.text(), command.stderr.text()) == (code, stdout, stderr)


def test_the_directory_is_kept_from_one_command_to_the_next(sessions: Sessions, tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    session = sessions.open("s")
    run(session, "cd 'a b'; exit 4")
    assert run(sessions.open("s"), "pwd").stdout.text() == f"{tmp_path}/a b\n"
    assert run(sessions.open("other"), "pwd").stdout.text() == f"{tmp_path}\n"
    run(session, "cd /; rmdir '" + str(tmp_path / "a b") + "'")
    assert run(session, "pwd").stdout.text() == "/\n"


def test_a_hard_limit_ends_the_whole_group(sessions: Sessions) -> None:
    command = sessions.open().run("sleep 314159 & sleep 314159", cwd=None, env=ENV, merge=True, feed=False)
    assert command.wait(None, hard=0.1) == "timed_out"
    assert command.exit_code == 137
    eventually(lambda: processes_with("314159") == [], "the group to be gone")


def test_a_soft_limit_only_stops_waiting(sessions: Sessions) -> None:
    command = sessions.open().run("echo on; read x", cwd=None, env=ENV, merge=True, feed=True)
    assert command.wait(0.05) == "running"
    assert command.wait(None, quiet=0.05) == "quiet"
    assert command.feed("go\n")
    assert command.wait(10) == "completed"
    assert not command.feed("too late\n")


def test_a_background_child_does_not_hold_the_answer(sessions: Sessions) -> None:
    command = sessions.open().run("sleep 60 & echo started", cwd=None, env=ENV, merge=False, feed=False)
    assert command.wait(5) == "completed"
    assert command.stdout.text() == "started\n"
    command.send(signal.SIGKILL)


def test_output_is_bounded(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "KEEP_BYTES", 1000)
    command = run(sessions.open(), "head -c 5000 /dev/zero | tr '\\0' x")
    assert len(command.stdout.data) == 1000
    assert command.stdout.text().endswith("[4000 more bytes were dropped]\n")


def test_a_session_runs_one_command_at_a_time(sessions: Sessions) -> None:
    session = sessions.open("busy")
    command = session.run("sleep 60", cwd=None, env=ENV, merge=True, feed=False)
    with pytest.raises(SessionBusy):
        session.run("true", cwd=None, env=ENV, merge=True, feed=False)
    command.kill()
    assert command.wait(5) == "killed"
    assert run(session, "true").exit_code == 0


def test_the_oldest_idle_session_makes_room(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_SESSIONS", 3)
    for name in "abcd":
        run(sessions.open(name), "true")
    assert {session.id for session in sessions.all()} == {"b", "c", "d"}
    with pytest.raises(SessionMissing):
        sessions.get("a")


def test_stop_ends_what_runs_even_if_it_will_not(sessions: Sessions) -> None:
    gentle = sessions.open("gentle").run("sleep 60", cwd=None, env=ENV, merge=True, feed=False)
    stubborn = sessions.open("stubborn").run(
        "trap '' TERM; while :; do sleep 0.05; done", cwd=None, env=ENV, merge=True, feed=False
    )
    sessions.stop()
    assert gentle.wait(5) == stubborn.wait(5) == "killed"


def test_many_sessions_at_once(sessions: Sessions) -> None:
    results: list[str] = []

    def one(number: int) -> None:
        results.append(run(sessions.open(f"s{number}"), f"echo {number}").stdout.text().strip())

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, results)) == list(range(16))
