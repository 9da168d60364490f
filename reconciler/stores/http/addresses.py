"""Which method goes to which URL, and how a URL is shown. Must never show what may hold a credential: user, query."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit, urlunsplit

from msgspec import Struct

from reconciler.errors import ConfigError

_METHOD = re.compile(r"[A-Z]{1,20}", re.ASCII)
_TYPED = re.compile(r"[!-~]+", re.ASCII)


class Addresses(Struct, frozen=True, kw_only=True):
    """Where the state is read and written, locked and unlocked, and by which methods."""

    state: str
    lock: str
    unlock: str
    update_method: str
    lock_method: str
    unlock_method: str

    def written_under(self, lock_id: str) -> str:
        """The address of a write by the holder of this lock."""
        parts = urlsplit(self.state)
        query = f"{parts.query}&" if parts.query else ""
        return urlunsplit(parts._replace(query=f"{query}ID={quote(lock_id, safe='')}"))


def addresses(
    *, url: str, lock_url: str, unlock_url: str, lock_method: str, unlock_method: str, update_method: str
) -> Addresses:
    """ "" takes the default: what is not said of the lock is as Terraform does it, at the address of the state itself.
    Raises ConfigError."""
    made = Addresses(
        state=_checked("url", url),
        lock=_checked("lock_url", lock_url or url),
        unlock=_checked("unlock_url", unlock_url or lock_url or url),
        update_method=_method("update_method", update_method or "POST"),
        lock_method=_method("lock_method", lock_method or "LOCK"),
        unlock_method=_method("unlock_method", unlock_method or "UNLOCK"),
    )
    if (made.lock, made.lock_method) == (made.state, made.update_method):
        raise ConfigError(
            f"state: taking the lock would overwrite the state: both are {made.lock_method} to one address",
            hint="give `lock_url`; GitLab's is the `url` with `/lock` at its end",
        )
    if made.unlock == made.state and made.unlock_method in (made.update_method, "DELETE", "PUT"):
        raise ConfigError(
            f"state: giving the lock back would be {made.unlock_method} to the address of the state itself",
            hint="give `lock_url`; GitLab's is the `url` with `/lock` at its end",
        )
    return made


def shown(url: str) -> str:
    """Scheme, host, port and path."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that is none"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _checked(option: str, url: object) -> str:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        port_is_one = parts.port is None or 0 < parts.port < 65536
    except ValueError:
        port_is_one = False
        parts = urlsplit("")
    whole = isinstance(url, str) and _TYPED.fullmatch(url) is not None
    if not whole or parts.scheme not in ("http", "https") or not parts.hostname or not port_is_one:
        raise ConfigError(
            f"state: `{option}` is no URL", hint="write one such as https://states.example.com/research"
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"state: `{option}` holds a user or a password, which would be written in clear",
            hint="use `username` and `password: {env: NAME}`, or RECONCILER_HTTP_USERNAME and RECONCILER_HTTP_PASSWORD",
        )
    assert isinstance(url, str)
    return url.partition("#")[0]


def _method(option: str, method: object) -> str:
    if not isinstance(method, str) or _METHOD.fullmatch(method) is None:
        raise ConfigError(
            f"state: `{option}` is no HTTP method", hint="write one in capitals, such as POST or LOCK"
        )
    return method
