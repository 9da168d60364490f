"""One look at every backend that matters, side by side. Changes nothing, and says what it could not see."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace

from reconciler.backends.base import SandboxBackend
from reconciler.errors import BackendError
from reconciler.model.observed import Observed, ObservedSandbox

LOOK_TIMEOUT = 60.0  # seconds for one backend's listing


def look(backends: Mapping[str, SandboxBackend], *, timeout: float = LOOK_TIMEOUT) -> Observed:
    """One `observe` call per backend. A failure lands in `failures`, never in an empty listing."""
    sandboxes: dict[str, list[ObservedSandbox]] = {}
    failures: dict[str, str] = {}

    def observe(name: str, backend: SandboxBackend) -> None:
        try:
            sandboxes[name] = [replace(seen, backend=name) for seen in backend.observe()]
        except BackendError as error:
            failures[name] = error.message + (f" ({error.hint})" if error.hint else "")
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


def _unanswered(
    backends: Mapping[str, SandboxBackend],
    sandboxes: Mapping[str, object],
    failures: Mapping[str, object],
) -> Iterable[str]:
    return [name for name in backends if name not in sandboxes and name not in failures]
