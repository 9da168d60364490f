"""A PostgreSQL of the tests' own: a cluster in a temporary folder, on a port of the loopback and a socket beside it.

Each worker has one, so that a test may restart it. The server refuses to be root: then it runs as another user.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import pytest

from tests.support.required import skip_unless

ADMIN = "ann"
STARTS_WITHIN = 60.0  # seconds
# Small, and as durable as a real one: what a store promises of an append is nothing without `fsync`.
_SETTINGS = ("max_connections=200", "shared_buffers=16MB", "autovacuum=off", "log_min_messages=warning")
_VARIABLES = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSERVICE", "PGSSLMODE", "PGOPTIONS")

requires_postgres = pytest.mark.usefixtures("postgres")


class Postgres:
    """One cluster in `folder`, trusting whoever comes through the socket and asking for a password on the loopback.
    Use it as a context manager."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.programs = programs
        self.port = _free_port()
        self.log = folder / "log"
        self._user = _unprivileged()
        self._server: subprocess.Popen[bytes] | None = None

    def url(
        self, *, user: str = ADMIN, password: str = "", database: str = "postgres", socket: bool = True
    ) -> str:
        """For libpq: through the socket, or the loopback."""
        who = f"{user}:{password}" if password else user
        at = "" if socket else "127.0.0.1"
        here = f"?host={self.folder}" if socket else ""
        return f"postgresql://{who}@{at}:{self.port}/{database}{here}"

    def run(self, statement: LiteralString, *, database: str = "postgres") -> list[tuple[object, ...]]:
        """What the statement returns; committed at once."""
        import psycopg

        with psycopg.connect(self.url(database=database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description is not None else []

    def __enter__(self) -> Postgres:
        self.folder.chmod(0o755)  # the server's user passes through
        shutil.chown(self.folder, user=self._user)
        made = self._command(
            "initdb", "--pgdata", f"{self.folder}/data", "--username", ADMIN, "--encoding", "UTF8",
            "--locale", "C", "--auth-local", "trust", "--auth-host", "scram-sha-256", "--no-sync",
        )  # fmt: skip
        done = subprocess.run(made, user=self._user, capture_output=True, cwd="/", env=self._environ())
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        self.start()
        return self

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [
            word
            for setting in (
                *_SETTINGS,
                "listen_addresses=127.0.0.1",
                f"unix_socket_directories={self.folder}",
            )
            for word in ("-c", setting)
        ]
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                self._command("postgres", "-D", f"{self.folder}/data", "-p", str(self.port), *options),
                user=self._user, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environ(),
            )  # fmt: skip
        deadline = time.monotonic() + STARTS_WITHIN
        while not self._answers():
            alive = self._server.poll() is None and time.monotonic() < deadline
            assert alive, self.log.read_text(errors="replace")[-2000:]
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """As `pg_ctl stop`: SIGQUIT is "immediate", SIGINT "fast"."""
        assert self._server is not None
        self._server.send_signal(how)
        self._server.wait(STARTS_WITHIN)

    def restart(self) -> None:
        """As `pg_ctl restart -m immediate`: every connection is cut, and the log is replayed."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.Error:
            return False
        return True

    def _command(self, program: str, *args: str) -> list[str]:
        return [str(self.programs / program), *args]

    def _environ(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}

    def __exit__(self, *_: object) -> None:
        if self._server is not None and self._server.poll() is None:
            self.stop()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _unprivileged() -> str | None:
    """Who runs the server; None for ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def programs() -> Path | None:
    """Where the newest server's programs are: distributions put them beside the PATH."""
    found = [
        path.parent
        for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")
        if path.with_name("postgres").exists()
    ]
    if found:
        return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    here = shutil.which("initdb")
    return Path(here).resolve().parent if here and shutil.which("postgres") else None


@functools.cache
def postgres_lacks() -> str:
    """Why there is no use in trying; "" when there is."""
    if programs() is None:
        return "postgresql is not installed"
    try:
        import psycopg  # noqa: F401 - is it there?
    except ImportError as error:
        return f"psycopg cannot be imported: {error}"
    return ""


# -- fixtures, known to every test by tests/conftest.py


@pytest.fixture(scope="session")
def cluster() -> Iterator[Postgres]:
    """This worker's own. Skips where there can be none; in CI that fails."""
    lacks = postgres_lacks()
    skip_unless(not lacks, lacks)
    found = programs()
    assert found is not None
    # A socket's path may have 107 characters; a test's own folder is longer, and closed to other users.
    with tempfile.TemporaryDirectory(prefix="rtest", dir="/tmp") as name, Postgres(Path(name), found) as made:
        yield made


@pytest.fixture
def postgres(cluster: Postgres, monkeypatch: pytest.MonkeyPatch) -> Postgres:
    """The same with nothing in the environment that would speak of another one."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return cluster
