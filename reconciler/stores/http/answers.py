"""What a status means that is not the one that was hoped for: a StoreError with the next step."""

from __future__ import annotations

from reconciler.errors import StoreError
from reconciler.stores.http.addresses import shown
from reconciler.stores.http.credentials import PASSWORD, TOKEN, USERNAME
from reconciler.stores.http.wire import Answer, Wire

DONE = frozenset({200, 201, 202, 204})
TAKEN = frozenset({409, 423})

_GITLAB = "GitLab wants `lock_url` (the `url` with `/lock`), `lock_method: POST` and `unlock_method: DELETE`"


def refused(answer: Answer, *, doing: str, url: str, wire: Wire) -> StoreError:
    """`doing` is what was asked for: "read the state"."""
    where = shown(url)
    told, hint = _meaning(answer, wire)
    return StoreError(f"cannot {doing} at {where}: {told}", hint=hint)


def web_page(*, doing: str, url: str) -> StoreError:
    """For a 200 that is a page for people."""
    return StoreError(
        f"cannot {doing} at {shown(url)}: it answers with a web page, probably to log in",
        hint=f"look at the address and the credentials ({TOKEN}, or {USERNAME} and {PASSWORD})",
    )


def _meaning(answer: Answer, wire: Wire) -> tuple[str, str]:
    """What it says, and the next step."""
    used = wire.credentials.kind
    match answer.status:
        case status if 300 <= status < 400:
            target = answer.headers.get("location", "")
            to = f" to {shown(target)}" if "://" in target else ""
            return (
                f"it redirects{to} (HTTP {status}), and redirects are not followed: they carry credentials elsewhere",
                "write the address that it is, with https where that is meant",
            )
        case 401:
            how = f"set {TOKEN}, or {USERNAME} and {PASSWORD}, or `token` or `username` and `password` under `state`"
            return f"it does not accept {used} (HTTP 401)", how
        case 403:
            return (
                f"{used} may not do that (HTTP 403)",
                "give it the right to; GitLab wants the role Developer to read, Maintainer to write and lock",
            )
        case 404:
            return (
                "there is nothing at that address (HTTP 404)",
                f"look at the address and the rights; {_GITLAB}",
            )
        case 400 | 405 | 501:
            return f"it does not know that request (HTTP {answer.status})", f"look at the methods; {_GITLAB}"
        case 409 | 423:
            return (
                f"it says that somebody else holds the lock (HTTP {answer.status})",
                "`reconciler lock show` tells who does",
            )
        case 413:
            return "the state is too large for it (HTTP 413)", "raise the server's limit, or split the stack"
        case 429:
            return _busy(answer, wire)
        case status if status >= 500:
            return f"the server has trouble (HTTP {status})", "look at the server, then run it again"
        case status:
            return f"it answers with HTTP {status}", "look what is at that address"


def _busy(answer: Answer, wire: Wire) -> tuple[str, str]:
    asked = answer.retry_after(wire.pace.now())
    wait = "" if asked is None else f", and asks to wait {asked:.0f} s"
    return f"it is asked too often (HTTP 429{wait})", "wait that long, then run it again"
