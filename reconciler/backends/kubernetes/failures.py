"""What an API server's refusals mean for a sandbox, by their status, their reason and their words. Pure.

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


_OTHER_UID = re.compile(r"UID in (?:the )?precondition")  # servers say it in two ways
_HINTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"violates PodSecurity", re.IGNORECASE),
        "the namespace's pod security standard forbids that: change `security:`, or use another namespace",
    ),
    (re.compile(r"admission webhook|denied the request", re.IGNORECASE), "a policy of the cluster refuses it: ask who runs it"),
    (re.compile(r"RuntimeClass .* not found", re.IGNORECASE), "`kubectl get runtimeclass` shows which there are; or leave out `runtime`"),
    (re.compile(r"not in the valid range", re.IGNORECASE), "use a port of the cluster's range (30000 to 32767), or `host: auto`"),
    (re.compile(r"provided port is already allocated", re.IGNORECASE), "another service has that port: use `host: auto`, or free it"),
)  # fmt: skip


def failure(refusal: Refusal, *, what: str, name: str, server: str) -> BackendError:
    """`what` is the plural of the kind that was asked about, `name` the object's, "" for a listing or a creation."""
    text = " ".join(refusal.message.split()).rstrip(".") or f"HTTP {refusal.status}"
    match refusal.status:
        case 401:
            return Permanent(
                f"the API server at {server} does not accept our credentials: {text}",
                hint="log in again, or check the user of the kubeconfig's context",
            )
        case 403:
            return _forbidden(text, what)
        case 404:
            return _not_found(refusal, text, what, name, server)
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
    kind = Conflict if "port is already allocated" in text else Permanent
    return kind(text, hint=_hint(text))


def _forbidden(text: str, what: str) -> BackendError:
    if "exceeded quota" in text:
        return Transient(
            text,
            retry_after=2.0,  # what a removal gives back is counted a moment later
            hint="the namespace's quota is used up: remove something, ask for less, or raise it (`kubectl describe quota`)",
        )
    hint = _hint(text)
    if hint or "cannot" not in text:
        return Permanent(text, hint=hint)
    return Permanent(text, hint=f"ask for a Role that allows it on {what}: docs/backends.md has one")


def _not_found(refusal: Refusal, text: str, what: str, name: str, server: str) -> BackendError:
    """Absence counts only for that very object: a path that is not there, or a proxy's page, is not its absence."""
    if refusal.reason == "NotFound" and refusal.about and (refusal.about == name or not name):
        return NotFound(text)
    if what == "sandboxes":
        return Permanent(
            f"the cluster at {server} knows no agents.x-k8s.io/v1beta1: {text}",
            hint="install agent-sandbox (https://agent-sandbox.sigs.k8s.io), or use `api: pod`",
        )
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


def _hint(text: str) -> str:
    return next((hint for pattern, hint in _HINTS if pattern.search(text)), "")
