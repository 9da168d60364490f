"""`reconciler watch --json` beside a test, and what it has told so far."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.cli import Folder

PATIENCE = 60.0  # seconds; nothing here takes a tenth of it
Told = Mapping[str, Any]


class Watching:
    """One running watch. `told` are its events in order."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self.errors = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.told.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def of(self, kind: str, /, **fields: object) -> list[dict[str, Any]]:
        """What was told of that type, with these values."""
        return [
            told
            for told in list(self.told)
            if told["type"] == kind and all(told.get(name) == value for name, value in fields.items())
        ]

    def until(self, kind: str, /, *, count: int = 1, **fields: object) -> dict[str, Any]:
        """Waits until it was told `count` times, and gives the last of them."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while len(found := self.of(kind, **fields)) < count:
                left = deadline - time.monotonic()
                ended = self.process.poll() is not None and not self._reader.is_alive()
                if left < 0 or ended:
                    raise AssertionError(f"{kind} {fields} was not told:\n{self.story()}")
                self._news.wait(min(left, 0.2))
        return found[count - 1]

    def until_that(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{what} never happened:\n{self.story()}"
            time.sleep(0.02)

    def story(self) -> str:
        """Without looks that showed what the one before did."""
        return "\n".join(json.dumps(told) for told in self.told if told["type"] != "look" or told["drifted"])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Asks it to stop and gives its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self._reader.join(PATIENCE)
        self.errors = self.process.stderr.read()
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@contextmanager
def watching(here: Folder, *args: str, interval: str = "1s") -> Iterator[Watching]:
    """Begun, and its first look is told. It ends well, or the test fails."""
    made = Watching(here.start("watch", "--json", "--interval", interval, *args))
    try:
        made.until("look")
        yield made
    finally:
        code = made.end()
    assert code == 0, made.errors
    assert "Traceback" not in made.errors
