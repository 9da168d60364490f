"""What `reconciler doctor` says of a database: (what was checked, is it well, detail or fix). Raises nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reconciler.errors import StoreError
from reconciler.model.state import State
from reconciler.stores.base import LockInfo, Version
from reconciler.stores.checks import Answer, asked, encrypted, state, told
from reconciler.stores.postgres.layout import Tables, encoding_problem
from reconciler.stores.postgres.sealed import in_clear
from reconciler.stores.postgres.session import Connection, Session


def all_of(
    session: Session,
    tables: Tables,
    *,
    read: Callable[[], State | None],
    history: Callable[[], Sequence[Version]],
    holder: Callable[[], LockInfo | None],
) -> list[Answer]:
    """Each check, as far as the server answers: the first failure would only be repeated by the others."""
    try:
        found = session.run("reach", _server)
        found += session.run("look at the tables in", lambda connection: [_tables(connection, tables)])
    except StoreError as error:
        return [("server", False, told(error))]
    return [
        *found,
        state(read),
        asked("older versions", lambda: f"{len([v for v in history() if not v.current])} kept"),
        asked("lock", lambda: _lock(holder())),
    ]


def encryption(session: Session, tables: Tables, stack: str) -> list[Answer]:
    """Whether all that is there of the stack is encrypted; nothing where the server does not answer, which is told."""

    def work(connection: Connection) -> Sequence[str]:
        return in_clear(connection, tables, stack) if tables.version(connection) is not None else ()

    try:
        return [encrypted(session.run("look at the tables in", work))]
    except StoreError:
        return []


def _server(connection: Connection) -> list[Answer]:
    row = connection.execute(
        """select current_setting('server_version'), pg_is_in_recovery(), current_setting('transaction_read_only'),
                current_setting('fsync'), current_setting('full_page_writes')"""
    ).fetchone()
    assert row is not None
    version, replica, read_only, fsync, whole_pages = row
    server = f"PostgreSQL {version.split()[0]}"
    if replica:
        server += ", a replica: it can be read only\nlet the URL lead to the primary"
    elif read_only == "on":
        server += ", read-only\nlet the URL lead to the primary, and look at default_transaction_read_only"
    problem = encoding_problem(connection)
    return [
        ("server", not replica and read_only == "off", server),
        (
            "encoding",
            not problem,
            f"{problem}\ncreate a database with `encoding 'UTF8'`" if problem else "UTF8",
        ),
        _durable(fsync, whole_pages),
        _private(connection),
    ]


def _durable(fsync: str, whole_pages: str) -> Answer:
    off = [name for name, value in (("fsync", fsync), ("full_page_writes", whole_pages)) if value == "off"]
    if off:
        named = " and ".join(off)
        return "durability", False, f"{named} off: a crash of the server may lose the state\nturn {named} on"
    return "durability", True, "the server syncs what it commits"


def _private(connection: Connection) -> Answer:
    what, info = "connection is private", connection.info
    if info.host.startswith(("/", "@")) or info.hostaddr in ("127.0.0.1", "::1"):
        return what, True, "within this machine"
    if connection.pgconn.ssl_in_use:
        return what, True, "TLS"
    fix = "add `sslmode=verify-full` to the URL, or at least `sslmode=require`"
    return what, False, f"state and password cross the network in clear\n{fix}"


def _tables(connection: Connection, tables: Tables) -> Answer:
    version = tables.version(connection)
    if version is not None:
        return "tables", True, f"{tables.name('…')}, layout {version}"
    row = connection.execute(
        """select case when to_regnamespace(quote_ident(%(schema)s)) is null
            then has_database_privilege(current_database(), 'create')
            else has_schema_privilege(quote_ident(%(schema)s), 'create') end""",
        {"schema": tables.schema},
    ).fetchone()
    if row is not None and row[0]:
        return "tables", True, f"{tables.name('…')} will be created"
    return "tables", False, f"{tables.name('…')} cannot be created: {_MAY_NOT}"


_MAY_NOT = "permission denied\ngrant CREATE to the user of the URL, or let one who may apply first"


def _lock(info: LockInfo | None) -> str:
    return "free" if info is None else f"held by {info.holder}"
