"""Where the database is: what libpq takes, checked, and shown without its password.

Must never put any part of what was given into a message before it is certain which part is the password: one with a
bare `@` or `/` in it would end up in the host's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from reconciler.errors import ConfigError

MASK = "***"
_SECRET = ("password", "sslpassword")
_SHAPE = (
    "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with `@`, `/`, `:`, `%`, `?` and `#` in the password as %40, "
    "%2F, %3A, %25, %3F and %23"
)
_HOST = re.compile(r"@?[^@]*")  # an abstract socket begins with @
_PORTS = re.compile(r"[0-9]{0,5}(,[0-9]{0,5})*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`parameters` are libpq's, for the connection alone; `shown` is for people."""

    parameters: Mapping[str, str] = field(repr=False)
    shown: str

    def scrub(self, text: str) -> str:
        """The text without the password, should any message ever repeat it."""
        for name in _SECRET:
            secret = self.parameters.get(name)
            if secret:
                text = text.replace(secret, MASK).replace(quote(secret, safe=""), MASK)
        return text


def parse(url: str) -> Address:
    """From a URL or libpq's `key=value` words. Raises ConfigError, which quotes nothing of it."""
    if not url.strip():
        raise ConfigError("state: the `url` of store 'postgres' is empty", hint=_SHAPE)
    try:
        found = {name: str(value) for name, value in conninfo_to_dict(url.strip()).items()}
    except psycopg.Error:
        raise _unreadable() from None  # its message quotes what it could not read
    well = (
        all(_HOST.fullmatch(host) for host in found.get("host", "").split(","))
        and _PORTS.fullmatch(found.get("port", ""))
        and "@" not in found.get("dbname", "")
    )
    if not well:
        raise _unreadable()
    return Address(parameters=found, shown=_shown(found))


def _unreadable() -> ConfigError:
    return ConfigError("state: the `url` of store 'postgres' is no connection URL", hint=_SHAPE)


def _shown(parameters: Mapping[str, str]) -> str:
    user, host = parameters.get("user", ""), parameters.get("host", "")
    who = quote(user, safe="") + (f":{MASK}" if "password" in parameters else "")
    at = f"{who}@" if who else ""
    database = quote(parameters.get("dbname", ""), safe="")
    if host.startswith(("/", "@")):
        port = f":{parameters['port']}" if parameters.get("port") else ""
        return f"postgresql://{at}{port}/{database}?host={quote(host, safe='/@,')}"
    return f"postgresql://{at}{_hosts(host, parameters.get('port', ''))}/{database}"


def _hosts(hosts: str, ports: str) -> str:
    """`a:1,b:2`; one port is for all of them."""
    names, numbers = hosts.split(","), ports.split(",")
    if len(numbers) != len(names):
        numbers = numbers[:1] * len(names)
    return ",".join(
        (f"[{name}]" if ":" in name else quote(name, safe="")) + (f":{number}" if number else "")
        for name, number in zip(names, numbers, strict=True)
    )
