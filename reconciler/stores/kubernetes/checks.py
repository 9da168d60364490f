"""What `reconciler doctor` says of a cluster that keeps a state: (what was checked, is it well, detail or fix). Raises
nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reconciler.errors import ReconcilerError, StoreError
from reconciler.model.state import State
from reconciler.stores.base import LockInfo, Version
from reconciler.stores.checks import Answer, asked, encrypted, state
from reconciler.stores.kubernetes.objects import Objects


def all_of(
    objects: Objects,
    *,
    read: Callable[[], State | None],
    history: Callable[[], Sequence[Version]],
    holder: Callable[[], LockInfo | None],
) -> list[Answer]:
    """Each check, as far as the server answers: the first failure would only be repeated by the others."""
    try:
        server = [("server", True, f"Kubernetes {objects.version()} at {objects.server}"), _private(objects)]
    except ReconcilerError as error:
        return [("server", False, f"{error.message}\n{error.hint}" if error.hint else error.message)]
    return [
        *server,
        state(read),
        asked("older versions", lambda: _kept(history())),
        asked("lock", lambda: _lock(holder())),
    ]


def encryption(clear: Callable[[], Sequence[str] | None]) -> list[Answer]:
    """Whether all that is there is encrypted; nothing where the server does not answer, which is told."""
    try:
        return [encrypted(clear() or ())]
    except StoreError:
        return []


def _kept(versions: Sequence[Version]) -> str:
    damaged = [str(version.serial) for version in versions if version.damage]
    kept = sum(not version.current for version in versions)
    return f"{kept} kept" + (f", of which cannot be read: {', '.join(damaged)}" if damaged else "")


def _private(objects: Objects) -> Answer:
    what = "connection is private"
    scheme, _, host = objects.server.partition("://")
    if scheme == "https":
        return what, True, "TLS"
    if host.startswith(("127.0.0.1", "localhost", "[::1]")):
        return what, True, "within this machine"
    return (
        what,
        False,
        "state and credentials cross the network in clear\nlet the kubeconfig's `server:` begin with https://",
    )


def _lock(info: LockInfo | None) -> str:
    return "free" if info is None else f"held by {info.holder}"
