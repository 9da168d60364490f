"""One look at every backend that matters, side by side. Changes nothing, and says what it could not see."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from reconciler.backends.base import SandboxBackend
from reconciler.errors import BackendError, ConfigError
from reconciler.model.observed import Observed, ObservedSandbox

LOOK_TIMEOUT = 60.0  # seconds for one backend's listing

Closer = Callable[[str, Sequence[ObservedSandbox]], Collection[str]]
"""(backend's name, its listing) to the ids in it that the listing does not show well enough."""


def look(
    backends: Mapping[str, SandboxBackend],
    *,
    unlabelled: Mapping[str, Collection[str]] | None = None,
    closer: Closer | None = None,
    timeout: float = LOOK_TIMEOUT,
) -> Observed:
    """One `observe` call per backend. A failure lands in `failures`, never in an empty listing.

    `unlabelled` are ids by backend that a listing need not show, because they carry no labels of ours: each is looked
    at by name, unless the listing shows it labelled. `closer` chooses more of the listing to be looked at. All of them
    are one call more, and none where there are none; what is not found any more is gone. `timeout` in seconds bounds
    all of one backend.
    """
    sandboxes: dict[str, list[ObservedSandbox]] = {}
    failures: dict[str, str] = {}

    def observe(name: str, backend: SandboxBackend) -> None:
        try:
            listed = [replace(seen, backend=name) for seen in backend.observe()]
            ids = closer(name, listed) if closer is not None else ()
            found = _with_closer_looks(backend, listed, (unlabelled or {}).get(name, ()), ids)
            sandboxes[name] = [
                seen if seen.backend == name else replace(seen, backend=name) for seen in found
            ]
        except (BackendError, ConfigError) as error:
            failures[name] = error.message + (f"; {error.hint}" if error.hint else "")
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything; unseen is not absent
            failures[name] = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=observe, args=item, daemon=True) for item in backends.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    for name in _unanswered(backends, sandboxes, failures):
        failures[name] = f"no answer to the listing within {timeout:g}s"
    found = (seen for name in sorted(sandboxes) for seen in sandboxes[name])
    return Observed(sandboxes=tuple(found), failures=dict(sorted(failures.items())))


def _with_closer_looks(
    backend: SandboxBackend,
    listed: Sequence[ObservedSandbox],
    unlabelled: Collection[str],
    listed_ids: Collection[str],
) -> Sequence[ObservedSandbox]:
    """The listing, with these ids as a look at each shows them; an object that both show counts once."""
    kept = {seen.info.sandbox_id for seen in listed if seen.owner is not None} - set(listed_ids)
    asked = sorted({*unlabelled, *listed_ids} - kept)
    if not asked:
        return listed
    looks = {seen.info.sandbox_id: seen for seen in backend.look_closely(asked)}
    judged = (looks.keys() | set(asked)) - kept  # one that was listed and is not found any more is gone
    found = [seen for seen in listed if seen.info.sandbox_id not in judged]
    return [*found, *(seen for name, seen in sorted(looks.items()) if name in judged)]


def _unanswered(
    backends: Mapping[str, SandboxBackend],
    sandboxes: Mapping[str, object],
    failures: Mapping[str, object],
) -> Iterable[str]:
    return [name for name in backends if name not in sandboxes and name not in failures]
