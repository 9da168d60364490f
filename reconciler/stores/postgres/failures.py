"""What psycopg and the server say, in our words: a StoreError with the reason and the next step.

Must never let a password out: whatever is quoted has gone through `Address.scrub`.
"""

from __future__ import annotations

import re

import psycopg

from reconciler.errors import StoreError
from reconciler.stores.postgres.address import Address

STARTING = "57P03"
AGAIN = (
    "40001",
    "40P01",
)  # serialization failure, deadlock: nothing happened, and it may go well the next time

_GRANT = "grant it: USAGE on the schema, SELECT, INSERT, UPDATE and DELETE on its tables, and for the very first use CREATE"
_PRIMARY = (
    "a replica is for reading: let the URL lead to the primary (with several hosts in it, "
    "`target_session_attrs=read-write` finds that)"
)
_SERVER_DOWN = "is the server running there? check host and port of the URL"
_WHO = "check user and password of the URL, and pg_hba.conf of the server"

_BY_STATE = {
    "25006": ("it is read-only", _PRIMARY),
    "28000": ("", _WHO),
    "28P01": ("", _WHO),
    "3D000": ("", "create the database, or correct its name in the URL"),
    "42501": ("", _GRANT),
    "42P01": ("", "its tables are not complete: restore them, or choose another `table` or `schema`"),
    "53100": ("", "free some space on the server, then run it again"),
    "53300": ("", "wait for others to end, or raise max_connections of the server"),
    "55P03": ("it waited too long for another session's lock", "look at pg_stat_activity for who holds it"),
    "57014": ("it did not answer in time", "look at its load, or raise `timeout`"),
    STARTING: ("", "wait until the server is up, then run it again"),
}  # fmt: skip
# Of a connection that never came about nothing is known but libpq's text.
_BY_TEXT = (
    (r"password authentication failed|no password supplied|authentication failed", _WHO),
    (r'role ".*" (does not exist|is not permitted)', _WHO),
    (r"no pg_hba\.conf entry|pg_hba\.conf rejects", "let this host in with a line of pg_hba.conf on the server"),
    (r'database ".*" does not exist', _BY_STATE["3D000"][1]),
    (r"permission denied for database", "grant CONNECT on the database to the user of the URL"),
    (r"not support SSL|certificate|SSL|sslmode", "check `sslmode` and `sslrootcert` of the URL against what the server has"),
    (r"resolve|translate host name|Name or service not known", "check the host of the URL, and the name servers"),
    (r"session is (not )?read-only|server is (not )?in hot standby", _BY_STATE["25006"][1]),
    (r"too many (clients|connections)|remaining connection slots", _BY_STATE["53300"][1]),
    (r"starting up|shutting down|recovery mode", _BY_STATE[STARTING][1]),
    (r"timeout expired|timed out|no answer", "is there a firewall in between? raise `timeout` if the server is only slow"),
)  # fmt: skip
_PREFIX = re.compile(
    r"^(connection failed: |connection is bad: |consuming input failed: |sending query failed: )*"
    r"(connection to server (at|on) .*? failed: )?(FATAL: +|ERROR: +)?"
)
_COMING_UP = re.compile(r"the database system is (starting up|not yet accepting|in recovery mode)")


def reason(error: psycopg.Error) -> str:
    """The first line of what was said, without what libpq puts before it."""
    said = error.diag.message_primary or (str(error).strip() or type(error).__name__).splitlines()[0]
    return _PREFIX.sub("", said).strip().rstrip(".")


def coming_up(error: psycopg.Error) -> bool:
    """Whether the server only needs a moment."""
    return error.sqlstate == STARTING or _COMING_UP.search(str(error)) is not None


def translated(error: psycopg.Error, *, doing: str, address: Address) -> StoreError:
    """What to raise instead: "cannot read postgresql://…: permission denied for schema ops"."""
    said, hint = reason(error), ""
    if error.sqlstate in _BY_STATE:
        instead, hint = _BY_STATE[error.sqlstate]
        said = instead or said
    else:
        found = (then for pattern, then in _BY_TEXT if re.search(pattern, str(error), re.IGNORECASE))
        hint = next(found, _SERVER_DOWN if isinstance(error, psycopg.OperationalError) else "")
    return StoreError(f"cannot {doing} {address.shown}: {address.scrub(said)}", hint=hint)
