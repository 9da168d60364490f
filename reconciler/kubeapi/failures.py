"""What an API server's refusals mean whatever they are about, by their status, their reason and their words. Pure.

A text that is not known here is passed on as it is.
"""

from __future__ import annotations

import re

from msgspec import Struct

from reconciler.errors import BackendError, Conflict, NotFound, Permanent, Transient, Unavailable


class Exists(Conflict):
    """The name is taken: by whom, a look says."""


class Refusal(Struct, frozen=True, kw_only=True):
    """An answer that is an error. `about` is the name of the object that it says it is about, `kind` the plural of its kind,
    as the server names them; "" where it does not. `retry_after` in seconds."""

    status: int
    reason: str = ""
    message: str = ""
    kind: str = ""
    about: str = ""
    retry_after: float | None = None

    @property
    def text(self) -> str:
        return " ".join(self.message.split()).rstrip(".") or f"HTTP {self.status}"


_OTHER_UID = re.compile(r"UID in (?:the )?precondition")  # servers say it in two ways


def failure(refusal: Refusal, *, what: str, name: str, server: str, hint: str, roles: str) -> BackendError:
    """`what` is the plural of the kind that was asked about, `name` the object's, "" for a listing or a creation. `hint` is
    what is known of this refusal beyond its status, `roles` the page of the documentation that has a Role."""
    text = refusal.text
    match refusal.status:
        case 401:
            return Permanent(
                f"the API server at {server} does not accept our credentials: {text}",
                hint="log in again, or check the user of the kubeconfig's context",
            )
        case 403:
            return _forbidden(text, what, hint, roles)
        case 404:
            return _not_found(refusal, text, name, server)
        case 409:
            return _conflict(refusal, text)
        case 429:
            return Transient(f"the API server at {server} is busy: {text}", retry_after=refusal.retry_after)
        case status if status >= 500:
            return Transient(
                f"the API server at {server} failed: {text}",
                retry_after=refusal.retry_after,
                hint="a webhook that does not answer may be the reason" if "webhook" in text else "",
            )
    return Permanent(text, hint=hint)


def _forbidden(text: str, what: str, hint: str, roles: str) -> BackendError:
    if "exceeded quota" in text:
        return Transient(
            text,
            retry_after=2.0,  # what a removal gives back is counted a moment later
            hint="the namespace's quota is used up: remove something, ask for less, or raise it (`kubectl describe quota`)",
        )
    if hint or "cannot" not in text:
        return Permanent(text, hint=hint)
    return Permanent(text, hint=f"ask for a Role that allows it on {what}: {roles} has one")


def _not_found(refusal: Refusal, text: str, name: str, server: str) -> BackendError:
    """Absence counts only for that very object: a path that is not there, or a proxy's page, is not its absence."""
    if refusal.reason == "NotFound" and refusal.about and (refusal.about == name or not name):
        return NotFound(text)
    return Unavailable(
        f"the server at {server} gave a 404 that is about no object: {text}",
        hint="is that an API server? the kubeconfig's `server:` says where it is",
    )


def _conflict(refusal: Refusal, text: str) -> BackendError:
    if refusal.reason == "AlreadyExists":
        return Exists(text)
    if _OTHER_UID.search(text):
        return Conflict(text)  # another object has that name by now
    if "object has been modified" in text or "Operation cannot be fulfilled" in text:
        return Transient(text, retry_after=0.1)
    return Conflict(text)
