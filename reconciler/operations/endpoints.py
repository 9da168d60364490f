"""`/metrics`, `/healthz` and `/readyz` over HTTP, for GET and HEAD alone."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from reconciler.operations.health import Health

DEFAULT_ADDRESS = "127.0.0.1:9464"

Render = Callable[[str], tuple[bytes, str]]
"""The metrics for an `Accept` header, and their content type: `Metrics.render`."""


class Endpoints:
    """Listens from its making on, in a thread of its own, until it is closed. `address` as "127.0.0.1:9464", "[::1]:9464",
    "localhost:0" or a port alone. Without `metrics`, `/metrics` is not there. Raises ReconcilerError with a hint for an
    address that cannot be listened on."""

    def __init__(
        self, address: str = DEFAULT_ADDRESS, *, health: Health, metrics: Render | None = None
    ) -> None: ...

    @property
    def address(self) -> str:
        """Where it listens indeed, "127.0.0.1:40123"."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
