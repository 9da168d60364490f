"""One connection: made when it is first needed, made again when it was lost, and never waited for without an end.

What is handed to `run` must be safe to do twice: when the connection breaks, nobody knows whether the server did it.
Must never let an error of psycopg out.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

from reconciler.errors import StoreError
from reconciler.stores.postgres import failures
from reconciler.stores.postgres.address import Address

Result = TypeVar("Result")
logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what it warns of, we raise
_GRACE = 2.0  # seconds that the server has to keep its own time limit before we give up on it
_PAUSE = 0.1  # seconds between two tries to connect
_SETTINGS = """
    set statement_timeout = {limit};
    set idle_in_transaction_session_timeout = {half};
    select set_config('synchronous_commit', 'on', false)
     where current_setting('synchronous_commit') in ('off', 'local', 'remote_write')
"""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """With an end to every wait: a server that hangs keeps its side of the line open."""

    patience = 60.0

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        return super().wait(self._bounded(gen, time.monotonic() + self.patience), *args, **kwargs)

    def _bounded(self, gen: Any, ends: float) -> Generator[Any, Any, Any]:
        """The same steps, until the time is up."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= ends:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {self.patience:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value


class Session:
    """Asks the database at `address`, one thread at a time. `timeout` bounds each answer, and the way back to a server
    that was lost, in seconds."""

    def __init__(
        self,
        address: Address,
        *,
        timeout: float,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address
        self.timeout = timeout
        self._monotonic = monotonic
        self._sleep = sleep
        self._connection: Connection | None = None
        self._turn = threading.RLock()

    def run(
        self,
        doing: str,
        work: Callable[[Connection], Result],
        *,
        again: Callable[[Connection], Result] | None = None,
        patient: bool = True,
    ) -> Result:
        """What `work` returns; what `again` does instead, where it may have been done before by a connection that broke.
        Who is not `patient` looks for a lost server once more, and not until the time is up. Raises StoreError."""
        with self._turn:
            tried = False
            until: float | None = None  # set once a connection was lost: for how long to look for the server
            while True:
                connection = self._open(doing, until)
                try:
                    return (again if again and until is not None else work)(connection)
                except psycopg.Error as error:
                    now = self._monotonic()
                    if not connection.closed:
                        if error.sqlstate in failures.AGAIN and not tried:
                            tried = True
                            continue
                        raise self._translated(error, doing) from error
                    self.close()
                    if until is not None and now >= until:
                        raise self._translated(error, doing) from error
                    until = until or now + (self.timeout if patient else 0.0)

    def _open(self, doing: str, until: float | None) -> Connection:
        """The connection, made if there is none; tried again `until` then, and as long as a server is starting."""
        starting = self._monotonic() + self.timeout
        while self._connection is None:
            try:
                self._connection = self._connected()
            except psycopg.Error as error:
                ends = until if until is not None else starting if failures.coming_up(error) else 0.0
                if self._monotonic() >= ends:
                    raise self._translated(error, doing) from error
                self._sleep(_PAUSE)
        return self._connection

    def _translated(self, error: psycopg.Error, doing: str) -> StoreError:
        return failures.translated(error, doing=doing, address=self.address)

    def _connected(self) -> Connection:
        parameters: dict[str, Any] = {
            "application_name": "reconciler",
            "connect_timeout": str(max(2, math.ceil(self.timeout))),
            **self.address.parameters,
            "client_encoding": "utf8",
        }
        connection = Connection.connect(
            **parameters,
            autocommit=True,
            prepare_threshold=None,  # what a pooler in between may not know
        )
        try:
            connection.patience = self.timeout + _GRACE
            limit = max(1, round(self.timeout * 1000))
            connection.execute(_SETTINGS.format(limit=limit, half=max(1, limit // 2)).encode())
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        with self._turn:
            if self._connection is not None:
                with suppress(psycopg.Error):
                    self._connection.close()
                self._connection = None

    def __del__(self) -> None:
        if hasattr(self, "_turn"):
            self.close()  # who forgot to: the server keeps a place for every connection
