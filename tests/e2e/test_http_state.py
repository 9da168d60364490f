"""A stack whose state is on a server, through the command line, on real processes; GitLab's manners where they matter."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stores.places import a_key
from tests.support.cli import TIMEOUT, Folder, folder
from tests.support.states import HangUp, Reply, Request, StateServer, keeping

TOKEN = "c4n4ry-t0ken-of-gitlab"
PASSWORD = "c4n4ry-secret-of-the-sandbox"
AUTHORIZATION = f"Basic {base64.b64encode(f'root:{TOKEN}'.encode()).decode()}"


@pytest.fixture
def server() -> Iterator[StateServer]:
    with keeping("gitlab", authorization=AUTHORIZATION) as made:
        yield made


@pytest.fixture
def here(tmp_path: Path, server: StateServer) -> Iterator[Folder]:
    with folder(tmp_path, GITLAB_TOKEN=TOKEN) as made:
        made.write(config(server))
        try:
            yield made
        finally:
            server.before = server.after = lambda request: None


def config(server: StateServer, *, secrets: str = "") -> str:
    keys = {**server.options(), "store": "http", "username": "root", "password": {"env": "GITLAB_TOKEN"}}
    return f"""version: 1
stack: research
state: {json.dumps(keys)}
sandboxes:
  worker:
    replicas: 2
{secrets}"""


def serials(server: StateServer) -> list[int]:
    return [json.loads(body)["serial"] for _, body in server.kept().writes]


def with_traceback(here: Folder, *args: str) -> subprocess.CompletedProcess[str]:
    """A run that fails, with all that `--verbose` tells."""
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", *args],
        cwd=here.path,
        env=here.environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, True)
    return done


def test_the_main_job_with_the_state_on_a_server(here: Folder, server: StateServer) -> None:
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    assert here("state", "list").stdout.split() == ["worker[0]", "worker[1]"]
    assert not (here.path / "state").exists()
    assert "Nobody holds the lock" in here("lock", "show").stdout
    assert "free" in here("doctor", code=None).stdout
    assert serials(server) == list(range(1, len(serials(server)) + 1))

    pulled = here("state", "pull").stdout
    removed = here("state", "rm", "worker[1]")
    assert "No older version is kept here" in removed.stderr
    assert "state rollback" not in removed.stderr
    (here.path / "pulled.json").write_text(pulled)
    here("state", "push", "--force", "pulled.json")
    here("plan", "--detailed-exitcode", code=0)
    here("destroy", "--auto-approve")
    assert here.sandboxes() == []
    assert server.kept().lock is None


def test_an_encrypted_state_lives_on_a_server_that_can_read_none_of_it(
    here: Folder, server: StateServer
) -> None:
    text = config(server)
    sealed = text.replace('"store": "http"', '"store": "http", "encryption": {"key": {"env": "SEALING"}}')
    assert sealed != text
    here.environ["SEALING"] = a_key()
    here.write(sealed)
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    here.write(sealed.replace("replicas: 2", "replicas: 3"))
    here("apply", "--auto-approve")
    kept = [body for _, body in server.kept().writes]
    assert len(kept) >= 2
    assert not [word for body in kept for word in (b"worker", b"127.0.0.1:") if word in body]
    assert serials(server) == list(range(1, len(kept) + 1))
    told = here("plan", code=1, environ={"SEALING": a_key(2)}).stderr
    assert "is encrypted with another key than SEALING" in " ".join(told.split())
    here("destroy", "--auto-approve")


def test_no_credential_is_anywhere_but_in_the_request(here: Folder, server: StateServer) -> None:
    here.write(config(server, secrets="    secrets: {API: {env: SANDBOX_SECRET}}\n"))
    here.environ |= {"SANDBOX_SECRET": PASSWORD, "RECONCILER_STATE_KEY": "correct horse battery staple"}
    said = []
    argv: list[bytes] = []

    def spy(request: Request) -> Reply | None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    argv.append((entry / "cmdline").read_bytes())
                except OSError:
                    continue
        return None

    server.before = spy
    said.append(here("apply", "--auto-approve", "--verbose"))
    said.append(here("plan", "--verbose", "-o", "plan.bin"))
    for reply in (Reply(401, TOKEN.encode()), Reply(302, headers={"Location": f"https://x/?t={TOKEN}"})):
        server.before = lambda request, reply=reply: reply  # type: ignore[misc]
        said.append(with_traceback(here, "apply", "--auto-approve", "--verbose"))
    server.before = lambda request: None
    texts = [text for done in said for text in (done.stdout, done.stderr)]
    texts += [body.decode() for _, body in server.kept().writes]
    texts += [request.body.decode() + request.path for request in server.requests]
    texts += [part.decode(errors="replace") for part in argv]
    texts += [
        path.read_bytes().decode(errors="replace")
        for path in here.path.rglob("*")
        if path.is_file() and not path.is_relative_to(here.root)  # a sandbox may read its own secret
    ]
    for canary in (TOKEN, AUTHORIZATION.removeprefix("Basic "), PASSWORD):
        assert not [text for text in texts if canary in text]
    assert {request.headers["authorization"] for request in server.requests} == {AUTHORIZATION}


def test_secrets_without_a_key_are_refused_before_anything_happens(here: Folder, server: StateServer) -> None:
    here.write(config(server, secrets="    secrets: {API: {env: SANDBOX_SECRET}}\n"))
    here.environ["SANDBOX_SECRET"] = PASSWORD
    for command in (["plan"], ["apply", "--auto-approve"]):
        assert "RECONCILER_STATE_KEY" in here(*command, code=1).stderr
    assert server.kept().writes == []
    assert here.sandboxes() == []
    here.write(config(server))


def test_a_credential_that_is_not_there_is_named_by_its_key(here: Folder) -> None:
    told = here("plan", code=None, environ={"GITLAB_TOKEN": ""})
    assert "state.password" in told.stderr
    assert told.returncode != 0


def test_of_two_applies_at_once_one_works_and_the_other_says_who_does(
    here: Folder, server: StateServer
) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold(request: Request) -> Reply | None:
        if request.query.get("ID") and not inside.is_set():
            inside.set()
            leave.wait(TIMEOUT)
        return None

    server.before = hold
    first = here.start("apply", "--auto-approve")
    assert inside.wait(TIMEOUT)
    told = here("apply", "--auto-approve", code=4).stderr
    assert f"pid {first.pid}" in told
    shown = here("lock", "show").stdout
    assert f"pid {first.pid}" in shown
    assert "lease  none: it is held until it is given back" in shown
    waiting = here.start("apply", "--auto-approve", "--lock-timeout", "60s")
    leave.set()
    assert (first.wait(TIMEOUT), waiting.wait(TIMEOUT)) == (0, 0)
    for process in (first, waiting):
        process.communicate()
    assert len(here.sandboxes()) == 2
    assert serials(server) == list(range(1, len(serials(server)) + 1))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_killed_at_a_write_and_run_again_it_converges(
    here: Folder, server: StateServer, nth: int, when: str
) -> None:
    running: list[subprocess.Popen[str]] = []
    started = threading.Event()

    def kill(request: Request) -> Reply | None:
        if request.query.get("ID"):
            started.wait(TIMEOUT)
            if sum("ID" in seen.query for seen in server.requests) == nth:
                os.kill(running[0].pid, signal.SIGKILL)
                running[0].wait(TIMEOUT)
                if when == "before":
                    raise HangUp
        return None

    setattr(server, when, kill)
    running.append(here.start("apply", "--auto-approve"))
    started.set()
    running[0].communicate(timeout=TIMEOUT)
    killed = running[0].returncode == -signal.SIGKILL
    assert killed or nth == 4  # a round may gather more than one answer
    assert (server.kept().lock is not None) == killed
    setattr(server, when, lambda request: None)

    again = here("apply", "--auto-approve")
    assert ("was left by a run that is gone" in again.stderr + again.stdout) == killed
    here("plan", "--detailed-exitcode", code=0)
    assert len(here.sandboxes()) == 2
    assert server.kept().lock is None
    assert len(set(serials(server))) == len(serials(server))


def test_a_server_that_goes_away_stops_the_run_and_nothing_is_doubled_after(
    here: Folder, server: StateServer
) -> None:
    def gone(request: Request) -> Reply | None:
        if sum("ID" in seen.query for seen in server.requests) >= 3:
            raise HangUp
        return None

    server.before = gone
    told = here("apply", "--auto-approve", code=1)
    assert "127.0.0.1" in told.stderr
    assert "found by its labels" in told.stderr
    server.before = lambda request: None
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    assert len(here.sandboxes()) == 2
