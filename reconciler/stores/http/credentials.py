"""How we introduce ourselves: a bearer token, or user and password, from the configuration or the environment.

Must never let a value into a message. What could end a header line is refused here, because http.client would quote it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from msgspec import Struct

from reconciler.errors import ConfigError
from reconciler.model.desired import Secret

TOKEN = "RECONCILER_HTTP_TOKEN"  # noqa: S105 - names of variables
USERNAME = "RECONCILER_HTTP_USERNAME"
PASSWORD = "RECONCILER_HTTP_PASSWORD"  # noqa: S105
_PRINTABLE = re.compile(r"[ -~]+", re.ASCII)


class Credentials(Struct, frozen=True, kw_only=True):
    """`header` is the value of Authorization, None without any; `kind` says for people what it is."""

    header: Secret | None
    kind: str


def credentials(
    *, token: Secret | None, username: str, password: Secret | None, environ: Mapping[str, str]
) -> Credentials:
    """What the configuration says, and only where it says nothing, what the environment does. Raises ConfigError."""
    if token is not None and (username or password is not None):
        raise ConfigError(
            "state: `token` and `username` with `password` are two ways to say who asks",
            hint="keep one of them",
        )
    if token is None and password is None and not username and environ.get(TOKEN):
        token = Secret(environ[TOKEN])
        if environ.get(PASSWORD):
            raise ConfigError(
                f"both {TOKEN} and {PASSWORD} are set: two ways to say who asks", hint="unset one of them"
            )
    if token is not None:
        return Credentials(
            header=Secret(f"Bearer {_plain('token', token.reveal().strip())}"), kind="the bearer token"
        )
    username = username or environ.get(USERNAME, "")
    if password is None and environ.get(PASSWORD):
        password = Secret(environ[PASSWORD])
    if not username and password is None:
        return Credentials(header=None, kind="no credentials")
    if not username or ":" in username:
        raise ConfigError(
            "state: a password needs a `username` beside it, without a colon",
            hint=f"set `username` or {USERNAME}; GitLab takes your user name, and `gitlab-ci-token` in a job",
        )
    if password is None:
        raise ConfigError(
            "state: a user name needs a `password` beside it",
            hint=f"set `password: {{env: NAME}}` or {PASSWORD}; GitLab takes an access token there",
        )
    pair = f"{username}:{password.reveal()}".encode()
    return Credentials(
        header=Secret(f"Basic {base64.b64encode(pair).decode()}"), kind=f"the password of {username}"
    )


def _plain(what: str, value: str) -> str:
    if _PRINTABLE.fullmatch(value) is None:
        raise ConfigError(
            f"state: the {what} is empty, or holds characters that no header may",
            hint="look where it comes from",
        )
    return value
