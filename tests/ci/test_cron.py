"""`examples/cron/`: its line, taken out of the file and run as cron runs it, is silent as long as all is well."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.cli.exit_codes import ExitCode
from tests.docs.pages import ROOT
from tests.support.cli import Folder, folder

CRONTAB = ROOT / "examples" / "cron" / "reconciler.cron"
_FIELD = r"(?:\*|\d+)(?:/\d+)?"
_LINE = re.compile(rf"(?P<when>(?:{_FIELD}\s+){{4}}{_FIELD})\s+(?P<user>[a-z]+)\s+(?P<command>\S.*)")
_SETTING = re.compile(r"(?P<name>[A-Z]+)=(?P<value>.*)")

FLEET = """version: 1
stack: by-cron
sandboxes:
  db:
    secrets: {API_TOKEN: {env: API_TOKEN}}
"""


@dataclass(frozen=True, kw_only=True)
class Cron:
    """What cron reads: its environment is that of the file and no other."""

    settings: dict[str, str]
    user: str
    command: str

    @classmethod
    def read(cls) -> Cron:
        lines = [
            line
            for line in CRONTAB.read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")
        ]
        settings = {found["name"]: found["value"] for line in lines if (found := _SETTING.fullmatch(line))}
        [line] = [found for line in lines if (found := _LINE.fullmatch(line))]
        assert len(settings) + 1 == len(lines), "the tests do not know one of its lines"
        return cls(settings=settings, user=line["user"], command=line["command"])

    def run(self, here: Folder) -> tuple[int, str]:
        """(exit code, what is in the mail). Only the places are other ones: those of the test's folder."""
        command = self.command.replace("/etc/reconciler/research.env", str(here.path / "research.env"))
        command = command.replace("/etc/reconciler/research", str(here.path))
        path = f"{here.path / 'bin'}:{self.settings['PATH']}"
        done = subprocess.run(
            [self.settings["SHELL"], "-c", command],
            cwd="/",
            env={"PATH": path, "HOME": str(here.path), "LOGNAME": self.user, "SHELL": self.settings["SHELL"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=120,
        )
        return done.returncode, done.stdout


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Folder]:
    with folder(tmp_path, API_TOKEN="token-of-the-tests") as made:
        own = {name: made.environ[name] for name in ("XDG_STATE_HOME", "PYTHONPYCACHEPREFIX")}
        given = {"API_TOKEN": "token-of-the-tests", "PYTHONPATH": str(ROOT), **own}
        made.write("".join(f"{name}={shlex.quote(value)}\n" for name, value in given.items()), "research.env")
        (tmp_path / "bin").mkdir()
        made.write(f'#!/bin/sh\nexec {sys.executable} -m reconciler "$@"\n', "bin/reconciler")
        (tmp_path / "bin" / "reconciler").chmod(0o755)
        made.write(FLEET)
        made("apply", "--auto-approve")
        yield made


def test_it_is_silent_while_all_is_well_and_tells_what_it_put_back(here: Folder) -> None:
    cron = Cron.read()
    assert cron.run(here) == (0, "")
    here.kill(here.sandboxes()[0])
    code, mail = cron.run(here)
    assert code == 0, mail
    assert "db: repaired" in mail
    assert "token-of-the-tests" not in mail
    assert cron.run(here) == (0, "")


def test_what_is_wrong_is_in_the_mail_with_what_to_do(here: Folder) -> None:
    here.write(FLEET.replace("secrets", "secret"))
    code, mail = Cron.read().run(here)
    assert code == 3
    assert "did you mean `secrets`?" in mail


def test_a_percent_sign_would_end_the_command() -> None:
    """Cron takes what follows one for the standard input."""
    assert "%" not in Cron.read().command


def test_no_other_lock_is_needed(here: Folder) -> None:
    """Of two that run into each other one puts back, and the other finds nothing to do, or says who is at work."""
    cron = Cron.read()
    assert "flock" not in cron.command
    here.kill(here.sandboxes()[0])
    with ThreadPoolExecutor(2) as both:
        ended = list(both.map(lambda _: cron.run(here), range(2)))
    mails = [mail for _, mail in ended]
    assert {code for code, _ in ended} <= {ExitCode.DONE, ExitCode.LOCKED}, mails
    assert sum("db: repaired" in mail for mail in mails) == 1, mails
    assert cron.run(here) == (0, "")
