"""The main job with its state in PostgreSQL, through the command line, on real processes and a real server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.e2e.test_process_stack import until
from tests.stores.places import a_key
from tests.support.cli import Folder, folder
from tests.support.postgres import Postgres, requires_postgres

pytestmark = [requires_postgres, pytest.mark.slow]
PASSWORD = "CANARY-hunter2"
STACK = """version: 1
stack: shared
state: {store: postgres, url: {env: STATE_URL}, schema: SCHEMA, timeout: TIMEOUT}
sandboxes:
  worker:
    replicas: 5
    environment: {LOG_LEVEL: info}
    secrets: {TOKEN: {env: TOKEN}}
outputs:
  first: "${sandbox.worker[0].url}"
"""


class Shared:
    """A folder whose state is in a schema of its own, as a user with a password has it."""

    def __init__(self, here: Folder, server: Postgres, schema: str) -> None:
        self.here = here
        self.server = server
        self.schema = schema
        self.declare("10s")

    def declare(self, timeout: str) -> None:
        self.here.write(STACK.replace("SCHEMA", self.schema).replace("TIMEOUT", timeout))

    def rows(self, table: str) -> int:
        """0 also where there is no such table yet."""
        try:
            with psycopg.connect(self.server.url(), connect_timeout=10) as connection:
                found = connection.execute(f"select count(*) from {self.schema}.reconciler_{table}".encode())
                [count] = found.fetchone() or (0,)
                return int(count)
        except psycopg.errors.UndefinedTable:
            return 0

    def everything(self) -> str:
        """All that the tables hold, but for who holds the lock."""
        with psycopg.connect(self.server.url(), connect_timeout=10) as connection:
            found = [
                bytes(row[0])
                for table in ("state", "version", "journal")
                for row in connection.execute(
                    f"select convert_to(each::text, 'UTF8') from {self.schema}.reconciler_{table} each".encode()
                )
            ]
        assert found
        return b"\n".join(found).decode()


@pytest.fixture
def shared(postgres: Postgres, tmp_path: Path) -> Iterator[Shared]:
    if not postgres.run("select from pg_roles where rolname = 'carol'"):
        postgres.run("create role carol login password 'CANARY-hunter2'")
        postgres.run("grant create on database postgres to carol")
    url = postgres.url(user="carol", password=PASSWORD, socket=False)
    with folder(tmp_path, STATE_URL=url, TOKEN="t") as here:
        yield Shared(here, postgres, f"e{os.urandom(6).hex()}")


def _converges(shared: Shared) -> None:
    """One plain apply, and then there is nothing to do and nothing too much."""
    here = shared.here
    here("apply", "--auto-approve")
    here("plan", "--detailed-exitcode", code=0)
    assert len(here.sandboxes()) == 5
    state = json.loads(here("state", "pull").stdout)
    assert sorted(record["sandbox_id"] for record in state["sandboxes"].values()) == here.sandboxes()
    assert shared.rows("journal") == 0


def test_the_main_job_with_a_password_that_appears_nowhere(shared: Shared) -> None:
    here = shared.here
    said = [here("plan").stdout, here("plan", "-o", "saved.plan").stdout]
    assert shared.rows("state") == 0
    run = here("apply", "--auto-approve", "-v")
    said += [run.stdout, run.stderr]
    here("plan", "--detailed-exitcode", code=0)
    assert here("output", "first").stdout.startswith("http://")
    assert not (here.path / "state").exists()
    shown = here("doctor").stdout
    assert "store shared in postgresql://carol:***@127.0.0.1:" in shown
    assert "ok  server: PostgreSQL" in shown
    assert f"ok  tables: {shared.schema}.reconciler_…, layout 1" in shown
    assert "ok  durability: the server syncs what it commits" in shown
    said += [
        shown,
        *(here(*c).stdout for c in (("doctor", "--json"), ("state", "history"), ("state", "pull"))),
    ]
    here.environ["STATE_URL"] = here.environ["STATE_URL"].replace(PASSWORD, f"{PASSWORD}-wrong")
    refused = here("apply", "--auto-approve", code=1)
    assert "password authentication failed" in refused.stderr
    said += [refused.stdout, refused.stderr, here("doctor", code=1).stdout]
    here.environ["STATE_URL"] = here.environ["STATE_URL"].replace("-wrong", "")
    files = [path for path in here.path.rglob("*") if path.is_file() and "environ" not in path.name]
    said += [path.read_bytes().decode(errors="replace") for path in files]
    with psycopg.connect(shared.server.url()) as connection:
        for table in ("state", "version", "journal", "lock"):
            rows = connection.execute(f"select * from {shared.schema}.reconciler_{table}".encode())
            said.append(repr(rows.fetchall()))
    assert not [text for text in said if PASSWORD in text]
    here("destroy", "--auto-approve")
    assert here.sandboxes() == []


def test_an_encrypted_state_is_killed_and_goes_on_and_no_row_tells_anything(shared: Shared) -> None:
    here = shared.here
    here.environ["RECONCILER_ENCRYPTION_KEY"] = a_key()
    shared.declare("10s, encryption: {key: {env: RECONCILER_ENCRYPTION_KEY}}")
    run = here.start("apply", "--auto-approve", "--parallelism", "1")
    until(lambda: shared.rows("journal") >= 3)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate(timeout=60)
    at_rest = shared.everything()
    _converges(shared)
    at_rest += shared.everything()
    assert not [word for word in ("worker", "LOG_LEVEL", "127.0.0.1:", "hmac-sha256") if word in at_rest]
    told = here("plan", code=1, environ={"RECONCILER_ENCRYPTION_KEY": a_key(2)}).stderr
    assert "is encrypted with another key than RECONCILER_ENCRYPTION_KEY" in " ".join(told.split())


def test_a_url_that_is_not_set_is_told_by_its_option_and_variable(shared: Shared) -> None:
    del shared.here.environ["STATE_URL"]
    refused = shared.here("plan", code=3)
    assert "`state.url`" in refused.stderr
    assert "STATE_URL" in refused.stderr
    assert "set STATE_URL for this run" in refused.stderr
    shared.here.environ["STATE_URL"] = shared.server.url()


def test_a_server_that_restarts_in_the_middle_of_an_apply_costs_nothing(shared: Shared) -> None:
    run = shared.here.start("apply", "--auto-approve", "--parallelism", "1")
    until(lambda: shared.rows("journal") >= 3)
    shared.server.restart()
    _, told = run.communicate(timeout=120)
    assert "Traceback" not in told
    assert run.returncode == 0, told
    _converges(shared)


def test_a_server_that_stays_away_ends_the_run_with_an_error_and_the_next_one_converges(
    shared: Shared,
) -> None:
    shared.declare("500ms")
    run = shared.here.start("apply", "--auto-approve", "--parallelism", "1")
    until(lambda: shared.rows("journal") >= 3)
    shared.server.stop()
    try:
        _, told = run.communicate(timeout=120)
    finally:
        shared.server.start()
    assert run.returncode == 1, told
    assert "postgresql://carol:***@127.0.0.1" in told
    assert "is the server running" in told
    assert "Traceback" not in told
    _converges(shared)
