"""Events as Prometheus metrics, in a registry of their own. The library is imported when the first object is made."""

from __future__ import annotations

from reconciler.model.watching import WatchEvent


class Metrics:
    """Raises ReconcilerError when `prometheus_client` is not installed."""

    def __init__(self, *, stack: str, version: str) -> None: ...

    def __call__(self, event: WatchEvent) -> None: ...

    def notified(self, outcome: str) -> None:
        """One notification came to its end; what `Notifier` calls as `counted`."""

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics in the format that an `Accept` header asks for, and its content type. For any thread."""
        raise NotImplementedError
