"""What `reconciler doctor` says of a server that keeps a state: (what was checked, is it well, detail or fix). Raises
nothing."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from reconciler.errors import StoreError
from reconciler.stores import keys
from reconciler.stores.checks import Answer, encrypted, told
from reconciler.stores.http import document
from reconciler.stores.http.lock import HttpLock
from reconciler.stores.http.standing import Place
from reconciler.transport.proxies import goes_direct


def lock(kept: HttpLock) -> Answer:
    """Takes the lock for a moment, if it is free, to see whether a second taking is refused."""
    try:
        held = kept.look()
        if held is not None:
            return "lock", True, f"held by {held.holder}"
        if kept.excludes():
            return "lock", True, "free"
    except StoreError as error:
        return "lock", False, told(error)
    return "lock", False, "the server gives it to two at once: use one that keeps locks"


def encryption(place: Place) -> list[Answer]:
    """Whether what is there is encrypted; nothing where that is not asked for."""
    if not place.sealer.seals:
        return []
    try:
        data = place.fetch()
    except StoreError:  # told by the check of the state
        return []
    return [encrypted([place.name] if data is not None and not document.is_encrypted(data) else [])]


def private(url: str, kind: str) -> Answer:
    what, parts = "connection is private", urlsplit(url)
    if parts.scheme == "https":
        return what, True, f"https, {kind}"
    if goes_direct(url):
        return what, True, f"http within this network, {kind}"
    return what, False, "state and credentials travel in clear: use an https `url`"


def key(environ: Mapping[str, str]) -> Answer:
    if environ.get(keys.KEY_VARIABLE):
        return "key of secrets", True, keys.KEY_VARIABLE
    return "key of secrets", True, f"none: set {keys.KEY_VARIABLE} before a sandbox gets secrets"
