"""`watch` where somebody sits: on a real terminal, what it asks for is asked once."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.cli import Folder, folder

ANSWER = "hush-hush-9c2e"
TEXT = """version: 1
stack: asked
variables:
  token: {type: string, sensitive: true}
sandboxes:
  web: {secrets: {TOKEN: {value: "${var.token}"}}}
"""
PROMPT = "variable token"
PATIENCE = 60.0  # seconds; nothing here takes a tenth of it


class Sitting:
    """The command on a terminal of its own; `shown` is all that was to be read there."""

    def __init__(self, here: Folder, *args: str) -> None:
        self._terminal, command = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "reconciler", *args],
            cwd=here.path, env=here.environ, stdin=command, stdout=command, stderr=command, start_new_session=True,
        )  # fmt: skip
        os.close(command)
        self.shown = ""

    def until(self, text: str, count: int = 1) -> None:
        """Waits until the text was shown so often."""
        deadline = time.monotonic() + PATIENCE
        while self.shown.count(text) < count:
            assert time.monotonic() < deadline, f"{text!r} was not shown:\n{self.shown}"
            self._read()

    def types(self, line: str) -> None:
        os.write(self._terminal, f"{line}\n".encode())

    def end(self) -> int:
        self.process.terminate()
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read()
        if self.process.poll() is None:
            self.process.kill()
        os.close(self._terminal)
        return self.process.wait()

    def _read(self) -> None:
        if select.select([self._terminal], [], [], 0.1)[0]:
            with suppress(OSError):  # how a terminal says that nobody is there any more
                self.shown += os.read(self._terminal, 65536).decode(errors="replace")


@contextmanager
def sitting(here: Folder, *args: str) -> Iterator[Sitting]:
    """It ends well, or the test fails."""
    made = Sitting(here, *args)
    try:
        yield made
    finally:
        code = made.end()
    assert code == 0, made.shown
    assert "Traceback" not in made.shown


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    with folder(tmp_path, COLUMNS="200") as made:
        made.environ["RECONCILER_VAR_token"] = ANSWER
        made.write(TEXT)
        made("apply", "--auto-approve")
        known = made.environ.pop("RECONCILER_VAR_token")
        yield made
        made.environ["RECONCILER_VAR_token"] = known
        made.write(TEXT)


def test_what_is_asked_for_is_asked_once_and_not_again_at_a_reload(here: Folder) -> None:
    with sitting(here, "watch", "--interval", "60s") as watch:
        watch.until(PROMPT)
        watch.types(ANSWER)
        watch.until("1 of 1 ready")
        watch.process.send_signal(signal.SIGHUP)
        watch.until("the configuration was read again")
        here.write(TEXT.replace("TOKEN:", "OTHER:"))
        watch.until("the configuration was read again", count=2)
        watch.until("1 change pending an apply")
    assert watch.shown.count(PROMPT) == 1
    assert ANSWER not in watch.shown


def test_a_broken_file_is_not_said_to_lack_what_was_answered(here: Folder) -> None:
    with sitting(here, "watch", "--interval", "60s") as watch:
        watch.until(PROMPT)
        watch.types(ANSWER)
        watch.until("1 of 1 ready")
        here.write(TEXT + "nonsense: true\n")
        watch.until("the new configuration cannot be used")
        watch.until("it is read again when it changes: ")
        here.write(TEXT)
        watch.until("it is valid again")
    assert "has no value" not in watch.shown
    assert watch.shown.count(PROMPT) == 1


def test_what_a_reload_would_have_to_ask_for_is_told_and_holds_nothing_up(here: Folder) -> None:
    """Nobody may sit there any more, and the loop must not wait for him."""
    with sitting(here, "watch", "--interval", "1s") as watch:
        watch.until(PROMPT)
        watch.types(ANSWER)
        watch.until("1 of 1 ready")
        here.write(TEXT.replace("sandboxes:", "  more: {type: string}\nsandboxes:"))
        watch.until("the variable `more` has no value")
        here.kill(str(here.state()["sandboxes"]["web"]["sandbox_id"]))
        watch.until("web is well again")
    assert "variable more:" not in watch.shown
